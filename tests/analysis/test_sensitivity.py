"""Gradients by input vectors: right, complete, and without a trace in the model."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo.analysis import sensitivity
from lmzoo.analysis.sensitivity import PADDING, Inputs, locate
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.models.convolution import Conv, ConvNoncausal
from lmzoo.models.feedforward import MLP, Bare, FeedForward
from lmzoo.models.gpt import GPT, TransformerUnmasked
from lmzoo.models.ngram import NGram
from lmzoo.models.recurrent import GRU, LSTM, RNN

V, C, T = 13, 16, 12
SMALL = {
    Bare: {"d_model": 8},
    MLP: {"d_model": 8, "d_hidden": 16},
    FeedForward: {"window": 4, "d_model": 8, "d_hidden": 16},
    RNN: {"d_model": 8, "d_hidden": 8},
    GRU: {"d_model": 8, "d_hidden": 8},
    LSTM: {"d_model": 8, "d_hidden": 8},
    Conv: {"d_model": 8, "num_layers": 2},
    ConvNoncausal: {"d_model": 8, "num_layers": 2},
    GPT: {"d_model": 8, "num_layers": 2, "num_heads": 2, "dropout": 0.2},
    TransformerUnmasked: {"d_model": 8, "num_layers": 2, "num_heads": 2},
}
SEES = {Bare: (0, 0), MLP: (0, 0), FeedForward: (3, 0), Conv: (6, 0),
        ConvNoncausal: (3, 3), TransformerUnmasked: (T, T)}  # fmt: skip


def made(cls: type[LanguageModel]) -> LanguageModel:
    torch.manual_seed(3)
    return cls(vocab_size=V, context_length=C, **SMALL[cls])


def some_tokens(rows: int = 2) -> Tensor:
    return torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(5))


def at(position: int):
    """The target's log-probability at one position, summed over the rows."""
    return lambda logits: logits[:, position].log_softmax(-1)[:, 4].sum()


class Odd(LanguageModel):
    """A position embedding first; windows of indices, looked up with a padding id."""

    def __init__(self, vocab_size: int, context_length: int = C) -> None:
        super().__init__()
        self.positions = nn.Embedding(context_length, 6)
        self.embedding = nn.Embedding(vocab_size, 6)
        self.head = nn.Linear(18, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        windows = F.pad(tokens, (2, 0)).unfold(1, 3, 1)  # (B, T, 3)
        x = self.embedding(windows).flatten(2)
        places = self.positions(torch.arange(tokens.shape[1]))
        return self.head(x + places.repeat(1, 3))


class Flat(LanguageModel):
    """Rows run together and turned round before the look-up; two token embeddings."""

    def __init__(self, vocab_size: int, context_length: int = C) -> None:
        super().__init__()
        self.one = nn.Embedding(vocab_size, 4)
        self.other = nn.Embedding(vocab_size, 3)
        self.head = nn.Linear(7, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        first = self.one(tokens.flatten().flip(0)).flip(0).view(*tokens.shape, -1)
        left = self.other(F.pad(tokens, (1, 0))[:, :-1])
        return self.head(torch.cat([first, left], dim=-1))


class Own(LanguageModel):
    """Input vectors that no nn.Embedding makes."""

    def __init__(self, vocab_size: int, context_length: int = C) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocab_size, 5))
        self.head = nn.Linear(5, vocab_size)

    def embed(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embed(tokens).cumsum(1))


class Hashed(LanguageModel):
    """Looks up something that is made of the tokens but is none of them."""

    def __init__(self, vocab_size: int, context_length: int = C) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 4)
        self.head = nn.Linear(4, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding((3 * tokens + 1) % self.vocab_size))


@pytest.mark.parametrize("cls", [*SMALL, Odd, Flat, Own])
def test_the_model_computes_the_same_and_is_left_as_it_was(cls) -> None:
    model = made(cls) if cls in SMALL else cls(vocab_size=V)
    model.train()
    model.metrics.eval()  # a part in another mode than the whole
    hooks = [len(m._forward_hooks) for m in model.modules()]
    attributes = set(model.__dict__)
    inputs = Inputs(model, some_tokens())
    found = inputs.logits(inputs.vectors)
    inputs.gradient(at(5))
    inputs.through(model.blocks(), at(5))
    assert model.training
    assert not model.metrics.training
    assert hooks == [len(m._forward_hooks) for m in model.modules()]
    assert set(model.__dict__) == attributes
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(found, model.eval()(some_tokens()))


