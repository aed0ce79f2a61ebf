"""Mamba-2: the chunked form is the recurrence, and chunks change nothing."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lmzoo.models.mamba2 import Mamba2, selective_scan
from tests.counting import products

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SMALL = {"d_model": 12, "num_heads": 2, "d_head": 5, "d_state": 3}
LENGTHS = (1, 2, 7, 8, 9, 16, 23, 64, 65)

dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


def recurrence(
    values: Tensor, keys: Tensor, queries: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One position after the other, as the paper writes it."""
    outputs = []
    for t in range(values.shape[2]):
        written = keys[:, None, t, :, None] * values[:, :, t, None, :]
        state = log_decay[:, :, t, None, None].exp() * state + written
        outputs.append((queries[:, None, t, :, None] * state).sum(dim=2))
    return torch.stack(outputs, dim=2), state


def drawn(length: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Values, keys, queries, decays and a first state, all with gradients."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    decay = -torch.nn.functional.softplus(normal(2, 3, length))
    parts = (normal(2, 3, length, 5), normal(2, length, 4) / 2)
    parts += (normal(2, length, 4) / 2, decay, normal(2, 3, 4, 5))
    return tuple(part.requires_grad_() for part in parts)


@dtypes
@pytest.mark.parametrize("chunk_size", [1, 8, 64])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_chunked_form_is_the_recurrence(length, chunk_size, dtype) -> None:
    mine, theirs = drawn(length, dtype), drawn(length, dtype)
    found, last = selective_scan(*mine, chunk_size=chunk_size)
    expected, end = recurrence(*theirs)
    for y, state in ((found, last), (expected, end)):
        weights = torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)
        ((y * weights).sum() + state.sum()).backward()

    assert last is not None
    assert (found - expected).abs().max() < TOLERANCE[dtype]
    assert (last - end).abs().max() < TOLERANCE[dtype]
    for own, other in zip(mine, theirs, strict=True):
        assert own.grad is not None
        assert other.grad is not None
        assert (own.grad - other.grad).abs().max() < 3 * TOLERANCE[dtype]


def test_a_chunk_that_forgets_the_one_before_is_found() -> None:
    parts = drawn(16)
    whole, _ = selective_scan(*parts, chunk_size=8)
    second, _ = selective_scan(*(_from(part, 8) for part in parts[:4]))
    assert (whole[:, :, 8:] - second).abs().max() > 0.1


@pytest.mark.parametrize("place", [5, 8, 13])
def test_a_decay_to_nothing_begins_a_new_document(place: int) -> None:
    parts = [part.detach().clone() for part in drawn(20)]
    parts[3][:, :, place] = -80.0  # e^-80 of what was before is left
    found, last = selective_scan(*parts, chunk_size=8)
    alone, end = selective_scan(*(_from(p, place) for p in parts[:4]), chunk_size=8)

    assert last is not None
    assert end is not None
    assert (found[:, :, place:] - alone).abs().max() < 1e-10
    assert (last - end).abs().max() < 1e-10


def _from(part: Tensor, place: int) -> Tensor:
    time = 2 if part.ndim == 4 or part.shape[1] == 3 else 1
    return part.narrow(time, place, part.shape[time] - place)


def test_strong_decays_stay_finite() -> None:
    parts = [part.detach().clone() for part in drawn(40, torch.float32)]
    parts[3].fill_(-1e4)
    parts = [part.requires_grad_() for part in parts]
    y, _ = selective_scan(*parts, chunk_size=16)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in parts if p.grad is not None)


@dtypes
@pytest.mark.parametrize("chunk_size", [4, 64])
def test_chunked_is_whole(chunk_size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Mamba2(11, 8, chunk_size=chunk_size, dropout=0.2, **SMALL)
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


def test_the_size_of_a_chunk_changes_no_result() -> None:
    found = []
    for chunk_size in (1, 7, 64):
        torch.manual_seed(0)
        model = Mamba2(11, 8, chunk_size=chunk_size, **SMALL).double().eval()
        found.append(model(torch.arange(30)[None] % 11))
    assert (found[0] - found[1]).abs().max() < 1e-10
    assert (found[0] - found[2]).abs().max() < 1e-10


def test_the_state_does_not_grow() -> None:
    model = Mamba2(11, 8, **SMALL)
    for length in (1, 20):
        _, state = model.advance(torch.randint(11, (3, length)))
        assert [[part.shape for part in layer] for layer in state] == [
            [(3, 3, 12), (3, 2, 3, 5)]
        ] * 2


@pytest.mark.parametrize("length", [1, 4, 5, 8, 11])
def test_flops_are_those_that_torch_counts(length: int) -> None:
    model = Mamba2(11, 16, chunk_size=4, **SMALL)
    tokens = torch.randint(11, (3, length))
    with FlopCounterMode(display=False) as counter:
        model.loss(model(tokens), tokens).backward()

    counted = products(counter) / (3 * length)
    assert abs(model.flops_per_token(length) - counted) < 1


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="d_state must be a positive integer"):
        Mamba2(11, d_state=0)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), given 1"):
        Mamba2(11, dropout=1)
