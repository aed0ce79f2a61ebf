"""Saving a run: what is kept, when, and in which order.

A checkpoint is taken after a validation when one follows the step, otherwise at the end
of the step, never inside gradient accumulation: then a resumed run repeats nothing and
skips nothing. The last step is kept at the end of training only: a run that goes on
from it has no step left, and Lightning would leave out all that stands between.
"""

import contextlib
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lmzoo import __version__, files, portable, runs
from lmzoo.errors import Diverged, UsageError
from lmzoo.registry import models
from lmzoo.training import restoring
from lmzoo.training.carried import gather_rows, own_rows
from lmzoo.training.divergence import require_finite
from lmzoo.training.interruption import Interrupted, Interruption
from lmzoo.training.watcher import Watcher

MINIMISED = ("nll", "perplexity", "bits_per_char", "bits_per_byte")


class VerifiedCheckpointIO(CheckpointIO):
    """Lightning's door to lmzoo's format: atomic writes, verified reads."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` durably, or leave what was there untouched."""
        del storage_options
        runs.write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read and verify; always with ``weights_only=True``."""
        del map_location, weights_only
        if not portable.is_portable(Path(path)):
            return runs.read_checkpoint(path)
        run = runs.load(path)  # a model folder: weights, and no state of a training
        return {
            **run.checkpoint,
            "state_dict": run.member.state_dict(),
            "pytorch-lightning_version": lightning.__version__,
        }

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one checkpoint file."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(Watcher, Checkpoint):
    """Keeps the best and the last checkpoint of a run, and a history if asked.

    Args:
        every_n_steps: also keep a checkpoint every so many optimizer steps, for later
            study; 0 keeps none.
        monitor: the metric whose true minimum is the best.

    Raises:
        ValueError: a negative ``every_n_steps``, or a metric that has no best minimum.
    """

    def __init__(self, every_n_steps: int = 0, monitor: str = "val/nll") -> None:
        super().__init__()
        if every_n_steps < 0:
            raise ValueError(f"every_n_steps must be 0 or more, given {every_n_steps}")
        if monitor.removeprefix("val/") not in MINIMISED:
            raise ValueError(
                f"--checkpoints.monitor {monitor}: the best is a minimum; choose "
                + ", ".join(f"val/{name}" for name in MINIMISED)
            )
        self.every_n_steps, self.monitor = every_n_steps, monitor
        self.folder: Path | None = None  # the run folder; None keeps nothing
        self.stored: dict[str, Any] = {}  # configuration that travels along
        self.best: dict[str, Any] | None = None  # {"file", "step", "metrics"}
        self.last: dict[str, Any] | None = None
        self.start_of: str | None = None  # name of the weights to be measured as given
        self.start: dict[str, Any] | None = None  # {"name", "metrics"} of them
        self.history: list[dict[str, Any]] = []  # every validation: step and metrics
        self.seconds = 0.0  # spent training, restarts included
        self._saved: Any = (0, 0)  # states of optimizers and schedules, in the file
        self.begun = False  # whether all that is resumed from has been taken up
        self._since: float | None = None
        self._interruption = Interruption()

    # ---- when -------------------------------------------------------------------

    @contextlib.contextmanager
    def heeding(self, trainer: Trainer) -> Iterator[None]:
        """Have the signals while a command runs, its report included."""
        self._interruption.install(trainer)
        try:
            yield
        except BaseException as error:
            if trainer.is_global_zero and self.folder is not None:
                self._say_where(error)
            raise
        finally:
            self._interruption.restore()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the figures of others' weights before the first step.

        The Trainer's check before training is a whole validation then; it leaves the
        random numbers as they were, and is left out where a run goes on.
        """
        if self.start_of is not None:
            figures = validation_figures(trainer)
            self.start = {"name": self.start_of, "metrics": figures}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; evaluation is not counted. Fetch a best from elsewhere."""
        if trainer.ckpt_path is not None:
            restoring.require_fitting(trainer, self._saved)
        self.begun = True
        self._fetch_best(trainer)
        self._interruption.saves = True
        self._since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note how far the data was read; keep the history; save if told to stop."""
        data = getattr(trainer, "datamodule", None)
        if data is not None and hasattr(batch, "position"):
            sizes = getattr(data, "size_at", None)  # a schedule, where there is one
            size = sizes(batch.position) if sizes else data.batch_size
            data.position = batch.position + size
        accumulating = trainer.fit_loop.epoch_loop._should_accumulate()
        if accumulating or validation_follows(trainer) or is_last(trainer):
            return
        told = self._interruption.pending(trainer)
        history = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if history or told:
            self._save(trainer, {})
        if told:
            self._interruption.stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.begun = True
        self._stop_clock()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is left to take up."""
        self.begun = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, after every other callback has seen this validation."""
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if fitting:
            metrics = validation_figures(trainer)
            self.history.append({"step": trainer.global_step, **metrics})
            self._save(trainer, metrics)
        self._heed(trainer)
        if fitting:
            self._since = time.perf_counter()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if told to."""
        self._heed(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step is always measured and kept."""
        self._stop_clock()
        measured = self.history and self.history[-1]["step"] == trainer.global_step
        if trainer.enable_validation and trainer.global_step and not measured:
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
            self._stop_clock()
        if self.last is None or self.last["step"] != trainer.global_step:
            self._save(trainer, {})
        self._interruption.saves = False
        self._heed(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop the clock; what was saved stays as it is."""
        self._stop_clock()

    def _heed(self, trainer: Trainer) -> None:
        """Stop if any process was told to; here all of them have just waited."""
        if self._interruption.pending(trainer, validated=True):
            self._interruption.stop(trainer)

    def _say_where(self, error: BaseException) -> None:
        """What is left of a run that ends so."""
        step = self.last["step"] if self.last else 0
        if isinstance(error, KeyboardInterrupt | Interrupted):
            after = f" after step {step:,}" if self.last else ""
            said = f"interrupted; the same command goes on{after}"
        elif isinstance(error, Diverged) and self.last and self.folder:
            file = self.folder / "checkpoints" / self.last["file"]
            said = f"kept: the last checkpoint, of step {step:,}, in {file}"
        else:
            return
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print(said, file=sys.stderr)

    # ---- what -------------------------------------------------------------------

    def _fetch_best(self, trainer: Trainer) -> None:
        """A run that was moved brings its best checkpoint along, or forgets it."""
        if self.folder is None or self.best is None:
            return
        target = self.folder / "checkpoints" / self.best["file"]
        source = Path(str(trainer.ckpt_path or "")).parent / self.best["file"]
        if trainer.is_global_zero and not target.is_file() and source.is_file():
            files.write_atomically(target, source.read_bytes())
        trainer.strategy.barrier()
        if not target.is_file():
            self.best = None

    def _save(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if self.folder is None:
            return
        require_finite(trainer)
        record = {
            "file": runs.checkpoint_name(trainer.global_step),
            "step": trainer.global_step,
            "metrics": metrics,
        }
        name = self.monitor.removeprefix("val/")
        value = metrics.get(name, float("nan"))
        best = self.best["metrics"][name] if self.best else float("inf")
        dropped = [self.last, self.best]
        if value < best:  # false for NaN
            self.best = record
        self.last = record
        trainer.save_checkpoint(self.folder / "checkpoints" / record["file"])
        if trainer.is_global_zero:
            self.write_index()
            self._delete([d for d in dropped if d])
        trainer.strategy.barrier()

    def write_index(self, **more: Any) -> None:
        """Bring the manifest up to date; it is an index, the files are the truth."""
        if self.folder is None:
            return
        manifest = runs.read_manifest(self.folder)
        manifest.update(
            best=self.best and self.best["file"],
            last=self.last and self.last["file"],
            seconds=self._spent(),
            **more,
        )
        manifest["checkpoints"] = {
            file.name: {"sha256": runs.stated_digest(file)}
            for file in runs.newest_first(self.folder)
        }
        files.write_json(self.folder / "manifest.json", manifest)

    def _delete(self, records: list[dict[str, Any]]) -> None:
        kept = {record["file"] for record in (self.best, self.last) if record}
        for record in records:
            step = record["step"]
            historic = self.every_n_steps and step % self.every_n_steps == 0
            if record["file"] in kept or historic or self.folder is None:
                continue
            with contextlib.suppress(OSError):
                (self.folder / "checkpoints" / record["file"]).unlink()

    def _stop_clock(self) -> None:
        self.seconds, self._since = self._spent(), None

    def _spent(self) -> float:
        """Seconds of training up to now, whether or not the clock runs."""
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        return self.seconds + running

    # ---- what travels in the file -------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Best, last, the curve and the time spent, all JSON-plain."""
        return {
            "best": self.best,
            "last": self.last,
            "start": self.start,
            "history": self.history,
            "seconds": self._spent(),  # a save may come between two validations
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back.

        Raises:
            UsageError: a file name that would lead out of the run folder.
        """
        watched = self.monitor.removeprefix("val/")
        for record in (state_dict["best"], state_dict["last"]):
            if record is None:
                continue
            measured = record is not state_dict["best"] or isinstance(
                record["metrics"].get(watched), int | float
            )
            if not measured or type(record["step"]) is not int:
                raise UsageError(
                    f"the checkpoint's record of {record['file']!r} has no step or no "
                    f"{watched}; it was changed, or is damaged"
                )
            if not runs.is_checkpoint_name(record["file"]):
                raise UsageError(
                    f"the checkpoint names {record['file']!r} as one of its run, which "
                    f"lmzoo never wrote; it was changed, or is damaged"
                )
        self.best, self.last = state_dict["best"], state_dict["last"]
        self.start = state_dict.get("start")
        self.history = list(state_dict["history"])
        self.seconds = float(state_dict["seconds"])

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what makes the file enough for every later command."""
        data = getattr(trainer, "datamodule", None)
        tokenizer = getattr(data, "tokenizer", None)
        checkpoint["lmzoo"] = {
            "format": runs.FORMAT,
            "model": models.name_of(getattr(pl_module, "family", type(pl_module))),
            "arguments": getattr(pl_module, "arguments", {}),
            "tokenizer": tokenizer.state() if tokenizer else None,
            "versions": versions(),
            "threads": torch.get_num_threads(),
            **self.stored,
        }
        carried = getattr(pl_module, "_carried", None)
        if getattr(pl_module, "carry_state", False) and carried is not None:
            checkpoint["lmzoo"]["carried"] = gather_rows(trainer, carried)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hand a carried state back to the rows of this process.

        Raises:
            UsageError: what a run goes on from is not all there.
        """
        if trainer.state.fn == "fit":
            restoring.require_whole(checkpoint, trainer.ckpt_path, self.state_key)
            states = (
                checkpoint[name] for name in ("optimizer_states", "lr_schedulers")
            )
            self._saved = tuple(map(len, states))
        carried = checkpoint["lmzoo"].get("carried")
        if carried is not None:
            pl_module._carried = own_rows(trainer, carried)


def validation_figures(trainer: Trainer) -> dict[str, float]:
    """What the latest validation measured, by name without ``val/``."""
    return {
        name.removeprefix("val/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("val/")
    }


def validation_follows(trainer: Trainer) -> bool:
    """Whether the batch that has just been trained on is followed by a validation."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or not isinstance(every, int):
        return False
    return (trainer.fit_loop.epoch_loop.total_batch_idx + 1) % every == 0


def is_last(trainer: Trainer) -> bool:
    """Whether the optimizer step that has just been taken is the last of the run."""
    return trainer.global_step >= trainer.max_steps > 0


def versions() -> dict[str, str]:
    """Of everything that decides a result."""
    return {
        "lmzoo": __version__,
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
