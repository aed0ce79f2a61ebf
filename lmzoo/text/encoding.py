"""One split as ids, with its books: characters, bytes, unknown symbols, documents."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lmzoo.errors import UsageError
from lmzoo.text.corpora import END_OF_DOCUMENT, Piece
from lmzoo.text.protocol import Tokenizer
from lmzoo.text.tokenizers import encode_pieces


@dataclass
class SplitStats:
    """What one split holds. ``oov``: symbols that the vocabulary lacks."""

    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    oov: int = 0
    documents: int = 0


class SplitEncoder:
    """Encodes one split and keeps its books."""

    def __init__(
        self, tokenizer: Tokenizer, split: str, unknown: str, stats: SplitStats
    ) -> None:
        self.tokenizer, self.split, self.stats = tokenizer, split, stats
        self.unknown = unknown

    def run(self, pieces: Iterator[Piece], limit: int | None) -> Iterator[np.ndarray]:
        """Ids of the split, at most ``limit`` of them."""
        between = True
        for group, ids in encode_pieces(self.tokenizer, pieces):
            texts = [piece for piece in group if isinstance(piece, str)]
            ids, chars, sizes = self._apply_policy(ids, texts)
            if limit is not None and self.stats.tokens + len(ids) > limit:
                kept = ids[: limit - self.stats.tokens]
                chars = self._shorter(ids, kept, chars, self.tokenizer.token_chars)
                sizes = self._shorter(ids, kept, sizes, self.tokenizer.token_bytes)
                cut = ids[len(kept) :]
                if self.unknown != "skip" and self.tokenizer.unk_id is not None:
                    self.stats.oov -= int((cut == self.tokenizer.unk_id).sum())
                ids = kept
            for piece in group:
                self.stats.documents += between and piece is not END_OF_DOCUMENT
                between = piece is END_OF_DOCUMENT
            self.stats.characters += round(chars)
            self.stats.bytes += round(sizes)
            self.stats.tokens += len(ids)
            yield ids
            if limit is not None and self.stats.tokens >= limit:
                return

    def _apply_policy(
        self, ids: np.ndarray, texts: list[str]
    ) -> tuple[np.ndarray, float, float]:
        """Ids, characters and bytes after what is said about unknown symbols."""
        chars = float(sum(map(len, texts)))
        sizes = float(sum(map(_utf8_length, texts)))
        unk = self.tokenizer.unk_id
        known = ids != unk if unk is not None else None
        if known is None or known.all():
            return ids, chars, sizes
        self.stats.oov += len(ids) - int(known.sum())
        if self.unknown == "error":
            found = (self.tokenizer.first_unknown(text) for text in texts)
            symbol = next((symbol for symbol in found if symbol is not None), "")
            raise UsageError(
                f"{self.split} text: {symbol!r} is not in the vocabulary of the "
                f"{self.tokenizer.kind} tokenizer; choose --data.unknown unk or skip, "
                "or --data.vocabulary all"
            )
        if self.unknown == "skip":
            ids = ids[known]
            chars = float(self.tokenizer.token_chars[ids].sum())
            sizes = float(self.tokenizer.token_bytes[ids].sum())
        return ids, chars, sizes

    def _shorter(
        self, ids: np.ndarray, kept: np.ndarray, total: float, lengths: np.ndarray
    ) -> float:
        """The part of ``total`` that belongs to the ``kept`` ids."""
        lengths = lengths.copy()
        counts = np.bincount(ids, minlength=len(lengths))
        fit_lengths(lengths, counts, self.tokenizer.unk_id, total)
        return float(lengths[kept].sum())


def fit_lengths(
    lengths: np.ndarray, counts: np.ndarray, unk_id: int | None, total: float
) -> None:
    """Set the unknown's length, in place, so that all lengths add up to ``total``."""
    if unk_id is not None and counts[unk_id]:
        lengths[unk_id] = 0.0
        rest = total - float(counts @ lengths)
        lengths[unk_id] = max(rest, 0.0) / counts[unk_id]
    found = float(counts @ lengths)
    if found and abs(found - total) > 1e-6:  # a lossy tokenizer.json
        lengths *= total / found


def count_ids(ids: np.ndarray, size: int) -> np.ndarray:
    """How often each id occurs, (size,), reading a slice at a time."""
    counts = np.zeros(size, np.int64)
    for begin in range(0, len(ids), 1 << 22):
        counts += np.bincount(ids[begin : begin + (1 << 22)], minlength=size)
    return counts


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
