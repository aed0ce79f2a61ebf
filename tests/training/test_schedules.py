"""Schedules are functions of the step: their shape, their state, their ranges."""

import itertools

import pytest
import torch
from torch import nn

from lmzoo.training.schedules import InverseSquareRoot, Schedule, WarmupStableDecay


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)


def rates(schedule: Schedule, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


def test_it_rises_stays_and_falls_in_a_line() -> None:
    schedule = WarmupStableDecay(
        optimizer(), 100, warmup_steps=10, decay_share=0.4, final_ratio=0.1
    )
    seen = rates(schedule, 100)
    assert seen[:10] == sorted(seen[:10])
    assert seen[0] == pytest.approx(2.0 / 11)
    assert seen[10:61] == [2.0] * 51
    assert seen[80] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    gaps = [a - b for a, b in itertools.pairwise(seen[60:])]
    assert gaps == pytest.approx([gaps[0]] * len(gaps))
    assert schedule.factor(100) == pytest.approx(0.1)


def test_the_inverse_root_is_palms_at_a_peak_of_a_hundredth() -> None:
    schedule = InverseSquareRoot(optimizer())
    assert [schedule.factor(step) for step in (0, 9_998)] == [1.0, 1.0]
    for k in (10_000, 40_000, 1_000_000):
        assert 1e-2 * schedule.factor(k - 1) == pytest.approx(1 / k**0.5)


def test_a_state_is_the_position_alone() -> None:
    first = WarmupStableDecay(optimizer(), 100, decay_share=0.5)
    rates(first, 70)
    longer = WarmupStableDecay(optimizer(), 200, decay_share=0.5)
    assert set(first.state_dict()) == {"last_epoch", "_step_count"}
    longer.load_state_dict(first.state_dict())
    assert longer.get_last_lr() == [2.0]  # not yet falling
    assert first.get_last_lr()[0] < 2.0  # the control


@pytest.mark.parametrize(
    "arguments",
    [{"total_steps": 0}, {"warmup_steps": -1}, {"decay_share": 2}, {"final_ratio": -1}],
)
def test_ranges(arguments: dict) -> None:
    with pytest.raises(ValueError, match="given"):
        WarmupStableDecay(optimizer(), **arguments)
    with pytest.raises(ValueError, match="given 0"):
        InverseSquareRoot(optimizer(), constant_steps=0)
