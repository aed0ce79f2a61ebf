"""The contract of a zoo member: what a model file writes, and what it gets for free.

Shapes, here and in every model file: B batch, T time, D d_model, H heads, V vocabulary,
L layers. A member writes an annotated keyword constructor and ``forward``; everything
else below has a default that works on ``forward`` alone. How it is trained and measured
is the same for all, and stands in ``steps.py``.
"""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lmzoo.errors import UsageError
from lmzoo.metrics import LanguageModelMetrics
from lmzoo.models.steps import State, TrainingSteps, map_state

__all__ = ["LanguageModel", "State", "Window", "require_language_model"]


class Window(NamedTuple):
    """The default state: the tokens that the next prediction may see."""

    tokens: Tensor  # (B, n - window_start(n)), where n tokens were seen
    seen: int


class LanguageModel(TrainingSteps):
    """Base of every model: next-token logits, a decoding state, one training step.

    A subclass has an annotated keyword constructor whose first arguments are
    ``vocab_size`` and ``context_length``; the base keeps the arguments (JSON-plain
    values only) as ``self.arguments``, so a subclass just calls ``super().__init__()``
    and builds. ``forward(tokens (B, T)) -> logits (B, T, V)`` must be causal.

    Class attributes say what is special about a family, beside those of ``Member``:

    Attributes:
        unbounded: memory is not limited to ``context_length`` (recurrent models).
        sizes: names of integer arguments that make the model larger, in the order in
            which they are settled when models are to have equal numbers of parameters:
            all are scaled with the first, the last takes up the rest. The first has a
            number as its default; None as a default means that an argument follows
            from the others. Empty: the model cannot be sized.
    """

    sizes: ClassVar[tuple[str, ...]] = ()

    metrics: LanguageModelMetrics

    def __init__(self) -> None:
        super().__init__()
        self.metrics = LanguageModelMetrics()
        self._carried: State = None

    # ---- prediction -------------------------------------------------------------

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def window_start(self, seen: int) -> int:
        """First token that a prediction after ``seen`` tokens looks at.

        0 up to the context's edge; past it the window re-anchors by halves, so that a
        cache is rebuilt once every C/2 tokens. A function of the count alone.
        """
        if seen <= self.context_length:
            return 0
        half = max(1, self.context_length // 2)
        return -(-(seen - self.context_length) // half) * half

    def stretches(self, seen: int, end: int) -> Iterator[tuple[int, int]]:
        """(start, until): predictions up to ``until`` tokens look back to ``start``.

        They follow one another from ``seen`` to ``end``; each window is anchored once.
        """
        while seen < end:
            start, until = self.window_start(seen + 1), seen + 1
            while until < end and self.window_start(until + 1) == start:
                until += 1
            yield start, until
            seen = until

    def advance(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Feed tokens (B, T_new) after ``state``; logits (B, T_new, V), new state.

        However the input is cut into chunks, the logits after n tokens equal
        ``forward(tokens[window_start(n):n])[:, -1]``.
        """
        past, seen = (tokens[:, :0], 0) if state is None else state
        history = torch.cat([past, tokens], dim=1)
        origin = self.window_start(seen)  # history[:, 0] is token number `origin`
        end, pieces = seen + tokens.shape[1], []
        for start, until in self.stretches(seen, end):
            logits = self(history[:, start - origin : until - origin])
            pieces.append(logits[:, seen - until :])  # only the new positions
            seen = until
        keep = self.window_start(end) - origin
        return torch.cat(pieces, dim=1), Window(history[:, keep:], end)

    def step(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Logits of the next token only, (B, V), and the new state.

        ``state`` may be consumed: ``fork`` it first if it is needed again.
        """
        logits, state = self.advance(tokens, state)
        return logits[:, -1], state

    def fork(self, state: State) -> State:
        """A copy of ``state`` that shares no memory with it."""
        return map_state(Tensor.clone, state)

    # ---- inspection -------------------------------------------------------------

    def embed(self, tokens: Tensor) -> Tensor:
        """Input vectors (B, T, D) of the first embedding; ValueError without one."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                return module(tokens)
        raise ValueError(f"{type(self).__name__} has no token embedding")

    def attention_maps(self, tokens: Tensor) -> Tensor:
        """Attention weights of every layer and head, (B, L, H, T, T); rows sum to 1.

        Entry [b, l, h, t, s] is how much position t of layer l takes from position s.

        Raises:
            UsageError: the model has no attention, or does not tell it.
        """
        del tokens
        raise UsageError(
            f"{type(self).__name__} has no attention to look at; its gradients show "
            f"what it depends on: lmzoo inspect attribution or gradflow"
        )

    @classmethod
    def expected_initial_nll(cls, vocab_size: int) -> float:
        """Nats per token before training: ln V unless the class says otherwise."""
        return float(torch.tensor(vocab_size, dtype=torch.float64).log())


def require_language_model(cls: type, name: str) -> None:
    """Refuse a member of another task where next tokens are predicted.

    Raises:
        UsageError: naming it, and what it is.
    """
    if not issubclass(cls, LanguageModel):
        raise UsageError(
            f"{name} is no language model: it predicts no next token, and its figures "
            f"stand beside none of theirs"
        )
