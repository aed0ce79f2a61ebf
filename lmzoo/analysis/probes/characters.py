"""How often each character of a corpus occurs, and what two corpora share."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmzoo.analysis.texts import where
from lmzoo.errors import UsageError
from lmzoo.text.corpora import END_OF_DOCUMENT, Piece, resolve_corpus

CODE_POINTS = 0x110000
AT_ONCE = 1 << 20  # characters counted at a time


@dataclass(frozen=True)
class Characters:
    """The characters of a text and how often each occurs, the most frequent first.

    Attributes:
        name: of the corpus.
        symbols: each once; equal counts in the order of their code points.
        counts: of each, int64 (n,).
        documents: how many the text consists of.
        notes: what reading the text changed or left out.
    """

    name: str
    symbols: list[str]
    counts: np.ndarray
    documents: int
    notes: list[str]

    @property
    def total(self) -> int:
        """Characters of the text."""
        return int(self.counts.sum())

    @property
    def shares(self) -> np.ndarray:
        """Of the text, float64 (n,)."""
        return self.counts / self.total

    @property
    def entropy(self) -> float:
        """Bits per character of the frequencies alone (Shannon 1948, order 1)."""
        return float(-(self.shares * np.log2(self.shares)).sum())

    @cached_property
    def known(self) -> frozenset[str]:
        """The set of characters."""
        return frozenset(self.symbols)

    def jaccard(self, other: "Characters") -> float:
        """Characters that both have, divided by those that either has."""
        return len(self.known & other.known) / len(self.known | other.known)

    def missing(self, other: "Characters") -> list[tuple[str, int]]:
        """What ``other`` has and this has not, with its counts there."""
        pairs = zip(other.symbols, other.counts.tolist(), strict=True)
        return [(symbol, count) for symbol, count in pairs if symbol not in self.known]

    def unknown_share(self, other: "Characters") -> float:
        """Share of the text of ``other`` whose characters this does not have."""
        return sum(count for _, count in self.missing(other)) / other.total


def characters_of(corpus: str) -> Characters:
    """Count a corpus, streaming it: memory does not grow with the text.

    Args:
        corpus: a named corpus, or a file, folder or glob.

    Raises:
        UsageError: no such corpus, or nothing to read in it.
    """
    try:
        found = resolve_corpus(**where(corpus))
        counts, documents = count(found.pieces())
    except UsageError as error:
        raise UsageError(plainly(str(error))) from error
    if not counts.any():
        raise UsageError(f"{corpus}: holds no text; give a corpus with characters")
    codes = np.flatnonzero(counts)
    codes = codes[np.argsort(-counts[codes], kind="stable")]
    symbols = [chr(code) for code in codes.tolist()]
    return Characters(found.name, symbols, counts[codes], documents, found.notes)


def count(pieces: Iterable[Piece]) -> tuple[np.ndarray, int]:
    """How often each code point occurs, int64 (CODE_POINTS,), and the documents."""
    counts, ends = np.zeros(CODE_POINTS, np.int64), 0
    for piece in pieces:
        if piece is END_OF_DOCUMENT:
            ends += 1
            continue
        for begin in range(0, len(piece), AT_ONCE):
            found = np.bincount(code_points(piece[begin : begin + AT_ONCE]))
            counts[: len(found)] += found
    return counts, ends + bool(counts.any())


def code_points(text: str) -> np.ndarray:
    """Code points of a text, (len(text),)."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def plainly(message: str) -> str:
    """A message without the options of ``lmzoo fit``, which are not typed here."""
    return message.replace("--data.corpus ", "").replace("--data.path ", "")
