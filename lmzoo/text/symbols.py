"""Tokenizers whose tokens can be listed: characters, words, bytes."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from lmzoo.errors import UsageError
from lmzoo.text.protocol import (
    END,
    REPLACEMENT,
    UNKNOWN,
    Tokenizer,
    byte_lengths,
    lengths_of,
    utf8,
)

CODE_POINTS = 0x110000
_BLOCK = 1 << 16  # characters looked up at a time: what stays in a core's cache
WORDS = re.compile(r" ?\w+| ?[^\w\s]|\s")  # covers every character: reversible


class ListedTokenizer(Tokenizer):
    """Known symbols 0..n-1, then the unknown, then perhaps the end of a document."""

    def __init__(self, known: Sequence[str], end_of_document: bool) -> None:
        self.known = list(known)
        self.unk_id = len(self.known)
        self.eod_id = self.unk_id + 1 if end_of_document else None
        self.vocab_size = self.unk_id + 1 + end_of_document
        chars, sizes = lengths_of(self.known)
        special = [1.0, 0.0][: 1 + end_of_document]
        self.token_chars = np.concatenate([chars, special])
        self.token_bytes = np.concatenate([sizes, special])

    def state(self) -> dict[str, Any]:
        """See ``Tokenizer.state``."""
        return {
            "kind": self.kind,
            "version": 1,
            "symbols": self.known,
            "end_of_document": self.eod_id is not None,
        }

    def extended(self, other: "ListedTokenizer") -> "ListedTokenizer":
        """These symbols and those of ``other`` that are new, in a new tokenizer."""
        ends = self.eod_id is not None or other.eod_id is not None
        return type(self)(list(dict.fromkeys([*self.known, *other.known])), ends)

    def split(self, text: str) -> list[str]:
        """The symbols of ``text``, known or not, in order."""
        raise NotImplementedError(f"{type(self).__name__} has no split")

    def lengths_in(self, text: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Tokenizer.lengths_in``."""
        if (ids != self.unk_id).all():
            return super().lengths_in(text, ids)
        return lengths_of(self.split(text))

    def symbols(self) -> list[str]:
        """See ``Tokenizer.symbols``."""
        return [*self.known, UNKNOWN] + [END] * (self.eod_id is not None)


class CharTokenizer(ListedTokenizer):
    """Unicode code points, encoded by one table look-up."""

    kind = "char"

    def __init__(self, characters: Iterable[str], end_of_document: bool = False):
        super().__init__(sorted(set(characters)), end_of_document)
        codes = [ord(character) for character in self.known]
        self._id_of = np.full(CODE_POINTS, self.unk_id, np.int32)
        self._id_of[codes] = np.arange(len(codes), dtype=np.int32)
        self._ascii = self._id_of[:128].copy()
        self._code_of = np.array([*codes, ord(REPLACEMENT), 0], np.uint32)

    @classmethod
    def train(cls, texts: Iterable[str], end_of_document: bool = False):
        """The characters that occur in ``texts``."""
        seen = np.zeros(CODE_POINTS, bool)
        for text in texts:
            for begin in range(0, len(text), _BLOCK):
                seen[_code_points(text[begin : begin + _BLOCK])] = True
        return cls(map(chr, np.flatnonzero(seen)), end_of_document)

    def encode(self, text: str) -> np.ndarray:
        """See ``Tokenizer.encode``."""
        ids = np.empty(len(text), np.int32)
        for begin in range(0, len(text), _BLOCK):
            codes = _code_points(text[begin : begin + _BLOCK])
            table = self._ascii if codes.dtype == np.uint8 else self._id_of
            # no code lies outside its table; "clip" spares take() a buffer
            table.take(codes, out=ids[begin : begin + _BLOCK], mode="clip")
        return ids

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """See ``Tokenizer.decode``."""
        array = self._checked(ids)
        if self.eod_id is not None:
            array = array[array != self.eod_id]
        return self._code_of[array].tobytes().decode("utf-32-le", "surrogatepass")

    def split(self, text: str) -> list[str]:
        """See ``ListedTokenizer.split``."""
        return list(text)

    def first_unknown(self, text: str) -> str | None:
        """See ``Tokenizer.first_unknown``."""
        known = set(self.known)
        return next((character for character in text if character not in known), None)


def _code_points(text: str) -> np.ndarray:
    """Code points, uint8 for ASCII text and uint32 otherwise, (len(text),)."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


class WordTokenizer(ListedTokenizer):
    """Words with the space before them, and punctuation, each its own token.

    Reversible: the tokens of a text joined are the text, where all are known.
    """

    kind = "word"
    whole_words = True

    def __init__(self, words: Sequence[str], end_of_document: bool = False) -> None:
        super().__init__(words, end_of_document)
        self._id_of = {word: i for i, word in enumerate(self.known)}
        self._text_of = [*self.known, REPLACEMENT, ""]

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        end_of_document: bool = False,
        min_frequency: int = 1,
        max_size: int | None = None,
    ):
        """The most frequent words, equal counts in alphabetical order.

        Args:
            texts: cut at white space only.
            end_of_document: whether documents will be joined.
            min_frequency: rarer words are unknown.
            max_size: at most this vocabulary, special tokens included.

        Raises:
            UsageError: no word is left.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(WORDS.findall(text))
        kept = [word for word, count in counts.items() if count >= min_frequency]
        kept.sort(key=lambda word: (-counts[word], word))
        if max_size is not None:
            kept = kept[: max(0, max_size - 1 - end_of_document)]
        if not kept:
            most = max(counts.values(), default=0)
            raise UsageError(
                f"--data.min_frequency {min_frequency} leaves no word (the most "
                f"frequent of {len(counts):,} occurs {most:,} times); lower it"
            )
        return cls(kept, end_of_document)

    def encode(self, text: str) -> np.ndarray:
        """See ``Tokenizer.encode``."""
        words = self.split(text)
        found = map(self._id_of.get, words, repeat(self.unk_id))
        return np.fromiter(found, np.int32, len(words))

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """See ``Tokenizer.decode``."""
        return "".join([self._text_of[i] for i in self._checked(ids)])

    def split(self, text: str) -> list[str]:
        """See ``ListedTokenizer.split``."""
        return WORDS.findall(text)

    def first_unknown(self, text: str) -> str | None:
        """See ``Tokenizer.first_unknown``."""
        return next(
            (word for word in self.split(text) if word not in self._id_of), None
        )


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8: nothing to learn, nothing unknown."""

    kind = "byte"
    unk_id = None

    def __init__(self, end_of_document: bool = False) -> None:
        self.eod_id = 256 if end_of_document else None
        self.vocab_size = 256 + end_of_document
        every = [bytes([byte]) for byte in range(256)] + [b""] * end_of_document
        self.token_chars, self.token_bytes = byte_lengths(every)

    def encode(self, text: str) -> np.ndarray:
        """See ``Tokenizer.encode``."""
        return np.frombuffer(utf8(text), np.uint8).astype(np.int32)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """See ``Tokenizer.decode``."""
        array = self._checked(ids)
        return array[array < 256].astype(np.uint8).tobytes().decode("utf-8", "replace")

    def state(self) -> dict[str, Any]:
        """See ``Tokenizer.state``."""
        ends = self.eod_id is not None
        return {"kind": self.kind, "version": 1, "end_of_document": ends}

    def symbols(self) -> list[str]:
        """See ``Tokenizer.symbols``."""
        return [f"<0x{byte:02X}>" for byte in range(256)] + [END] * (
            self.eod_id is not None
        )
