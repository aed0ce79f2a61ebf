"""The schedule as a function of the step, and optimizers by class path."""

import pytest
import torch
from torch import nn

from lmzoo.errors import UsageError
from lmzoo.models.recurrent import LSTM
from lmzoo.training.optimizers import WarmupCosine, use


def rates(steps: int, **arguments) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = WarmupCosine(optimizer, total_steps=steps, **arguments)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_it_warms_up_then_falls_to_the_final_ratio() -> None:
    seen = rates(100, warmup_steps=10, final_ratio=0.1)
    assert seen[:10] == sorted(seen[:10])
    assert seen[10] == pytest.approx(2.0)
    assert seen[10:] == sorted(seen[10:], reverse=True)
    assert seen[-1] == pytest.approx(0.2, abs=0.01)
    assert seen[55] == pytest.approx(2.0 * (0.1 + 0.9 / 2))  # halfway down


def test_a_short_run_still_warms_up_and_cools_down() -> None:
    seen = rates(10, warmup_steps=60)
    assert max(seen) == pytest.approx(2.0)
    assert seen[-1] < seen[2]


def test_state_takes_the_position_and_keeps_the_new_length() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    first = WarmupCosine(optimizer, total_steps=100, warmup_steps=0)
    for _ in range(50):
        optimizer.step()
        first.step()
    longer = WarmupCosine(optimizer, total_steps=200, warmup_steps=0)
    longer.load_state_dict(first.state_dict())
    assert longer.last_epoch == 50
    assert optimizer.param_groups[0]["lr"] == pytest.approx(longer.factor(50))


def test_decay_falls_on_matrices_only() -> None:
    model = LSTM(vocab_size=7, context_length=8, d_model=4, d_hidden=4)
    use(model, {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}, None)
    optimizer = model.configure_optimizers()
    decay = {
        id(p): group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        assert (decay[id(parameter)] > 0) == (parameter.ndim >= 2), name


def test_an_optimizers_refusal_is_one_line() -> None:
    model = LSTM(vocab_size=7, context_length=8, d_model=4, d_hidden=4)
    use(model, {"class_path": "torch.optim.AdamW", "init_args": {"lr": -1.0}}, None)
    with pytest.raises(UsageError, match="learning rate"):
        model.configure_optimizers()


@pytest.mark.parametrize(
    "arguments",
    [{"total_steps": 0}, {"warmup_steps": -1}, {"final_ratio": 2.0}],
)
def test_ranges(arguments: dict) -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(ValueError, match="given"):
        WarmupCosine(optimizer, **arguments)
