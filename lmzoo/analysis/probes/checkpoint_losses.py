"""Losses of a run's checkpoints, and what the run itself logged."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmzoo.analysis.history import History
from lmzoo.analysis.passes import Passage, half_width, losses
from lmzoo.metrics import bits_per
from lmzoo.report.spread import Spread
from lmzoo.text.datamodule import TextDataModule


@dataclass(frozen=True)
class Loss:
    """What one part of the text costs: nats per token with half its 95 % interval."""

    nll: float
    half: float | None
    bits_per_char: float

    @property
    def figure(self) -> Spread:
        """As the report writes a figure with an interval."""
        between = (
            None if self.half is None else (self.nll - self.half, self.nll + self.half)
        )
        return Spread((self.nll,), self.nll, None, between)


@dataclass(frozen=True)
class Point:
    """A checkpoint's losses, and what the run logged for the held-out part."""

    step: int
    train: Loss
    held_out: Loss
    logged: float | None

    @property
    def gap(self) -> float:
        """Held-out loss minus train loss, nats."""
        return self.held_out.nll - self.train.nll

    def plain(self) -> dict[str, Any]:
        """As a row of a flat table."""
        row: dict[str, Any] = {"step": self.step}
        for name, loss in (("train", self.train), ("held_out", self.held_out)):
            row[f"{name}_nll"] = loss.nll
            row[f"{name}_half_width"] = loss.half
            row[f"{name}_bits_per_char"] = loss.bits_per_char
        row["gap"], row["logged_val_nll"] = self.gap, self.logged
        return row


def measurer(where: Passage, data: TextDataModule, split: str) -> Callable[..., Loss]:
    """A function that takes a model to its loss on these stretches of a split."""
    chars = float(data.lengths(split)[0].numpy()[where.targets].sum())

    def measure(model: Any) -> Loss:
        nats = losses(model, where)
        return Loss(
            float(nats.mean()), half_width(nats), bits_per(float(nats.sum()), chars)
        )

    return measure


def logged(history: History) -> dict[int, float]:
    """Step -> validation loss as the run logged it; empty where there is no log."""
    file = history.folder / "metrics.csv" if history.folder else None
    if file is None or not file.is_file():
        return {}
    found: dict[int, float] = {}
    with file.open(encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            try:
                found[int(row["step"])] = float(row["val/nll"])
            except (KeyError, TypeError, ValueError):  # a row of training, or torn
                continue
    return found
