"""Better, worse, or no difference shown: over paired seeds and blocks of text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmzoo.report.spread import spread
from lmzoo.report.words import between, signed

Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """One model less another, in nats per character; below 0 is better.

    Attributes:
        mean: over seeds and blocks.
        over_blocks: 95 % interval over blocks of text, seeds averaged; None for one.
        over_seeds: over seeds, blocks averaged; None for one seed.
    """

    mean: float
    over_blocks: Interval | None
    over_seeds: Interval | None

    @property
    def interval(self) -> Interval | None:
        """Both together, chance in the text and in the training, in quadrature."""
        known = [one for one in (self.over_blocks, self.over_seeds) if one]
        if not known:
            return None
        half = math.hypot(*((high - low) / 2 for low, high in known))
        return self.mean - half, self.mean + half

    @property
    def word(self) -> str:
        """``better``, ``worse`` or ``no difference shown``."""
        interval = self.interval
        if interval is None or interval[0] <= 0 <= interval[1]:
            return "no difference shown"
        return "better" if interval[1] < 0 else "worse"

    def shown(self) -> str:
        """``better: −0.512 (−0.530 to −0.494)``."""
        return f"{self.word}: {signed(self.mean)} ({between(self.interval)})"

    def plain(self) -> dict[str, Any]:
        """JSON-plain."""
        return {
            "mean": self.mean,
            "over_blocks": self.over_blocks,
            "over_seeds": self.over_seeds,
            "verdict": self.word,
        }


def verdict(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> Verdict:
    """Compare two sets of losses, each seeds x blocks, paired in both.

    The seed shares the order of the batches, the block the text; so what they share
    cancels in the difference.
    """
    gap = np.asarray(one, float) - np.asarray(other, float)  # (seeds, blocks)
    blocks, seeds = spread(gap.mean(0).tolist()), spread(gap.mean(1).tolist())
    return Verdict(float(gap.mean()), blocks.interval, seeds.interval)
