"""The one training step, and the passes that measure, of every language model."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lmzoo.metrics import IGNORED, LanguageModelMetrics
from lmzoo.models.member import Member, seed_for

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


class TrainingSteps(Member):
    """Loss and full passes over ``forward`` and ``advance``.

    ``LanguageModel`` is the class to derive from; this is its second half.
    """

    metric_names: ClassVar[tuple[str, ...]] = LanguageModelMetrics.NAMES

    metrics: LanguageModelMetrics
    _carried: State

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

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the sums of the pass."""
        del batch_idx
        logits = self._logits(batch)
        self.metrics.update(self.nll(logits, batch.targets), logits, batch.targets)

    test_step = validation_step

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
        super()._start_pass(loader)
        self.metrics.set_lengths(getattr(loader, "lengths", None))
        self._training_state, self._carried = self._carried, None

    def _end_pass(self, split: str) -> None:
        self._carried = self._training_state
        super()._end_pass(split)


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
