"""The contract of a zoo member: what a model file writes, and what it gets for free.

Shapes, here and in every model file: B batch, T time, D d_model, H heads, V vocabulary,
L layers. A member writes an annotated keyword constructor and ``forward``; everything
else below has a default that works on ``forward`` alone. How it is trained and measured
is the same for all, and stands in ``steps.py``.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lmzoo.errors import UsageError
from lmzoo.metrics import LanguageModelMetrics
from lmzoo.models.steps import State, TrainingSteps, map_state

__all__ = ["LanguageModel", "State", "Window"]


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

    Class attributes say what is special about a family:

    Attributes:
        unbounded: memory is not limited to ``context_length`` (recurrent models).
        counting: sizes come from counting data, there are no gradients.
        pretrained: the tokenizer comes from the source of the weights.
        requires: packages that it needs beyond the core -> the extra that brings them.
        exhibit: the law that this model breaks on purpose, if it is an exhibit.
        recipe: tuned defaults as dotted command-line keys ("optimizer.lr"); they rank
            below anything that is typed or stands in a configuration file.
        presets: named sets of constructor arguments.
        sizes: names of integer arguments that make the model larger, in the order in
            which they are settled when models are to have equal numbers of parameters:
            all are scaled with the first, the last takes up the rest. The first has a
            number as its default; None as a default means that an argument follows
            from the others. Empty: the model cannot be sized.
    """

    unbounded: ClassVar[bool] = False
    counting: ClassVar[bool] = False
    pretrained: ClassVar[bool] = False
    requires: ClassVar[dict[str, str]] = {}
    exhibit: ClassVar[str | None] = None
    recipe: ClassVar[dict[str, Any]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    sizes: ClassVar[tuple[str, ...]] = ()

    vocab_size: int
    context_length: int
    window: int | None = None  # tokens that one prediction sees; None: context_length
    carry_state: bool = False  # train on contiguous rows, state kept between batches
    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Note the constructor's arguments before it runs."""
        self = super().__new__(cls)
        if args or kwargs:  # copying calls __new__ bare, and brings the arguments along
            bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
            bound.apply_defaults()
            given = dict(list(bound.arguments.items())[1:])
            object.__setattr__(self, "_captured", given)
        return self

    def __init__(self) -> None:
        super().__init__()
        self.arguments = getattr(self, "_captured", {})
        for name in ("vocab_size", "context_length"):
            value = self.arguments.get(name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, given {value!r}")
            setattr(self, name, value)
        self.save_hyperparameters(self.arguments)
        self.metrics = LanguageModelMetrics()
        self.seed = 0
        self.optimizer_factory: Callable[[list[dict[str, Any]]], Optimizer] | None = (
            None
        )
        self.scheduler_factory: Callable[[Optimizer, int], Any] | None = None
        self.grad_norm: Tensor | None = None
        self._carried: State = None
        self._skipped = 0

    @classmethod
    def from_preset(cls, preset: str, **arguments: Any) -> "LanguageModel":
        """The model under a published name; ``arguments`` override the preset's."""
        return cls(**{**cls.preset_arguments(preset), **arguments})

    @classmethod
    def preset_arguments(cls, preset: str) -> dict[str, Any]:
        """Constructor arguments of a preset, as numbers."""
        if preset not in cls.presets:
            names = ", ".join(cls.presets) or "none"
            raise UsageError(
                f"{cls.__name__} has no preset {preset!r}; its presets: {names}"
            )
        return dict(cls.presets[preset])

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

    def blocks(self) -> dict[str, nn.Module]:
        """Named parts in the order data flows: every module of the first list."""
        for name, module in self.named_modules():
            if isinstance(module, nn.ModuleList):
                return {f"{name}.{i}": block for i, block in enumerate(module)}
        return {n: m for n, m in self.named_children() if n != "metrics"}

    def output_head(self) -> nn.Module | None:
        """The last layer, from features to logits: what is called ``head``, if any."""
        found = getattr(self, "head", None)
        return found if isinstance(found, nn.Module) else None

    def received(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a model to start from, under the names that they have here."""
        return state

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

    def flops_per_token(self, length: int) -> int | None:
        """Training FLOPs per token at ``length``, in closed form; None: not known."""
        del length
        return None
