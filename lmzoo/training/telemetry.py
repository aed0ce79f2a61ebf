"""What a run writes down while it trains: metrics.csv, TensorBoard, text samples."""

import contextlib
import csv
import io
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lmzoo.files import write_atomically
from lmzoo.generation import generate
from lmzoo.models.base import LanguageModel
from lmzoo.training.carried import gather_rows
from lmzoo.training.watcher import Watcher

LONGEST = 100_000  # characters of a row
COLUMNS = [
    "step",
    "train/nll",
    "val/nll",
    "val/perplexity",
    "val/bits_per_char",
    "val/bits_per_byte",
    "val/accuracy",
    "val/accuracy_top5",
    "lr",
    "grad_norm",
    "tokens_per_second",
]


class MetricsFile(Logger):
    """``metrics.csv``: one row a logged step, appended as it happens.

    Args:
        path: the file; rows beyond ``resumed_step`` are cut when a run continues, and
            what stands in a row of that step already is not written again.
        resumed_step: the step that the run continues from.
    """

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        super().__init__()
        self.path, self._columns = path, list(COLUMNS)
        self._resumed_step: int | None = resumed_step
        self._kept: set[tuple[int, str]] = set()  # (step, column) before this sitting

    @property
    def name(self) -> str:
        """Fixed; the folder names the run."""
        return "lmzoo"

    @property
    def version(self) -> str:
        """Fixed; the folder names the run."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append one row; a name seen for the first time becomes a column."""
        named = {k: v for k, v in metrics.items() if k != "epoch"}
        if not named:
            return
        if self._resumed_step is not None:  # the first row of this sitting
            last, self._resumed_step = self._resumed_step, None
            kept = [row for row in self._read() if int(row["step"]) <= last]
            self._rewrite(kept)
            self._kept = {
                (int(row["step"]), name) for row in kept for name in row if row[name]
            }
        if step is not None and {(step, name) for name in named} <= self._kept:
            return  # it was killed between this row and its end
        if new := [name for name in named if name not in self._columns]:
            self._columns += new
            self._rewrite(self._read())
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writerow({"step": step, **{k: float(v) for k, v in named.items()}})

    def _read(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        rows: list[dict[str, str]] = []
        # a damaged row is left out, like one that a kill cut short
        with (
            self.path.open(encoding="utf-8", errors="replace", newline="") as file,
            contextlib.suppress(csv.Error),
        ):
            rows.extend(csv.DictReader(line for line in file if len(line) < LONGEST))
        known = [row for row in rows if (row.get("step") or "").isdigit()]
        self._columns += [c for c in (known[0] if known else {}) if c not in COLUMNS]
        self._columns = list(dict.fromkeys(self._columns))
        return known

    @rank_zero_only
    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())


