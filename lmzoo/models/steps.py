"""The one training step, and the passes that measure, the same for every member."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from lmzoo.errors import UsageError
from lmzoo.metrics import IGNORED, LanguageModelMetrics

PATIENCE_OF_SCALER = 10  # steps left out in a row by a gradient scaler
State = Any  # opaque to everyone but the model: a nest of tuples of batch-first tensors


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


class TrainingSteps(LightningModule):
    """Loss, full passes, optimizer and clipping over ``forward`` and ``advance``.

    ``LanguageModel`` is the class to derive from; this is its second half.
    """

    recipe: ClassVar[dict[str, Any]]
    carry_state: bool
    metrics: LanguageModelMetrics
    seed: int
    optimizer_factory: Callable[[list[dict[str, Any]]], Optimizer] | None
    scheduler_factory: Callable[[Optimizer, int], Any] | None
    grad_norm: Tensor | None
    asleep: frozenset[str] = frozenset()  # parameters that are trained later on
    rates: Mapping[str, float] = MappingProxyType({})  # pattern -> share of the rate
    _carried: State
    _skipped: int

    def advance(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """See ``LanguageModel.advance``."""
        raise NotImplementedError

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
        """Named groups for an optimizer: weight decay on matrices only.

        Frozen parameters are in none. Those that are still ``asleep`` are in theirs
        already, so that waking them changes no group; they have no gradient and thus no
        optimizer state until then. ``rate`` is a group's share of the learning rate.
        """
        found: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad or name in self.asleep:
                share = rate_of(name, self.rates)
                found.setdefault((share, parameter.ndim >= 2), []).append(parameter)
        groups: list[dict[str, Any]] = []
        for (share, decays), parameters in sorted(found.items(), key=_first_the_whole):
            group = {"params": parameters, "name": "matrices" if decays else "others"}
            group |= {} if decays else {"weight_decay": 0.0}
            if share != 1:
                group |= {"name": f"{group['name']} x {share:g}", "rate": share}
            groups.append(group)
        return [group for group in groups if group["params"]]

    def configure_optimizers(self) -> Any:
        """What the factories make, or AdamW at the recipe's constant rate."""
        groups = self.parameter_groups()
        if not groups:
            return None
        if self.optimizer_factory is None:
            lr = self.recipe.get("optimizer.lr", 1e-3)
            return share_rates(torch.optim.AdamW(groups, lr=lr, fused=True))
        optimizer = share_rates(self.optimizer_factory(groups))
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
        self._carried = map_state(Tensor.detach, state)
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
        clipped = getattr(self._trainer, "gradient_clip_val", None)
        clip = "" if clipped else ", or clip with --trainer.gradient_clip_val 1"
        raise UsageError(
            f"training diverged: the gradient is not finite at step "
            f"{self.global_step}; nothing was updated. Lower --optimizer.lr{clip}"
        )


def rate_of(name: str, rates: Mapping[str, float]) -> float:
    """The share of the learning rate by the first pattern that fits ``name``."""
    fits = (share for pattern, share in rates.items() if fnmatchcase(name, pattern))
    return next(fits, 1.0)


def share_rates(optimizer: Optimizer) -> Optimizer:
    """Give each group its ``rate`` of what the optimizer was built with."""
    for group in optimizer.param_groups:
        group["lr"] *= group.get("rate", 1.0)
    return optimizer


def _first_the_whole(item: tuple[tuple[float, bool], Any]) -> tuple[bool, float, bool]:
    """Sorts the groups of the whole rate first, matrices before the others."""
    (share, decays), _ = item
    return share != 1, -share, not decays


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """``state`` with ``function`` applied to each of its tensors."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple):
        parts = [map_state(function, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if isinstance(state, list):
        return [map_state(function, part) for part in state]
    return state


def seed_for(seed: int, position: int, rank: int) -> None:
    """Seed torch from (seed, position, rank), so no generator state need be saved."""
    mixed = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + rank) % 2**63
    torch.manual_seed(mixed)
