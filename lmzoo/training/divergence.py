"""What is done about weights that are not finite, and about losses that spike."""

import math
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lmzoo import runs
from lmzoo.errors import Diverged, UsageError
from lmzoo.training import restoring
from lmzoo.training.watcher import Watcher

FEWEST = 20  # losses that are looked at before any of them can be a spike
REACH = 4  # times ``back``: how far a rollback can reach, one after the other
FLOOR = 0.02  # of the mean: the smallest deviation, where losses hardly differ


def require_finite(trainer: Trainer) -> None:
    """Weights that are not finite are no checkpoint to go on from.

    Raises:
        Diverged: some are not, in any process.
    """
    model = trainer.lightning_module
    here = [getattr(p, "to_local", p.detach)() for p in model.parameters()]
    peaks = [part.detach().abs().max() for part in here if part.numel()]
    finite = bool(torch.isfinite(torch.stack(peaks)).all()) if peaks else True
    if trainer.world_size > 1:
        finite = trainer.strategy.reduce_boolean_decision(finite)
    if not finite:
        raise Diverged(
            f"training diverged: the weights are not finite after step "
            f"{trainer.global_step}; they were not saved. Lower --optimizer.lr"
        )


class SpikeGuard(Watcher):
    """Where the loss spikes, take earlier weights back and leave the batches out.

    PaLM's remedy (Chowdhery et al. 2022, arXiv 2204.02311, section 5.1): the weights
    and the optimizer's state are those of about ``back`` steps before, and training
    goes on ``skip`` batches further in the text. The count of steps and the schedule go
    on, so that a budget stays a budget. What it takes back lies in the run folder, and
    a run that is killed at any moment makes the same decisions again.

    Args:
        enabled: False switches the whole callback off.
        deviations: a loss is a spike if it is so many standard deviations above the
            mean of the losses before it.
        window: optimizer steps whose losses are remembered.
        back: steps to roll back, about.
        skip: optimizer steps whose batches are left out.
        most: spikes after which the run is given up.

    Attributes:
        spikes: what was done so far, a JSON-plain row for each.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        enabled: bool = False,
        deviations: float = 6.0,
        window: int = 100,
        back: int = 100,
        skip: int = 200,
        most: int = 10,
    ) -> None:
        super().__init__()
        if not 0 < deviations < math.inf:
            raise ValueError(f"deviations must be above 0, given {deviations}")
        for name, value in (("window", window), ("back", back), ("skip", skip)):
            if value < 1:
                raise ValueError(f"{name} must be 1 step or more, given {value}")
        if most < 0:
            raise ValueError(f"most must be 0 or more, given {most}")
        self.enabled, self.deviations, self.window = enabled, deviations, window
        self.back, self.skip, self.most = back, skip, most
        self.folder: Path | None = None  # the run folder
        self.spikes: list[dict[str, Any]] = []
        self._losses: list[float] = []  # of the last steps that were no spikes
        self._snapshots: list[int] = []  # their steps
        self._loss: Tensor | None = None  # of this step's micro-batches so far
        self._saved = 0  # the step of the newest checkpoint that is on disk for sure

    @property
    def notes(self) -> list[str]:
        """One line for each spike."""
        return [
            f"the loss of step {row['step']:,}, {row['loss']:.3f} nats, was a spike "
            f"(before: {row['mean']:.3f}): back to the weights of step "
            f"{row['restored']:,}, {self.skip:,} steps of text left out"
            for row in self.spikes
        ]

    def require(self, model: Any, data: Any, averaged: bool = False) -> None:
        """Refuse what cannot be rolled back.

        Args:
            model: to be trained.
            data: its data module.
            averaged: whether an average of the weights is kept.

        Raises:
            UsageError: a model that carries its state, data that cannot be skipped or
                whose batches grow by a schedule, or an average of the weights.
        """
        if self.enabled and (model.carry_state or not hasattr(data, "leave_out")):
            raise UsageError(
                "--spike_guard.enabled true: text is left out, which a carried state "
                "and labelled texts do not allow; leave it out here"
            )
        if self.enabled and (averaged or getattr(data, "batch_size_schedule", None)):
            raise UsageError(
                "--spike_guard.enabled true: neither the average of --ema.decay nor "
                "the steps of --data.batch_size_schedule are rolled back; give one of "
                "them"
            )

    # ---- where Lightning calls it ---------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The untrained weights are the first to go back to."""
        self._saved = trainer.global_step
        if self.enabled and not trainer.global_step:
            self._keep(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the loss of a whole step; keep the weights now and then."""
        if not self.enabled:
            return
        part = outputs["loss"].detach()
        self._loss = part if self._loss is None else self._loss + part
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        loss, self._loss = (
            float(trainer.strategy.reduce(self._loss, reduce_op="mean")),
            None,
        )
        if self._is_spike(loss):
            self._roll_back(trainer, pl_module, loss, batch.position)
            return
        self._losses = [*self._losses, loss][-self.window :]
        if trainer.global_step % max(1, self.back // 2) == 0:
            self._keep(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Delete what no run that goes on from the checkpoint before can need."""
        del pl_module, checkpoint
        if self.enabled and trainer.is_global_zero:
            for file in runs.newest_first(self._place, ""):
                if runs.step_of(file) < self._saved - REACH * self.back:
                    file.unlink(missing_ok=True)
        self._saved = trainer.global_step

    # ---- the rule -------------------------------------------------------------------

    def _is_spike(self, loss: float) -> bool:
        if len(self._losses) < min(FEWEST, self.window):
            return False
        mean = statistics.fmean(self._losses)
        spread = max(statistics.pstdev(self._losses), FLOOR * abs(mean))
        return loss > mean + self.deviations * spread

    def _roll_back(
        self, trainer: Trainer, model: LightningModule, loss: float, position: int
    ) -> None:
        step, mean = trainer.global_step, statistics.fmean(self._losses)
        if len(self.spikes) >= self.most:
            raise Diverged(
                f"training diverged: the loss of step {step}, {loss:.3f} nats, is a "
                f"spike (before: {mean:.3f}), and --spike_guard.most {self.most} were "
                f"rolled back before it. Lower --optimizer.lr"
            )
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        old = [kept for kept in self._snapshots if kept <= step - self.back]
        restored = (old or self._snapshots[:1])[-1]
        self._restore(trainer, model, restored)
        # the next batch has been fetched already; what follows it is left out
        begin = position + 2 * data.batch_size
        end = begin + self.skip * trainer.accumulate_grad_batches * data.batch_size
        data.leave_out(begin, end)
        self._snapshots = [kept for kept in self._snapshots if kept <= restored]
        row = {"step": step, "loss": loss, "mean": mean, "restored": restored}
        self.spikes.append(row)
        if trainer.is_global_zero:
            print(f"note: {self.notes[-1]}", file=sys.stderr)

    # ---- what is gone back to -------------------------------------------------------

    @property
    def _place(self) -> Path:
        assert self.folder is not None
        return self.folder / "rollback"

    def _keep(self, trainer: Trainer, model: LightningModule) -> None:
        step = trainer.global_step
        content = {
            "state_dict": model.state_dict(),
            "optimizer_states": [o.state_dict() for o in trainer.optimizers],
        }
        if trainer.is_global_zero:
            runs.write_checkpoint(content, self._place / runs.checkpoint_name(step))
        trainer.strategy.barrier()
        near = [kept for kept in self._snapshots if kept >= step - REACH * self.back]
        self._snapshots = [*near, step]

    def _restore(self, trainer: Trainer, model: LightningModule, step: int) -> None:
        """Weights and moments of ``step``; the rates stay the schedule's."""
        file = self._place / runs.checkpoint_name(step)
        content = runs.read_tensors(file)
        with restoring.taking_up(lambda: file):
            model.load_state_dict(content["state_dict"])
            states = content["optimizer_states"]
            for optimizer, state in zip(trainer.optimizers, states, strict=True):
                rates = [group["lr"] for group in optimizer.param_groups]
                optimizer.load_state_dict(state)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
            restoring.require_moments(trainer.optimizers, file)

    # ---- resume ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, JSON-plain; nothing where it is switched off."""
        if not self.enabled:
            return {}
        return {
            "losses": self._losses,
            "snapshots": self._snapshots,
            "spikes": self.spikes,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the run stood."""
        self._losses = [float(loss) for loss in state_dict["losses"]]
        self._snapshots = [int(step) for step in state_dict["snapshots"]]
        kinds = {"step": int, "loss": float, "mean": float, "restored": int}
        self.spikes = [  # a checkpoint may be anybody's
            {key: kind(row[key]) for key, kind in kinds.items()}
            for row in state_dict["spikes"]
        ]
