"""How much several samples of one model vary, and how much of them is copied.

- distinct-n: distinct n-grams, divided by all n-grams of all samples (Li et al. 2016,
  arXiv 1510.03055, divide by the tokens: the same for n = 1). 1: nothing is repeated.
- edit distance: Levenshtein distance of two samples in characters, divided by the
  length of the longer one, mean over all pairs. 0: they are equal.
- self-overlap: share of a sample's word 4-grams that occur in another sample, mean over
  the samples (the question of Self-BLEU, Zhu et al. 2018, arXiv 1802.01886, without its
  geometric mean). 1: every phrase is shared.

Words are runs of letters, digits and ``_``, lower-cased.
"""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from lmzoo.errors import UsageError
from lmzoo.text.spans import SPAN, Spans, words

ORDERS = (1, 2, 3)
PHRASE = 4  # words
MISSING = "needs a run folder with spans.bin, the hashes of its training text"


@dataclass(frozen=True)
class Variability:
    """What N samples have in common; None where there is nothing to count.

    Attributes:
        samples: N.
        characters: of all samples.
        words: of all samples.
        distinct_words: distinct-1, -2, -3 over words.
        distinct_characters: distinct-1, -2, -3 over characters.
        edit_distance: mean pairwise, in [0, 1].
        self_overlap: in [0, 1].
        known_words: share of the words, repeats counted, in the training text.
        longest_copied: characters of the longest span copied from the training text,
            of all samples; 0 if none has ``SPAN``.
        copied: that span.
        note: how far ``longest_copied`` can be trusted, or why it is None.
    """

    samples: int
    characters: int
    words: int
    distinct_words: tuple[float | None, ...]
    distinct_characters: tuple[float | None, ...]
    edit_distance: float | None
    self_overlap: float | None
    known_words: float | None
    longest_copied: int | None
    copied: str | None
    note: str

    def plain(self) -> dict[str, Any]:
        """All of it, JSON-plain."""
        found = asdict(self)
        lists = ("distinct_words", "distinct_characters")
        return {**found, **{name: list(found[name]) for name in lists}}

    def rows(self) -> list[tuple[str, str]]:
        """(what, value) of each line of a table."""
        known, copied = _share(self.known_words), f"{self.longest_copied} characters"
        if self.longest_copied is None:
            known = copied = self.note
        elif not self.copied:
            copied = f"fewer than {SPAN} characters, the shortest that can be told"
        else:
            shown = self.copied if len(self.copied) <= 40 else f"{self.copied[:39]}…"
            copied += f": {shown!r}"
        return [
            ("distinct-1/2/3, words", " / ".join(map(_share, self.distinct_words))),
            (
                "distinct-1/2/3, characters",
                " / ".join(map(_share, self.distinct_characters)),
            ),
            ("edit distance, mean of pairs", _share(self.edit_distance)),
            (f"self-overlap, {PHRASE}-grams of words", _share(self.self_overlap)),
            ("words in the training text", known),
            ("longest span copied", copied),
        ]

    def __str__(self) -> str:
        head = (
            f"{self.samples} samples, {self.characters:,} characters, "
            f"{self.words:,} words"
        )
        wide = max(len(what) for what, _ in self.rows())
        lines = [f"{what:<{wide}}  {value}" for what, value in self.rows()]
        said = [] if self.longest_copied is None else [f"copied by {self.note}"]
        return "\n".join([head, *lines, *said])


def variability(samples: Sequence[str], spans: Spans | None = None) -> Variability:
    """Measure ``samples``, the texts that one model made (without their prompts).

    Args:
        samples: one text or more.
        spans: of the training text (``lmzoo.runs.read_spans``); without them what is
            copied cannot be told.

    Raises:
        UsageError: no sample.
    """
    if not samples:
        raise UsageError("no samples to compare: generate at least one")
    split = [words(sample) for sample in samples]
    distances = [edit_distance(a, b) for a, b in combinations(samples, 2)]
    longest, copied = _copied(samples, spans)
    return Variability(
        samples=len(samples),
        characters=sum(map(len, samples)),
        words=sum(map(len, split)),
        distinct_words=tuple(distinct(split, order) for order in ORDERS),
        distinct_characters=tuple(distinct(samples, order) for order in ORDERS),
        edit_distance=_mean(distances),
        self_overlap=self_overlap(split),
        known_words=spans.word_share("\n".join(samples)) if spans else None,
        longest_copied=longest,
        copied=copied,
        note=_note(spans),
    )


def distinct(samples: Sequence[Sequence[Hashable]], order: int) -> float | None:
    """Distinct n-grams of all samples together, divided by their number."""
    found = [gram for sample in samples for gram in _grams(sample, order)]
    return len(set(found)) / len(found) if found else None


def self_overlap(samples: Sequence[Sequence[Hashable]]) -> float | None:
    """Mean share of a sample's ``PHRASE``-grams that occur in another sample.

    Samples without such a phrase are left out. None: a single sample, or none has one.
    """
    if len(samples) < 2:
        return None
    phrases = [_grams(sample, PHRASE) for sample in samples]
    holders: dict[Hashable, int] = {}
    for found in phrases:
        for gram in set(found):
            holders[gram] = holders.get(gram, 0) + 1
    return _mean(
        [
            sum(holders[gram] > 1 for gram in found) / len(found)
            for found in phrases
            if found
        ]
    )


def edit_distance(one: str, other: str) -> float:
    """Levenshtein distance divided by the length of the longer; 0 if both are empty."""
    return levenshtein(one, other) / max(len(one), len(other), 1)


def levenshtein(one: str, other: str) -> int:
    """Fewest insertions, deletions and substitutions that turn one into the other.

    A column of the table of distances is two integers, whose bits say where it goes up
    and down by one (Myers 1999, doi 10.1145/316542.316550, in Hyyrö's form of 2003):
    len(other) steps, each over len(one) bits.
    """
    if not one:
        return len(other)
    where: dict[str, int] = {}
    for row, character in enumerate(one):
        where[character] = where.get(character, 0) | 1 << row
    every, last = (1 << len(one)) - 1, 1 << len(one) - 1
    up, down, distance = every, 0, len(one)
    for character in other:
        match = where.get(character, 0)
        level = ((match & up) + up ^ up) | match | down  # diagonals that cost nothing
        right_up = down | ~(level | up) & every
        right_down = up & level
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = right_up << 1 | 1
        up = (right_down << 1 | ~(level | right_up)) & every
        down = right_up & level & every
    return distance


def _grams(sample: Sequence[Hashable], order: int) -> list[Hashable]:
    return list(zip(*(sample[start:] for start in range(order)), strict=False))


def _copied(
    samples: Sequence[str], spans: Spans | None
) -> tuple[int | None, str | None]:
    """Length and text of the longest copied span."""
    if spans is None:
        return None, None
    found = [(sample, *spans.longest(sample)) for sample in samples]
    sample, start, length = max(found, key=lambda one: one[2])
    return length, sample[start : start + length]


def _note(spans: Spans | None) -> str:
    if spans is None:
        return MISSING
    if spans.exact:
        return (
            f"the hashes of all {SPAN}-character spans, an upper bound; "
            f"{spans.spans.false_positive_rate:.1%} false positives"
        )
    return (
        f"the hashes of one {SPAN}-character span in {spans.spans.every}, "
        f"approximate; {spans.spans.false_positive_rate:.1%} false positives"
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
