"""The contract of a zoo member, and the one training step that all of them share.

Shapes, here and in every model file: B batch, T time, D d_model, H heads, V vocabulary,
L layers. A member writes an annotated keyword constructor and ``forward``; everything
else below has a default that works on ``forward`` alone.
"""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, NoReturn, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from lmzoo.errors import UsageError
from lmzoo.metrics import IGNORED, LanguageModelMetrics

PATIENCE_OF_SCALER = 10  # steps left out in a row by a gradient scaler
State = Any  # opaque to everyone but the model: a nest of tuples of batch-first tensors
JSON = str | int | float | bool | None | list["JSON"] | dict[str, "JSON"]


class Batch(Protocol):
    """What a data module yields: see ``lmzoo.text.loader.Batch``."""

    @property
    def tokens(self) -> Tensor:
        """Token ids (B, T)."""
        ...

    @property
    def targets(self) -> Tensor:
        """Next tokens (B, T), -100 where not counted."""
        ...

    @property
    def position(self) -> int:
        """Global index of the first sample."""
        ...

    @property
    def first(self) -> bool:
        """Whether a carried state starts afresh here."""
        ...


class Window(NamedTuple):
    """The default state: the tokens that the next prediction may see."""

    tokens: Tensor  # (B, n - window_start(n)), where n tokens were seen
    seen: int


class LanguageModel(LightningModule):
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
    """

    unbounded: ClassVar[bool] = False
    counting: ClassVar[bool] = False
    pretrained: ClassVar[bool] = False
    requires: ClassVar[dict[str, str]] = {}
    exhibit: ClassVar[str | None] = None
    recipe: ClassVar[dict[str, Any]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

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

    def advance(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Feed tokens (B, T_new) after ``state``; logits (B, T_new, V), new state.

        However the input is cut into chunks, the logits after n tokens equal
        ``forward(tokens[window_start(n):n])[:, -1]``.
        """
        past, seen = (tokens[:, :0], 0) if state is None else state
        history = torch.cat([past, tokens], dim=1)
        origin = self.window_start(seen)  # history[:, 0] is token number `origin`
        end, pieces = seen + tokens.shape[1], []
        while seen < end:
            start = self.window_start(seen + 1)
            until = seen + 1
            while until < end and self.window_start(until + 1) == start:
                until += 1
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
        if isinstance(state, Tensor):
            return state.clone()
        if isinstance(state, tuple):
            parts = [self.fork(part) for part in state]
            return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
        if isinstance(state, list):
            return [self.fork(part) for part in state]
        return state

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

    @classmethod
    def expected_initial_nll(cls, vocab_size: int) -> float:
        """Nats per token before training: ln V unless the class says otherwise."""
        return float(torch.tensor(vocab_size, dtype=torch.float64).log())

    def flops_per_token(self, length: int) -> int | None:
        """Training FLOPs per token at ``length``, in closed form; None: not known."""
        del length
        return None

    # ---- training: the same for every member -------------------------------------

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the counted targets, at least float32."""
        return self.nll(logits, targets).sum() / (targets != IGNORED).sum().clamp(min=1)

    def nll(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each target in nats, (B, T); 0 where it is not counted."""
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        flat = F.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        return flat.view(targets.shape)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch; randomness is a function of its position."""
        del batch_idx
        seed_for(self.seed, batch.position, self.global_rank)
        return self.loss(self._logits(batch), batch.targets)

    def on_validation_epoch_start(self) -> None:
        """Begin a full pass: fresh sums, fresh state."""
        self._start_pass(self.trainer.val_dataloaders)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the sums of the pass."""
        del batch_idx
        logits = self._logits(batch)
        self.metrics.update(self.nll(logits, batch.targets), logits, batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Divide the sums and log them as ``val/...``."""
        self._end_pass("val")

    def on_test_epoch_start(self) -> None:
        """Begin a full pass over the test part."""
        self._start_pass(self.trainer.test_dataloaders)

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        """Divide the sums and log them as ``test/...``."""
        self._end_pass("test")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Named groups for an optimizer: weight decay on matrices only."""
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        matrices = [p for _, p in named if p.ndim >= 2]
        others = [p for _, p in named if p.ndim < 2]
        groups: list[dict[str, Any]] = [{"params": matrices, "name": "matrices"}]
        groups.append({"params": others, "name": "others", "weight_decay": 0.0})
        return [group for group in groups if group["params"]]

    def configure_optimizers(self) -> Any:
        """What the factories make, or AdamW at the recipe's constant rate."""
        groups = self.parameter_groups()
        if not groups:
            return None
        if self.optimizer_factory is None:
            lr = self.recipe.get("optimizer.lr", 1e-3)
            return torch.optim.AdamW(groups, lr=lr, fused=True)
        optimizer = self.optimizer_factory(groups)
        if self.scheduler_factory is None:
            return optimizer
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = self.scheduler_factory(optimizer, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm, and stop before the step if a gradient is not finite.

        Lightning's own clipping refuses fused optimizers under mixed precision.
        """
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        grads = [p.grad for p in parameters if p.grad is not None]
        if gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        self.grad_norm = nn.utils.get_total_norm(grads)
        if torch.isfinite(self.grad_norm):
            self._skipped = 0
        else:
            self._skipped += 1
            scaled = getattr(self._trainer_plugin(), "scaler", None) is not None
            if not scaled or self._skipped >= PATIENCE_OF_SCALER:
                self._diverged()
            return  # the gradient scaler leaves this step out and lowers its scale
        if gradient_clip_val and gradient_clip_algorithm != "value":
            nn.utils.clip_grads_with_norm_(
                parameters, gradient_clip_val, self.grad_norm
            )

    # ---- helpers ------------------------------------------------------------------

    def _logits(self, batch: Batch) -> Tensor:
        if not self._carrying():
            return self(batch.tokens)
        state = None if batch.first else self._carried
        logits, state = self.advance(batch.tokens, state)
        self._carried = detach(state)
        return logits

    def _carrying(self) -> bool:
        if self.training:
            return self.carry_state
        data = getattr(self.trainer, "datamodule", None)
        return getattr(data, "protocol", "windows") == "carried"

    def _start_pass(self, loader: Any) -> None:
        self.metrics.reset()
        self.metrics.set_lengths(getattr(loader, "lengths", None))
        self._training_state, self._carried = self._carried, None

    def _end_pass(self, split: str) -> None:
        self._carried = self._training_state
        results = self.metrics.compute()
        self.log("step", float(self.global_step))  # Lightning's own is one behind
        for name, value in results.items():
            self.log(f"{split}/{name}", torch.tensor(value, dtype=torch.float64))

    def _trainer_plugin(self) -> Any:
        return getattr(self._trainer, "precision_plugin", None)

    def _diverged(self) -> NoReturn:
        raise UsageError(
            f"training diverged: the gradient is not finite at step "
            f"{self.global_step}; nothing was updated. Lower --optimizer.lr, or clip "
            f"with --trainer.gradient_clip_val 1"
        )


def detach(state: State) -> State:
    """The same state without its graph."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple):
        parts = [detach(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if isinstance(state, list):
        return [detach(part) for part in state]
    return state


def seed_for(seed: int, position: int, rank: int) -> None:
    """Seed torch from (seed, position, rank), so no generator state need be saved."""
    mixed = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + rank) % 2**63
    torch.manual_seed(mixed)
