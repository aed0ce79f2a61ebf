"""One live line in a terminal; one line a validation in a log."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from lmzoo.training.telemetry import Samples, Telemetry


class TrainingProgress(ProgressBar):
    """Loss, validation bits per character, tokens/s and time left.

    Args:
        telemetry: where the figures come from.
        samples: whose latest text is printed now and then.
        console: where to write; standard error by default.
    """

    def __init__(
        self, telemetry: Telemetry, samples: Samples, console: Console | None = None
    ) -> None:
        super().__init__()
        self.telemetry, self.samples = telemetry, samples
        self.console = console or Console(file=sys.stderr, highlight=False)
        self._live: Progress | None = None
        self._enabled = True
        self._seconds_per_step = 0.0
        self._last = 0.0
        self._shown_sample = 0.0

    def disable(self) -> None:
        """Called by Lightning on every process but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Called by Lightning on the first process."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the line."""
        super().on_train_start(trainer, pl_module)
        if not self._enabled or not self.console.is_terminal:
            return
        self._live = Progress(
            TextColumn("step {task.completed:>6.0f}/{task.total:.0f}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            refresh_per_second=4,
        )
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self._live.add_task("", total=total, figures="", completed=trainer.global_step)
        self._live.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the line, a few times a second at most."""
        now = time.perf_counter()
        if self._live is None or now - self._last < 0.25:
            return
        self._last = now
        self._live.update(
            self._live.task_ids[0],
            completed=trainer.global_step,
            figures=self._figures(trainer),
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the figures of this validation, and a sample now and then."""
        super().on_validation_end(trainer, pl_module)
        if not self._enabled or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        line = f"step {trainer.global_step:>6}  {self._figures(trainer)}"
        self.console.print(Text(line))
        now = time.perf_counter()
        if self.samples.latest and now - self._shown_sample > 30:
            self._shown_sample = now
            shown = self.samples.latest.strip().replace("\n", "\n    ")[:400]
            self.console.print(Text(f"    {shown}", style="dim"))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the line."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the line, so that the message stands alone."""
        self._close()

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _figures(self, trainer: Trainer) -> str:
        latest, parts = self.telemetry.latest, []
        if "train/nll" in latest:
            parts.append(f"loss {latest['train/nll']:.3f}")
        bits = trainer.callback_metrics.get("val/bits_per_char")
        accuracy = trainer.callback_metrics.get("val/accuracy")
        if bits is None and accuracy is not None:
            parts.append(f"val {float(accuracy):.1%} right")
        if bits is not None:
            parts.append(f"val {float(bits):.3f} bits/char")
        speed = latest.get("tokens_per_second")
        if speed:
            parts.append(f"{speed:,.0f} tokens/s")
            parts.append(self._time_left(trainer))
        return "  ".join(part for part in parts if part)

    def _time_left(self, trainer: Trainer) -> str:
        telemetry = self.telemetry
        done = trainer.global_step
        if trainer.max_steps <= 0 or done <= 0 or not telemetry.seconds:
            return ""
        left = (trainer.max_steps - trainer.global_step) * telemetry.seconds / done
        return f"{left // 60:.0f}:{left % 60:02.0f} left"
