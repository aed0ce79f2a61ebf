"""Bare, MLP, FeedForward: exactly ``window`` tokens decide each prediction."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lmzoo.models.feedforward import MLP, Bare, FeedForward
from lmzoo.models.layers import WindowModel

MODELS = [
    Bare(11, 16),
    MLP(11, 16, num_layers=2),
    FeedForward(11, 16, window=5, d_hidden=24),
    FeedForward(11, 4, window=9, d_hidden=24),  # a window beyond the training length
    FeedForward(11, 16, window=1, d_hidden=24, tie_embeddings=True),
]
models = pytest.mark.parametrize("model", [m.eval() for m in MODELS])


@models
def test_sees_its_window_and_no_more(model: WindowModel) -> None:
    tokens = torch.randint(11, (2, 20))
    with torch.no_grad():
        logits = model(tokens)
        assert logits.shape == (2, 20, 11)
        for at in (0, 8, 19):
            changed = tokens.clone()
            changed[:, at] = (changed[:, at] + 1) % 11
            moved = (model(changed) != logits).any(dim=-1).any(dim=0)
            expected = torch.zeros(20, dtype=torch.bool)
            expected[at : at + model.window] = True
            assert torch.equal(moved, expected)


@models
@pytest.mark.parametrize("sizes", [[30], [1] * 30, [2, 1, 20, 7]])
def test_chunked_is_whole(model: WindowModel, sizes: list[int]) -> None:
    tokens = torch.randint(11, (2, 30))
    state, pieces = None, []
    with torch.no_grad():
        for chunk in tokens.split(sizes, dim=1):
            logits, state = model.advance(chunk, state)
            pieces.append(logits)
        assert state.shape == (2, model.window - 1)
        assert torch.allclose(torch.cat(pieces, dim=1), model(tokens), atol=1e-6)
        last = model(tokens[:, model.window_start(30) :])[:, -1]
        assert torch.allclose(logits[:, -1], last, atol=1e-6)


def test_a_short_prompt_is_padded() -> None:
    model = FeedForward(11, window=7, d_hidden=24)
    model(torch.tensor([[3]])).sum().backward()
    assert model.padding.grad is not None
    assert model.padding.grad.abs().sum() > 0


@models
def test_flops_agree_with_the_counter(model: WindowModel) -> None:
    tokens = torch.randint(11, (3, 9))
    with FlopCounterMode(display=False) as counter:
        model.loss(model(tokens), tokens).backward()
    assert counter.get_total_flops() == 3 * 9 * model.flops_per_token(9)


def test_sizes_of_the_course_notebook() -> None:
    def count(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    size = {"vocab_size": 256, "d_model": 5}
    assert count(Bare(**size, tie_embeddings=True, head_bias=False)) == 1280
    assert count(Bare(**size, tie_embeddings=True)) == 1536
    assert count(Bare(**size, head_bias=False)) == 2560
    mlp = MLP(**size, d_hidden=16, tie_embeddings=True, head_bias=False)
    assert count(mlp.layers) == 181
    assert count(mlp) == 1461


@pytest.mark.parametrize("cls", [Bare, MLP, FeedForward])
@pytest.mark.parametrize("tie", [False, True])
def test_starts_near_uniform(cls: type[WindowModel], tie: bool) -> None:
    torch.manual_seed(0)
    model = cls(vocab_size=65, tie_embeddings=tie)
    tokens = torch.randint(65, (8, 65))
    loss = model.loss(model(tokens[:, :-1]), tokens[:, 1:]).item()
    assert abs(loss - model.expected_initial_nll()) < 0.1


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="window must be a positive integer, given 0"):
        FeedForward(11, window=0)
    with pytest.raises(ValueError, match="num_layers must be a positive integer"):
        MLP(11, num_layers=0)
    with pytest.raises(ValueError, match="d_model must be a positive integer"):
        Bare(11, d_model=-3)
