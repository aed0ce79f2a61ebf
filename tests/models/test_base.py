"""What the base gives to every model: arguments, window, state, loss, divergence."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lmzoo.errors import Diverged, UsageError
from lmzoo.models.base import LanguageModel, Window
from lmzoo.models.steps import map_state, seed_for


class Tiny(LanguageModel):
    """Sums the embeddings so far: position-sensitive, causal, forward only."""

    def __init__(self, vocab_size: int, context_length: int = 8, d_model: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).cumsum(1))


def test_arguments_are_kept_with_their_defaults() -> None:
    model = Tiny(11, d_model=6)
    assert model.arguments == {"vocab_size": 11, "context_length": 8, "d_model": 6}
    assert dict(model.hparams) == model.arguments
    assert (model.vocab_size, model.context_length) == (11, 8)
    assert copy.deepcopy(model).arguments == model.arguments


@pytest.mark.parametrize("arguments", [{"vocab_size": 0}, {"vocab_size": "x"}])
def test_sizes_are_checked(arguments: dict) -> None:
    with pytest.raises(ValueError, match="vocab_size must be a positive integer"):
        Tiny(**arguments)


@pytest.mark.parametrize("context", [1, 2, 3, 7, 8, 64])
def test_the_window_is_a_function_of_the_count_alone(context: int) -> None:
    model = Tiny(5, context_length=context)
    half = max(1, context // 2)
    for seen in range(1, 6 * context + 5):
        start = model.window_start(seen)
        if seen <= context:
            assert start == 0
        else:
            assert start % half == 0
            assert 1 <= seen - start <= context
            assert seen - (start - half) > context  # the smallest such multiple


@pytest.mark.parametrize("sizes", [[1], [2, 5], [8], [9], [40], [3, 17]])
def test_any_chunking_gives_the_windows_forward(sizes: list[int]) -> None:
    torch.manual_seed(0)
    model, text = Tiny(11), torch.randint(0, 11, (2, 40))
    expected = torch.stack(
        [model(text[:, model.window_start(n) : n])[:, -1] for n in range(1, 41)], dim=1
    )
    state, pieces, seen = None, [], 0
    for size in itertools.cycle(sizes):
        logits, state = model.advance(text[:, seen : seen + size], state)
        pieces.append(logits)
        seen += logits.shape[1]
        if seen == 40:
            break
    assert torch.equal(torch.cat(pieces, 1), expected)
    assert isinstance(state, Window)
    assert state.seen == 40


def test_fork_and_detach_keep_the_kind_and_share_nothing() -> None:
    weights = torch.ones(3, requires_grad=True)
    state = Window(weights * 2, 3)
    copied = Tiny(5).fork(state)
    assert isinstance(copied, Window)
    assert copied.tokens.data_ptr() != state.tokens.data_ptr()
    assert not map_state(Tensor.detach, (state, [state.tokens]))[1][0].requires_grad


def test_loss_ignores_what_is_not_counted_and_is_at_least_float32() -> None:
    model = Tiny(5)
    logits = torch.randn(2, 3, 5)
    targets = torch.tensor([[1, 2, -100], [-100, 0, 4]])
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert torch.allclose(model.loss(logits, targets), expected)
    assert model.loss(logits.bfloat16(), targets).dtype == torch.float32
    assert model.loss(logits.double(), targets).dtype == torch.float64


def test_a_gradient_that_is_not_finite_stops_before_the_step() -> None:
    model = Tiny(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    with pytest.raises(UsageError, match="diverged"):
        model.configure_gradient_clipping(optimizer, 1.0, "norm")
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, parameter)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_step(value: float) -> None:
    """Also where its gradient is, and in any micro-batch of the step."""
    model = Tiny(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for loss in (1.0, 2.0):  # the control
        model.on_before_backward(torch.tensor(loss))
    model.configure_gradient_clipping(optimizer, 1.0, "norm")
    for loss in (1.0, value, 2.0):
        model.on_before_backward(torch.tensor(loss))
    with pytest.raises(Diverged, match=f"the loss is {value} at step 1;"):
        model.configure_gradient_clipping(optimizer, 1.0, "norm")


@pytest.mark.parametrize("algorithm", [None, "norm", "value"])
def test_clipping(algorithm: str | None) -> None:
    model = Tiny(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    model.configure_gradient_clipping(optimizer, 1.0, algorithm)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    if algorithm == "value":
        assert max(float(g.abs().max()) for g in grads) <= 1.0
    else:
        assert float(nn.utils.get_total_norm(grads)) == pytest.approx(1.0, rel=1e-3)


def test_seeds_differ_by_position_and_rank() -> None:
    drawn = set()
    for seed, position, rank in itertools.product(range(3), range(5), range(2)):
        seed_for(seed, position, rank)
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 30


def test_a_seed_gives_what_torch_gives_for_it() -> None:
    seed_for(3, 7, 0)
    drawn = torch.rand(4)
    torch.manual_seed((3 * 0x9E3779B97F4A7C15 + 7 * 0xD1B54A32D192ED03) % 2**63)
    assert torch.equal(torch.rand(4), drawn)
    assert not torch.equal(torch.rand(4), drawn)  # the control


def test_presets_are_numbers_and_unknown_ones_name_the_known() -> None:
    with pytest.raises(UsageError, match="no preset 'big'"):
        Tiny.from_preset("big", vocab_size=3)


def test_a_gradient_scaler_may_leave_steps_out_but_not_for_ever() -> None:
    model = Tiny(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaled = SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=object()), world_size=1, global_step=0
    )
    model._trainer = scaled  # type: ignore[assignment]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    for _ in range(9):
        model.configure_gradient_clipping(optimizer, 1.0, "norm")
    with pytest.raises(UsageError, match="diverged"):
        model.configure_gradient_clipping(optimizer, 1.0, "norm")
