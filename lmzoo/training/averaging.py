"""An exponential moving average of the weights: measured, kept as the best, saved.

Lightning's own callback keeps the average; here it says when it takes the place of the
weights, so that what is measured, sampled and saved is always the average, and what
training goes on with never is.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.training.watcher import Watcher


class AveragedWeights(Watcher, WeightAveraging):
    """Average the weights after every optimizer step.

    average <- d x average + (1 - d) x weights, beginning with the weights of the first
    step, where d rises to ``decay``: the smaller of it and (1 + t) / (10 + t) after t
    steps, so that a short run forgets its first weights (TensorFlow's moving averages
    do so; Polyak & Juditsky 1992 averaged all steps alike).

    A checkpoint holds the average as its weights; those of training stand beside them,
    for an exact resume.

    Args:
        decay: share of the average that stays, in [0, 1).

    Raises:
        UsageError: a decay out of range.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"--ema.decay {decay}: give a share in [0, 1), as 0.999")

        @torch.no_grad()
        def update(
            averages: list[Tensor], weights: list[Tensor], taken: Tensor
        ) -> None:
            share = (9 / (10 + taken)).clamp(min=1 - decay)  # stays on its device
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, share.to(average.dtype))

        super().__init__(use_buffers=False, multi_avg_fn=update)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The average was made before the weights went to their device."""
        if self._average_model is not None:
            self._average_model.to(pl_module.device)

    on_train_batch_end = WeightAveraging.on_train_batch_end

    # The library exchanges the weights around the batches of a validation only, and
    # copies the average over them while the last step is still to be saved.

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the average."""
        if self._average_model is not None:
            self._swap_models(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the weights; texts were sampled from the average before."""
        self.on_validation_start(trainer, pl_module)

    def on_validation_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Nothing: the average is there already."""

    def on_validation_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Nothing: it stays until everyone has seen the validation."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the last step is measured and saved after this."""

    def teardown(
        self, trainer: Trainer, pl_module: LightningModule, stage: str
    ) -> None:
        """The average is what the run leaves."""
        if stage == "fit" and self._average_model is not None:
            self._copy_average_to_current(pl_module)
            self._average_model = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take both back; a checkpoint that is only measured has nothing to take."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