@pytest.mark.parametrize("cls", [FeedForward, LSTM, Conv, GPT, Odd, Flat, Own])
def test_the_gradient_is_the_change_of_the_answer(cls) -> None:
    model = (made(cls) if cls in SMALL else cls(vocab_size=V)).double()
    inputs, value = Inputs(model, some_tokens(1)), at(7)
    slope = inputs.gradient(value)
    way = torch.randn(slope.shape, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        ahead, behind = (
            value(inputs.logits(inputs.vectors + h * way)) for h in (1e-5, -1e-5)
        )
    assert slope.any()
    assert float((slope * way).sum()) == pytest.approx(
        float(ahead - behind) / 2e-5, rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize("cls", list(SMALL))
def test_exactly_zero_where_the_model_cannot_see(cls) -> None:
    back, ahead = SEES.get(cls, (T, 0))
    norms = Inputs(made(cls), some_tokens()).gradient(at(7)).norm(dim=-1)
    for position in range(T):
        inside = 7 - back <= position <= 7 + ahead
        assert bool((norms[:, position] > 0).all()) is inside
        assert inside or not norms[:, position].any()


def test_several_values_of_one_pass() -> None:
    inputs = Inputs(made(GPT), some_tokens())
    each = list(inputs.gradients(lambda logits: logits.sum((0, 2))))
    assert len(each) == T
    alone = inputs.gradient(lambda logits: logits[:, 3].sum())
    assert torch.allclose(each[3], alone, atol=1e-6)
    assert not torch.allclose(each[4], alone, atol=1e-6)


def test_indices_are_traced_to_their_positions() -> None:
    (places,) = locate(Odd(V), torch.zeros(2, 3, dtype=torch.long))["embedding"]
    assert places[0].tolist() == [[PADDING, PADDING, 0], [PADDING, 0, 1], [0, 1, 2]]
    assert places[1, 2].tolist() == [3, 4, 5]
    found = locate(Flat(V), some_tokens(1))
    assert found["one"][0].tolist() == list(range(T))[::-1]
    assert found["other"][0][0].tolist() == [PADDING, *range(T - 1)]
    assert list(locate(Own(V), some_tokens())) == [sensitivity.EMBED]


def test_more_positions_than_tokens_in_the_vocabulary() -> None:
    model = Odd(2, context_length=64)
    tokens = torch.randint(2, (3, 64), generator=torch.Generator().manual_seed(0))
    (places,) = locate(model, tokens)["embedding"]
    assert torch.equal(places[:, :, 2], torch.arange(192).view(3, 64))


def test_frozen_weights_and_no_grad_do_not_matter() -> None:
    model = made(GPT).requires_grad_(False)
    with torch.no_grad():
        assert Inputs(model, some_tokens()).gradient(at(7)).any()


def test_what_has_no_gradient_says_so() -> None:
    counting = NGram(vocab_size=V)
    counting.count(some_tokens(40).flatten().numpy())
    for model in (counting, Hashed(V)):
        with pytest.raises(UsageError, match="occlusion"):
            Inputs(model, some_tokens())
    cut = Inputs(made(GPT), some_tokens())
    with pytest.raises(UsageError, match="occlusion"):
        cut.gradient(lambda logits: logits.argmax(-1).float().sum())


def test_outputs_of_blocks_and_their_gradients() -> None:
    model = made(GPT)
    found = Inputs(model, some_tokens()).through(model.blocks(), at(T - 1))
    assert list(found) == ["layers.0", "layers.1"]
    (_, early), (_, late) = found.values()
    assert early[:, :-1].any()
    # after the last block positions no longer mix: the pitfall of Grad-CAM
    assert not late[:, :-1].any()
    assert late[:, -1].any()
