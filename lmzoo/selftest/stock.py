"""Lightning as it comes, for the same cases: what lmzoo adds is then seen.

A small recurrent language model with dropout, AdamW, a cosine schedule and a shuffled
loader, saved by ``ModelCheckpoint``, as the library's documentation shows it.
"""

import json
import logging
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lmzoo.selftest import forks

VERSION = lightning.__version__
STEPS, VOCAB, LENGTH = 16, 29, 16
NOT_RUN = "the control, stock Lightning, could not be run"


class Stock(LightningModule):
    """Embedding, LSTM, dropout, head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 16)
        self.body = nn.LSTM(16, 16, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(16, VOCAB)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Cross-entropy of the next token."""
        del index
        (tokens,) = batch
        hidden, _ = self.body(self.embedding(tokens[:, :-1]))
        logits = self.head(self.dropout(hidden))
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten()
        )

    def configure_optimizers(self) -> Any:
        """AdamW and a cosine, stepped with every batch."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def loader() -> DataLoader:
    """64 random rows, shuffled, in batches of 4."""
    rows = torch.randint(
        VOCAB, (64, LENGTH + 1), generator=torch.Generator().manual_seed(0)
    )
    return DataLoader(TensorDataset(rows), batch_size=4, shuffle=True)


def trainer(folder: Path, callbacks: list[Any], **more: Any) -> Trainer:
    """A quiet one, on the CPU."""
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "max_steps": STEPS,
            "max_epochs": -1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": callbacks,
            **more,
        }
    )


def resumes(folder: Path) -> tuple[int, int]:
    """Resume at every second step: how many ends are the same, of how many.

    Raises:
        RuntimeError: it fails, or two runs that nothing ends are not the same either.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "resumes.json"
    if forks.apart(_resumes, folder, file):
        raise RuntimeError(NOT_RUN)
    exact, points = json.loads(file.read_text(encoding="utf-8"))
    return exact, points


def _resumes(folder: Path, file: Path) -> None:
    quiet()
    kept = ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1)
    expected = _weights(folder, [kept], None)
    _require_same(expected, _weights(folder, [], None, enable_checkpointing=False))
    points = [folder / f"step={step}.ckpt" for step in range(2, STEPS, 2)]
    exact = 0
    for point in points:
        weights = _weights(folder, [], point, enable_checkpointing=False)
        exact += _same(expected, weights)
    file.write_text(json.dumps([exact, len(points)]), encoding="utf-8")


def _weights(
    folder: Path, callbacks: list[Any], point: Path | None, **more: Any
) -> list[Tensor]:
    seed_everything(0, verbose=False)
    model = Stock()
    trainer(folder, callbacks, **more).fit(model, loader(), ckpt_path=point)
    return [p.detach().clone() for p in model.parameters()]


def _require_same(one: list[Tensor], other: list[Tensor]) -> None:
    """Of two runs that nothing ended; else a difference shows nothing of an end.

    Raises:
        RuntimeError: they are not the same.
    """
    if not _same(one, other):
        raise RuntimeError("two runs of stock Lightning are not the same")


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def signals(folder: Path) -> tuple[int, int, list[int]]:
    """Signals inside accumulation, with ``save_on_exception``, then resumed.

    Returns:
        How many ends are the same, of how many, and the exit codes.

    Raises:
        RuntimeError: it fails, or saves nothing to resume from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = [
        (number, at) for number in (signal.SIGINT, signal.SIGTERM) for at in (5, 9)
    ]
    codes = [forks.apart(_told, folder / str(i), *c) for i, c in enumerate(cases)]
    file = folder / "signals.json"
    if forks.apart(_after_signals, folder, len(cases), file):
        raise RuntimeError(NOT_RUN)
    exact = json.loads(file.read_text(encoding="utf-8"))
    return exact, len(cases), codes


class Alarm(Callback):
    """Sends this process a signal at the start of a batch."""

    def __init__(self, number: int, at: int) -> None:
        self.number, self.at = number, at

    def on_train_batch_start(self, *given: Any) -> None:
        """At one batch only."""
        if given[-1] == self.at:
            os.kill(os.getpid(), self.number)


def _told(folder: Path, number: int, at: int) -> None:
    quiet()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it tells of its end with a traceback
    kept = ModelCheckpoint(
        folder, "{step}", every_n_train_steps=1, save_on_exception=True, save_top_k=-1
    )
    callbacks = [kept, Alarm(number, at)]
    _weights(folder, callbacks, None, accumulate_grad_batches=4)


def _after_signals(folder: Path, cases: int, file: Path) -> None:
    quiet()
    plain = {"enable_checkpointing": False, "accumulate_grad_batches": 4}
    expected, exact = _weights(folder, [], None, **plain), 0
    _require_same(expected, _weights(folder, [], None, **plain))
    for case in range(cases):
        saved = sorted(
            (folder / str(case)).glob("*.ckpt"), key=lambda f: f.stat().st_mtime_ns
        )
        if not saved:
            raise RuntimeError(f"nothing was saved in {folder / str(case)}")
        exact += _same(expected, _weights(folder, [], saved[-1], **plain))
    file.write_text(json.dumps(exact), encoding="utf-8")


def not_finite(folder: Path) -> tuple[int, bool]:
    """A loss that is NaN at one batch: the exit code; are the weights finite?

    Raises:
        RuntimeError: it came to no end that says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "finite.json"
    code = forks.apart(_not_finite, folder, file)
    if code or not file.is_file():
        raise RuntimeError(f"{NOT_RUN}: exit {code}")
    return code, json.loads(file.read_text(encoding="utf-8"))


class Poisoned(Stock):
    """Its loss is NaN at the fourth batch."""

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss, or NaN."""
        loss = super().training_step(batch, index)
        return loss * float("nan") if index == 3 else loss


def _not_finite(folder: Path, file: Path) -> None:
    quiet()
    model = Poisoned()
    trainer(folder, [ModelCheckpoint(folder)]).fit(model, loader())
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
    file.write_text(json.dumps(finite), encoding="utf-8")


def quiet() -> None:
    """In a process of its own: one thread, no notices."""
    forks.as_at_a_prompt()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