class Telemetry(Watcher):
    """Training loss, learning rate, gradient norm and tokens/s, every N steps.

    Sums stay on the device between two rows, so a step costs one addition.

    Attributes:
        tokens: trained on so far, all processes and restarts together.
        seconds: that it took, evaluation excluded.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.tokens, self.seconds = 0, 0.0
        self._loss: torch.Tensor | None = None
        self._penalties: dict[str, torch.Tensor] = {}  # of it, by their names
        self._batches = 0
        self._row_tokens, self._row_seconds = 0, 0.0
        self._since: float | None = None  # end of the batch before, or None
        self._norm: torch.Tensor | float | None = None  # of the last gradient
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Know how many processes there are."""
        self._trainer = trainer

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock, at the beginning and after an evaluation."""
        self._since = self._since or time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._since = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add the batch; write a row when one is due."""
        if isinstance(outputs, dict) and "loss" in outputs:
            loss = outputs["loss"].detach()
            if trainer.accumulate_grad_batches > 1:
                loss = loss * trainer.accumulate_grad_batches
            self._loss = loss if self._loss is None else self._loss.to(loss) + loss
            for name, term in getattr(pl_module, "penalised", {}).items():
                before = self._penalties.get(name)
                term = term.detach()
                self._penalties[name] = (
                    term if before is None else before.to(term) + term
                )
            self._batches += 1
        self._norm = getattr(pl_module, "grad_norm", None)
        self._row_tokens += batch.tokens.numel() * trainer.world_size
        now = time.perf_counter()
        self._row_seconds += now - (self._since or now)
        self._since = now
        due = trainer.global_step % max(1, int(vars(trainer)["log_every_n_steps"])) == 0
        if due and not trainer.fit_loop.epoch_loop._should_accumulate():
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is left."""
        if self._batches:
            self._write(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Also where the last step was taken before this sitting: it trains nothing."""
        self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The row that is being summed, so that a resumed curve is the same curve.

        Each process has sums of its own: all of them ask here, and all are kept.
        """
        return {
            "loss": None if self._loss is None else self._everyones(self._loss),
            "penalties": {k: self._everyones(v) for k, v in self._penalties.items()},
            "batches": self._batches,
            "tokens": (self.tokens, self._row_tokens),
            "seconds": (self.seconds, self._row_seconds),
            "norm": None if self._norm is None else float(self._norm),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on summing where the row stood."""
        loss, self._batches = state_dict["loss"], state_dict["batches"]
        self._loss = None if loss is None else self._own(loss)
        penalties = state_dict.get("penalties", {})  # older files have none
        self._penalties = {name: self._own(term) for name, term in penalties.items()}
        self.tokens, self._row_tokens = state_dict["tokens"]
        self.seconds, self._row_seconds = state_dict["seconds"]
        self._norm = state_dict.get("norm")  # older checkpoints have none

    def _everyones(self, total: torch.Tensor) -> torch.Tensor:
        """The sum of each process, (processes,)."""
        mine = total.detach().reshape(1)
        return mine.cpu() if self._trainer is None else gather_rows(self._trainer, mine)

    def _own(self, totals: torch.Tensor) -> torch.Tensor:
        """This process's sum, (); of other processes than these, their mean."""
        totals, trainer = totals.reshape(-1), self._trainer
        if trainer is not None and len(totals) == trainer.world_size:
            return totals[trainer.global_rank]
        return totals.mean()

    def _write(self, trainer: Trainer) -> None:
        row: dict[str, float] = {}
        if self._loss is not None:
            penalised = {
                name: self._mean(trainer, term)
                for name, term in self._penalties.items()
            }
            row["train/nll"] = self._mean(trainer, self._loss) - sum(penalised.values())
            row |= {f"train/{name}": value for name, value in penalised.items()}
        row["tokens_per_second"] = self._row_tokens / max(self._row_seconds, 1e-9)
        if trainer.optimizers:
            row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        if self._norm is not None:
            row["grad_norm"] = float(self._norm)
        self.latest = row
        self.tokens += self._row_tokens
        self.seconds += self._row_seconds
        self._loss, self._batches, self._penalties = None, 0, {}
        self._row_tokens, self._row_seconds = 0, 0.0
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)

    def _mean(self, trainer: Trainer, total: torch.Tensor) -> float:
        """A sum as the mean of the row's batches, over all processes."""
        return float(trainer.strategy.reduce(total, reduce_op="mean")) / self._batches


class Samples(Watcher):
    """After every validation, a text from a fixed prompt and a fixed seed.

    Args:
        prompt: text to continue; empty takes the validation part's first token.
        length: tokens to sample; 0 switches samples off.
        temperature: of the softmax.
        top_k: sample among the k likeliest tokens; 0 among all.
        seed: of the private generator.

    Raises:
        ValueError: a negative length, or sampling options out of their ranges.
    """

    def __init__(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 0.8,
        top_k: int = 0,
        seed: int = 42,
    ) -> None:
        if length < 0:
            raise ValueError(f"--samples.length {length}: give 0 (off) or more")
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"--samples.temperature {temperature}: give 0 or more")
        if top_k < 0:
            raise ValueError(f"--samples.top_k {top_k}: give 0 (all) or more")
        self.prompt, self.length = prompt, length
        self.temperature, self.top_k, self.seed = temperature, top_k, seed
        self.folder: Path | None = None
        self.latest = ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample, print nothing, write the text down on the first process."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self.length:
            return
        if not isinstance(pl_module, LanguageModel):
            return
        if not trainer.is_global_zero and not pl_module.sharded:
            return  # of shared-out weights every process has to bring its part
        self.latest = self.sample(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        if self.folder is not None:
            file = self.folder / "samples" / f"step-{step:09d}.txt"
            write_atomically(file, self.latest.encode())
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("sample", f"```\n{self.latest}\n```", step)

    def sample(self, model: Any, data: Any) -> str:
        """The prompt and its continuation, as text."""
        tokenizer = data.tokenizer
        ids = tokenizer.encode(self.prompt) if self.prompt else data.val_tokens[:1]
        if len(ids) == 0:
            ids = data.train_tokens[:1]
        prompt = torch.tensor([[int(i) for i in ids]], device=model.device)
        stream = generate(
            model,
            prompt,
            temperature=self.temperature,
            top_k=min(self.top_k, model.vocab_size),
            seed=self.seed,
        )
        new = [int(token) for _, token in zip(range(self.length), stream, strict=False)]
        return tokenizer.decode([*(int(i) for i in ids), *new])
