"""What each target of a text costs a model, by known symbols, and in blocks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmzoo.analysis import passes
from lmzoo.metrics import bits_per
from lmzoo.models.base import LanguageModel
from lmzoo.report.spread import Spread, spread
from lmzoo.scoring.common import ready
from lmzoo.text.datamodule import TextDataModule

MOST_BLOCKS, LEAST_CHARS = 20, 1000  # of a text, and in one of them


@dataclass(frozen=True)
class Losses:
    """What each target of a text cost, in the order of the text.

    Attributes:
        nats: of each target, (n,) float64.
        chars: that each target stands for, (n,) float64.
        unknown: targets that the vocabulary lacks, (n,) bool.
        dropped: symbols that were left out of the text because they are unknown.
        places: where each stretch of the text that was read begins and ends, in
            characters, (W, 2); None: all of the text was.
        context: the context rule, in words.
    """

    nats: np.ndarray
    chars: np.ndarray
    unknown: np.ndarray
    dropped: int = 0
    places: np.ndarray | None = None
    context: str = ""

    @property
    def nats_per_token(self) -> float:
        """Mean over all targets."""
        return float(self.nats.mean())

    @property
    def bits_per_char(self) -> float:
        """With what unknown symbols cost as ``<unk>``."""
        return bits_per(float(self.nats.sum()), float(self.chars.sum()))

    @property
    def known_nats_per_char(self) -> float:
        """Over the characters of known symbols only."""
        known = ~self.unknown
        chars = float(self.chars[known].sum())
        return float(self.nats[known].sum()) / chars if chars else math.nan

    @property
    def nats_per_char(self) -> float:
        """With what unknown symbols cost as ``<unk>``."""
        return float(self.nats.sum() / self.chars.sum())

    @property
    def coverage(self) -> float:
        """Share of the text's symbols that the vocabulary has."""
        missing = int(self.unknown.sum()) + self.dropped
        return 1 - missing / max(1, len(self.nats) + self.dropped)

    def blocks(self, number: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Nats and characters of each block, (number,) twice.

        Blocks are runs of equally many characters, so that where the same text was
        read they are the same stretches of it under any tokenizer.
        """
        number = number or block_count(float(self.chars.sum()))
        ends = np.cumsum(self.chars)
        of = ((ends - self.chars) * number / max(ends[-1], 1e-9)).astype(np.int64)
        of = np.minimum(of, number - 1)
        return (
            np.bincount(of, self.nats, number),
            np.maximum(np.bincount(of, self.chars, number), 1e-9),
        )


def block_count(chars: float) -> int:
    """Into how many blocks a text of so many characters is cut."""
    return int(min(MOST_BLOCKS, max(1, chars // LEAST_CHARS)))


def losses(
    model: LanguageModel, data: TextDataModule, split: str, most: int = 0
) -> Losses:
    """Measure ``model`` as its own validation does, and keep every target's loss.

    Args:
        model: any member of the zoo; it is in evaluation mode meanwhile.
        data: the text under the model's tokenizer; the model's training decides whether
            state is carried.
        split: ``train``, ``val`` or ``test``.
        most: about as many targets, evenly spread over the split; 0 for all of them.

    Raises:
        UsageError: the split has no text, or the model's output is not a number.
    """
    part = passes.passage(model, data, split, most or len(data.prepared.tokens(split)))
    with ready(model):
        nats = passes.losses(model, part)
    ids, unk = part.targets, data.tokenizer.unk_id
    unknown = np.zeros(len(ids), bool) if unk is None else ids == unk
    stats = data.prepared.stats[split]
    dropped = 0
    if data.settings.unknown == "skip":  # of all the split, in proportion
        dropped = round(stats.oov * len(ids) / max(1, stats.tokens))
    chars = data.lengths(split)[0].numpy()
    places = None if part.whole else _places(part, chars)
    rule = passes.context_rule(part, model)
    return Losses(nats, chars[ids], unknown, dropped, places, rule)


def _places(part: passes.Passage, chars: np.ndarray) -> np.ndarray:
    """Characters before the first and after the last target of each stretch."""
    after = np.cumsum(chars[np.asarray(part.tokens)])
    return after[np.stack([part.begins, part.ends], axis=1)].round().astype(np.int64)


def interval(found: Losses) -> Spread:
    """Nats per token over the blocks of the text: the mean and its 95 % interval."""
    nats, chars = found.blocks()
    per_token = float(found.chars.sum()) / len(found.nats)  # one factor for all blocks
    return spread((nats / chars * per_token).tolist())


def same_text(one: Losses, other: Losses) -> bool:
    """Whether two models read the same stretches of one text."""
    if one.dropped != other.dropped:
        return False
    if one.places is None or other.places is None:
        return one.places is other.places
    return np.array_equal(one.places, other.places)


def difference(one: Losses, other: Losses) -> Spread:
    """Bits per character of ``one`` less those of ``other``.

    Block by block where both read the same text; else the intervals of the two are
    taken as independent, and are added in quadrature.
    """
    number = block_count(min(float(one.chars.sum()), float(other.chars.sum())))
    rates = [a / b / math.log(2) for a, b in (x.blocks(number) for x in (one, other))]
    if same_text(one, other):
        return spread((rates[0] - rates[1]).tolist())
    first, second = (spread(rate.tolist()) for rate in rates)
    mean = first.mean - second.mean
    if first.half is None or second.half is None:
        return Spread((), mean, None, None)
    half = math.hypot(first.half, second.half)
    return Spread((), mean, None, (mean - half, mean + half))


def neighbours(values: Sequence[float] | np.ndarray) -> float:
    """Correlation of each block with the next one; NaN for fewer than four."""
    centred = np.asarray(values, float) - np.mean(values)
    total = float(centred @ centred)
    if len(centred) < 4 or total == 0:
        return math.nan
    return float(centred[:-1] @ centred[1:]) / total
