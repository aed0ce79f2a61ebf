"""minGRU: the scan is the recurrence, its gradient too, and chunks change nothing."""

import pytest
import torch
from torch import Tensor

from lmzoo.models.mingru import LinearScan, MinGRU, linear_scan, pairwise_scan

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SMALL = {"d_model": 12, "d_hidden": 10, "num_layers": 2}
LENGTHS = (1, 2, 3, 4, 7, 16, 17, 63, 64, 65, 100)

dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


def recurrence(decay: Tensor, inputs: Tensor, h: Tensor) -> Tensor:
    """One position after the other."""
    found = []
    for a, b in zip(decay.unbind(1), inputs.unbind(1), strict=True):
        h = a * h + b
        found.append(h)
    return torch.stack(found, dim=1)


def drawn(length: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Decays, inputs and a first state; what needs a gradient asks for it."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    decay = torch.sigmoid(3 * normal(2, length, 5))
    parts = (decay, normal(2, length, 5), normal(2, 5))
    return tuple(part.requires_grad_() for part in parts)


@dtypes
@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_is_the_recurrence_and_so_is_its_gradient(length, dtype) -> None:
    mine, theirs = drawn(length, dtype), drawn(length, dtype)
    found, expected = linear_scan(*mine), recurrence(*theirs)
    weights = torch.linspace(-1, 1, found.numel(), dtype=dtype).view_as(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()

    assert (found - expected).abs().max() < TOLERANCE[dtype]
    for own, other in zip(mine, theirs, strict=True):
        assert own.grad is not None
        assert other.grad is not None
        assert (own.grad - other.grad).abs().max() < TOLERANCE[dtype]


def test_the_gradient_is_that_of_differences() -> None:
    assert torch.autograd.gradcheck(LinearScan.apply, drawn(11))


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    decay, inputs, initial = drawn(5)
    (grad,) = torch.autograd.grad(
        linear_scan(decay, inputs, initial).square().sum(), decay, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_scan_that_forgets_its_first_state_is_found() -> None:
    decay, inputs, initial = drawn(9)
    wrong = linear_scan(decay, inputs)
    assert (wrong - recurrence(decay, inputs, initial)).abs().max() > 0.1


@pytest.mark.parametrize("length", LENGTHS)
def test_the_sum_over_pairs_is_the_same(length: int) -> None:
    parts = [part.detach() for part in drawn(length)]
    assert (pairwise_scan(*parts) - linear_scan(*parts)).abs().max() < 1e-10


def test_a_decay_of_zero_begins_a_new_document() -> None:
    decay, inputs, initial = (part.detach().clone() for part in drawn(30))
    decay[:, 13] = 0
    found = linear_scan(decay, inputs, initial)
    alone = linear_scan(decay[:, 13:], inputs[:, 13:])
    assert (found[:, 13:] - alone).abs().max() < 1e-12
    assert torch.isfinite(found).all()


def test_extreme_gates_stay_finite() -> None:
    for value in (-1e4, 1e4):
        gate = torch.full((1, 300, 3), value, requires_grad=True)
        h = linear_scan(torch.sigmoid(-gate), torch.sigmoid(gate) * 5.0)
        h.sum().backward()
        assert torch.isfinite(h).all()
        assert gate.grad is not None
        assert torch.isfinite(gate.grad).all()


@dtypes
@pytest.mark.parametrize("kernel_size", [1, 2, 4])
def test_chunked_is_whole(kernel_size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = MinGRU(11, 8, kernel_size=kernel_size, dropout=0.2, **SMALL)
    model = model.to(dtype).eval()
    tokens = torch.randint(11, (3, 40))
    with torch.no_grad():
        expected = model(tokens)
        for sizes in ([40], [1] * 40, [1, 9, 2, 20, 8], [33, 7]):
            state, pieces = None, []
            for chunk in tokens.split(sizes, dim=1):
                logits, state = model.advance(chunk, state)
                pieces.append(logits)
            gap = (torch.cat(pieces, dim=1) - expected).abs().max()
            assert gap < TOLERANCE[dtype]


def test_the_state_does_not_grow() -> None:
    model = MinGRU(11, 8, **SMALL)
    for length in (1, 20):
        _, state = model.advance(torch.randint(11, (3, length)))
        assert [[part.shape for part in layer] for layer in state] == [
            [(3, 3, 12), (3, 10)]
        ] * 2


def test_a_carried_state_gives_its_gate_a_gradient_from_the_first_token() -> None:
    model = MinGRU(11, 8, carry_state=True, **SMALL)
    assert model.carry_state
    tokens = torch.randint(11, (2, 8))
    _, state = model.advance(tokens)
    kept = tuple(tuple(part.detach() for part in layer) for layer in state)
    after, _ = model.advance(tokens, kept)
    fresh, _ = model.advance(tokens)
    assert (after - fresh).abs().max() > 1e-4


def test_flops_count_every_weight_of_a_product() -> None:
    model = MinGRU(11, **SMALL)
    assert model.flops_per_token(64) == 6 * (2 * (12 * 30 + 10 * 12) + 12 * 11)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="d_hidden must be a positive integer"):
        MinGRU(11, d_hidden=0)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), given 1"):
        MinGRU(11, dropout=1)
