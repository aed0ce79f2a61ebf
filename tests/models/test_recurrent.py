"""RNN, GRU, LSTM: chunks make no difference, the state is batch-first."""

import pytest
import torch
from torch import Tensor

from lmzoo.models import recurrent
from lmzoo.models.recurrent import GRU, LSTM, RNN, Recurrent

CELLS = [RNN, GRU, LSTM]
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
SMALL = {"d_model": 12, "d_hidden": 10, "num_layers": 2}

cells = pytest.mark.parametrize("cell", CELLS)


@cells
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_chunked_is_whole(cell: type[Recurrent], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = cell(11, 8, dropout=0.2, **SMALL).to(dtype).eval()
    tokens = torch.randint(11, (3, 40))
    with torch.no_grad():
        expected = model(tokens)
        for sizes in ([40], [1] * 40, [1, 9, 2, 20, 8], [33, 7]):
            state, pieces = None, []
            for chunk in tokens.split(sizes, dim=1):
                logits, state = model.advance(chunk, state)
                pieces.append(logits)
            difference = (torch.cat(pieces, dim=1) - expected).abs().max()
            assert difference < TOLERANCE[dtype]


@cells
def test_shapes(cell: type[Recurrent]) -> None:
    model = cell(11, 8, **SMALL)
    logits, state = model.advance(torch.randint(11, (3, 20)))
    assert logits.shape == (3, 20, 11)
    parts = state if isinstance(state, tuple) else (state,)
    assert [part.shape for part in parts] == [(3, 2, 10)] * (1 + (cell is LSTM))


@cells
@pytest.mark.parametrize("mixed", [True, False])
def test_a_cpu_without_bfloat16_remembers_in_float32(
    cell: type[Recurrent], mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        recurrent, "emulated", lambda device, dtype: dtype == torch.bfloat16
    )
    torch.manual_seed(0)
    model = cell(11, 8, **SMALL)
    if not mixed:
        model = model.bfloat16()
    outputs: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda _, args: outputs.append(args[0]))
    tokens = torch.randint(11, (3, 20))
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits, state = model.advance(tokens)
        pieces, carried = [], None
        for chunk in tokens.split([7, 13], dim=1):
            piece, carried = model.advance(chunk, carried)
            pieces.append(piece)
    assert logits.dtype == torch.bfloat16
    assert torch.allclose(torch.cat(pieces, dim=1), logits, atol=1e-2)
    for part in state if isinstance(state, tuple) else (state,):
        assert part.dtype == (torch.float32 if mixed else torch.bfloat16)
    logits.float().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.float()
    model.advance(tokens)
    whole, expected = outputs[0], outputs[-1]
    assert torch.equal(whole, expected.to(whole.dtype))


@cells
def test_last_output_is_the_final_state(cell: type[Recurrent]) -> None:
    model = cell(11, 8, **SMALL).eval()
    outputs: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda _, args: outputs.append(args[0]))
    _, state = model.advance(torch.randint(11, (3, 7)))
    hidden = state[0] if cell is LSTM else state
    assert torch.equal(outputs[0][:, -1], hidden[:, -1])


@cells
def test_causality_is_bit_exact(cell: type[Recurrent]) -> None:
    model = cell(11, 8, **SMALL).eval()
    tokens = torch.randint(11, (2, 20))
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 11
    with torch.no_grad():
        assert torch.equal(model(tokens)[:, :9], model(changed)[:, :9])


def test_a_layer_of_the_course_notebook_has_180_parameters() -> None:
    model = GRU(256, d_model=5, d_hidden=5, tie_embeddings=True)
    layer = sum(p.numel() for p in model.recurrent.parameters())
    assert layer == 180
    assert sum(p.numel() for p in model.parameters()) == 1280 + 180 + 256


@cells
@pytest.mark.parametrize("tie", [False, True])
def test_starts_near_uniform(cell: type[Recurrent], tie: bool) -> None:
    torch.manual_seed(0)
    model = cell(65, tie_embeddings=tie)
    tokens = torch.randint(65, (8, 65))
    loss = model.loss(model(tokens[:, :-1]), tokens[:, 1:]).item()
    assert abs(loss - model.expected_initial_nll()) < 0.1


def test_tied_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"expected 12 \(d_model\), given 10"):
        LSTM(11, tie_embeddings=True, **SMALL)


def test_flops_count_every_weight_of_a_product() -> None:
    model = LSTM(11, d_model=12, d_hidden=10, num_layers=1)
    assert model.flops_per_token(64) == 6 * (4 * (12 * 10 + 10 * 10) + 10 * 11)


@cells
def test_mistakes_are_named(cell: type[Recurrent]) -> None:
    with pytest.raises(
        ValueError, match="d_hidden must be a positive integer, given 0"
    ):
        cell(11, d_hidden=0)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), given -0.1"):
        cell(11, dropout=-0.1)
