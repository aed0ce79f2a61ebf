"""A budget in seconds becomes a number of steps, once, before the run begins."""

import copy
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

WARM_UP, MINIMUM, SECONDS = 5, 25, 2.5


class _Stopwatch(Callback):
    """Time per optimizer step, after the first few, until it is known well enough."""

    def __init__(self) -> None:
        self.started, self.steps, self.elapsed = 0.0, 0, 0.0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a step; stop when enough were seen for long enough."""
        if trainer.global_step < WARM_UP:
            return
        now = time.perf_counter()
        self.started = self.started or now
        self.elapsed, self.steps = now - self.started, trainer.global_step - WARM_UP
        if self.steps >= MINIMUM and self.elapsed >= SECONDS:
            trainer.should_stop = True


def calibrated_steps(
    model: LightningModule, data: Any, settings: dict[str, Any], seconds: float
) -> int:
    """Optimizer steps that fit into ``seconds`` of training, evaluation excluded.

    A copy of the model trains for a few seconds; the model itself is not touched.

    Args:
        model: as it will be trained.
        data: the data module.
        settings: the Trainer's arguments.
        seconds: the budget.
    """
    keys = ("accelerator", "precision", "accumulate_grad_batches", "gradient_clip_val")
    watch = _Stopwatch()
    trainer = Trainer(
        **{key: settings[key] for key in keys},
        devices=1,
        max_steps=10_000,
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    position = data.position
    trainer.fit(copy.deepcopy(model), datamodule=data)
    data.position, data.trainer = position, None
    if not watch.steps:
        return 1
    return max(1, int(seconds / (watch.elapsed / watch.steps)))
