"""One figure over a few seeds: its mean, and how far the mean can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmzoo.report.student import quantile

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """One figure over seeds: mean, standard deviation, interval of the mean."""

    values: tuple[float, ...]
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.interval is None else self.interval[1] - self.mean


def spread(values: Sequence[float]) -> Spread:
    """Mean over seeds with Student's 95 % interval; one seed has none."""
    known = tuple(float(value) for value in values if math.isfinite(value))
    if len(known) < 2:
        return Spread(known, known[0] if known else math.nan, None, None)
    mean, deviation = float(np.mean(known)), float(np.std(known, ddof=1))
    half = quantile(LEVEL, len(known) - 1) * deviation / math.sqrt(len(known))
    return Spread(known, mean, deviation, (mean - half, mean + half))
