"""Adafactor against the algorithm written out number by number."""

import copy
import math

import pytest
import torch
from torch import nn

from lmzoo.training.adafactor import Adafactor


def rms(values: list[float]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values))


def reference(
    x: list[float],
    gradients: list[list[float]],
    lr: float,
    *,
    beta1: float = 0.9,
    decay: float = -0.8,
    clip: float = 1.0,
    weight_decay: float = 1.0,
) -> list[float]:
    """One parameter by plain Python: Shazeer & Stern's algorithm 5, unfactored."""
    x, v, m = list(x), [0.0] * len(x), [0.0] * len(x)
    for k, g in enumerate(gradients, start=1):
        beta2 = 1 - k**decay
        v = [beta2 * a + (1 - beta2) * (b * b + 1e-30) for a, b in zip(v, g)]  # noqa: B905
        u = [b / math.sqrt(a) for a, b in zip(v, g)]  # noqa: B905
        divisor = max(1.0, rms(u) / clip)
        alpha = max(1e-3, rms(x)) * lr
        m = [beta1 * a + (1 - beta1) * alpha * b / divisor for a, b in zip(m, u)]  # noqa: B905
        x = [(1 - weight_decay * lr * lr) * a - b for a, b in zip(x, m)]  # noqa: B905
    return x


def trained(
    start: torch.Tensor,
    gradients: torch.Tensor,
    lr: float,
    rows: list[int] | None = None,
    **arguments: float | None,
) -> list[float]:
    parameter = nn.Parameter(start.clone())
    stacked = {parameter: rows} if rows else None
    optimizer = Adafactor([parameter], stacked, lr=lr, **arguments)
    for gradient in gradients:
        parameter.grad = gradient.view_as(parameter)
        optimizer.step()
    return parameter.detach().flatten().tolist()


@pytest.mark.parametrize(
    "arguments",
    [{}, {"beta1": 0.0}, {"decay": -0.5}, {"clip_threshold": 0.3}, {"weight_decay": 0}],
)
@pytest.mark.parametrize("scale", [1.0, 1e-5])  # below the least scale of a parameter
def test_steps_are_the_references(arguments: dict, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=generator, dtype=torch.float64) * scale
    gradients = torch.randn(6, 12, generator=generator, dtype=torch.float64)
    gradients *= torch.tensor([1.0, 30, 0.1, 1, 1, 5])[:, None]  # some are clipped
    named = {"clip" if k == "clip_threshold" else k: v for k, v in arguments.items()}
    expected = reference(start.flatten().tolist(), gradients.tolist(), 0.05, **named)
    found = trained(start, gradients, 0.05, **arguments)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    other = trained(start, gradients, 0.06, **arguments)  # the control
    assert other != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("shape", [(6, 2), (6, 2, 2), (6,)])
def test_each_part_of_a_stack_takes_steps_of_its_own(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator, dtype=torch.float64)
    gradients = torch.randn(5, *shape, generator=generator, dtype=torch.float64)
    start[4:] *= 30
    gradients[:, :1] *= 20
    expected: list[float] = []
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        own = gradients[:, part].flatten(1).tolist()
        expected += reference(start[part].flatten().tolist(), own, 0.05)
    found = trained(start, gradients, 0.05, [1, 3, 2])
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert trained(start, gradients, 0.05) != pytest.approx(expected, rel=1e-3)


def test_without_a_threshold_no_update_is_clipped() -> None:
    start, gradients = torch.ones(4), torch.tensor([[0.1] * 4, [9.0] * 4])
    free = trained(start, gradients, 0.05, clip_threshold=None)
    expected = reference([1.0] * 4, gradients.tolist(), 0.05, clip=math.inf)
    assert free == pytest.approx(expected, rel=1e-5)
    assert free != pytest.approx(trained(start, gradients, 0.05), rel=1e-3)


def test_decay_is_the_square_of_the_present_rate() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = Adafactor([parameter], lr=0.1)
    parameter.grad = torch.zeros(4, 4)
    optimizer.step()
    assert parameter.detach() == pytest.approx((1 - 0.1**2) * torch.ones(4, 4))


def test_a_state_is_taken_back() -> None:
    first, second = (nn.Parameter(torch.ones(3)) for _ in range(2))
    one, other = Adafactor([first]), Adafactor([second])
    first.grad = torch.tensor([1.0, -2.0, 3.0])
    one.step()
    second.data.copy_(first.data)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for optimizer, parameter in ((one, first), (other, second)):
        parameter.grad = torch.tensor([0.5, 2.0, -1.0])
        optimizer.step()
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "arguments", [{"lr": 0}, {"beta1": 1}, {"decay": 0.8}, {"clip_threshold": 0}]
)
def test_ranges(arguments: dict) -> None:
    with pytest.raises(ValueError, match="given"):
        Adafactor([nn.Parameter(torch.ones(2))], **arguments)
