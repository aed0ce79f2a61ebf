r"""What is kept of a training text to tell later what was copied from it: no text.

Two Bloom filters (see bloom.py, also for their false positives), one over the hashes of
every span of 12 characters, white space as it stands, one over those of the words (runs
of ``\w``, lower-cased). A text with more of them than there is room for keeps those
whose hash is divisible by ``every``, a power of two: a sample that the content decides,
so that the same spans are known in every text.

It is not a secret box: who can ask whether a span is there can guess text back, span by
span. A run on confidential text is shared without its ``spans.bin``.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo.errors import UsageError
from lmzoo.text.bloom import BASE, HASHES, LEAST, Bloom, Sample, mixed

SPAN = 12  # characters
LONGEST_WORD = 64  # characters; a longer run is cut into words of this length
HEADER = 4096  # bytes at most, all that is not bits
CAP = 4 << 20  # bytes, of the whole file
WORD_ROOM = CAP // 8 - HEADER  # bytes
SPAN_ROOM = CAP - CAP // 8  # bytes
BLOCK = 1 << 17  # characters hashed at a time: their hashes fit a processor's cache
MAGIC = b"lmzoo:spans:1\n"
_WORD = re.compile(rf"\w{{1,{LONGEST_WORD}}}")


@dataclass(frozen=True)
class Spans:
    """The spans and words of a training text, as hashes.

    Attributes:
        spans: of every ``SPAN`` characters that follow one another.
        words: of the words.
        characters: length of the text.
    """

    spans: Bloom
    words: Bloom
    characters: int

    @classmethod
    def build(cls, texts: Iterable[str]) -> "Spans":
        """The spans of the text that ``texts`` are the consecutive pieces of.

        The text is streamed: memory does not grow with it. However it is cut, the
        result is the same.
        """
        spans = Sample(SPAN_ROOM * 8 // LEAST)
        words = Sample(WORD_ROOM * 8 // LEAST)
        characters, tail, word = 0, "", ""
        for block in _blocks(texts):
            characters += len(block)
            spans.add(span_hashes(tail + block))
            tail = (tail + block)[1 - SPAN :]
            whole, word = _whole_words(word + block)
            words.add(word_hashes(whole))
        words.add(word_hashes({word.lower()} - {""}))
        return cls(
            Bloom.of(spans.settled(), spans.every, SPAN_ROOM),
            Bloom.of(words.settled(), words.every, WORD_ROOM),
            characters,
        )

    @property
    def exact(self) -> bool:
        """Whether every span was kept, and not a sample of them."""
        return self.spans.every == 1

    def present(self, text: str) -> np.ndarray:
        """Whether each span of ``text`` is in the training text: bool (len - 11,).

        True is wrong at the filter's false positive rate. False is certain if
        ``exact``; where spans were sampled, those outside the sample are False too.
        """
        at, found = self._known(text)
        present = np.zeros(max(0, len(text) - SPAN + 1), np.bool_)
        present[at] = found
        return present

    def longest(self, text: str) -> tuple[int, int]:
        """Start and length, in characters, of the longest copied span; (0, 0) if none.

        r consecutive spans that are present make r + 11 characters. If ``exact``, this
        is an upper bound: no copied span is longer, but neighbouring spans may come
        from different places of the training text, and false positives lengthen it: in
        a long text of another kind, 12 or 13 characters are found by chance.

        Where spans were sampled, it is approximate: short by the distance to the next
        sampled span at each end (about ``every`` characters), and blind to differences
        that fall between two sampled spans.
        """
        at, found = self._known(text)
        edges = np.flatnonzero(np.diff(found, prepend=False, append=False))
        if not len(edges):
            return 0, 0
        first, last = at[edges[::2]], at[edges[1::2] - 1]
        best = int(np.argmax(last - first))
        return int(first[best]), int(last[best] - first[best]) + SPAN

    def occurs(self, text: str) -> bool | None:
        """Whether all of ``text`` is in the training text.

        False is certain; True means that each of its known spans is there. None: it
        cannot be told, for the text is shorter than a span or has no sampled one.
        """
        _, found = self._known(text)
        return bool(found.all()) if len(found) else None

    def word_share(self, text: str) -> float | None:
        """Share of the words of ``text``, repeats counted, in the training text.

        Strangers are counted at the false positive rate. None: no words to tell of.
        """
        hashes = word_hashes(words(text))
        hashes = hashes[self.words.known(hashes)]
        return float(self.words.holds(hashes).mean()) if len(hashes) else None

    def _known(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Where the spans start that can be told of, and whether each is present."""
        hashes = span_hashes(text)
        at = np.flatnonzero(self.spans.known(hashes))
        return at, self.spans.holds(hashes[at])

    # ---- as a file ------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Magic, a line of JSON, the bits of both filters, SHA-256 of all that."""
        header = {
            "span": SPAN,
            "hashes": HASHES,
            "characters": self.characters,
            **{
                name: {
                    "bytes": len(part.bits),
                    "count": part.count,
                    "every": part.every,
                }
                for name, part in (("spans", self.spans), ("words", self.words))
            },
        }
        line = json.dumps(header).encode() + b"\n"
        body = b"".join(
            (MAGIC, line, self.spans.bits.tobytes(), self.words.bits.tobytes())
        )
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "spans") -> "Spans":
        """What ``to_bytes`` wrote; ``name`` stands in messages.

        Raises:
            UsageError: not such bytes, damaged, or from a newer lmzoo.
        """
        if len(data) > CAP or not data.startswith(MAGIC):
            raise UsageError(f"{name}: not a span file that this lmzoo reads")
        body, digest = memoryview(data)[:-32], data[-32:]
        if hashlib.sha256(body).digest() != digest:
            raise UsageError(f"{name} is damaged: its SHA-256 is another; delete it")
        try:
            start = data.index(b"\n", len(MAGIC), len(MAGIC) + HEADER) + 1
            header = json.loads(data[len(MAGIC) : start])
            return cls._from_parts(header, bytes(body[start:]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"{name}: not a span file of lmzoo ({error})") from error

    @classmethod
    def _from_parts(cls, header: dict[str, Any], bits: bytes) -> "Spans":
        numbers = [header[name] for name in ("span", "hashes", "characters")]
        sizes = [header[part] for part in ("spans", "words")]
        numbers += [part[key] for part in sizes for key in ("bytes", "count", "every")]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a number is missing in its header")
        if numbers[:2] != [SPAN, HASHES]:
            raise ValueError(f"spans of {numbers[0]}, {numbers[1]} hash functions")
        for part in sizes:
            room, power = 8 * part["bytes"], part["every"]
            if power.bit_count() != 1 or power >> 64 or not part["count"] <= room > 0:
                raise ValueError("an impossible number in its header")
        if len(bits) != sum(part["bytes"] for part in sizes):
            raise ValueError("not as long as its header says")
        cut = sizes[0]["bytes"]
        filters = [
            Bloom(np.frombuffer(piece, np.uint8), part["count"], part["every"])
            for piece, part in zip((bits[:cut], bits[cut:]), sizes, strict=True)
        ]
        return cls(filters[0], filters[1], header["characters"])

    @classmethod
    def read(cls, path: Path) -> "Spans":
        """The spans in a file, whose size is looked at before it is read.

        Raises:
            UsageError: unreadable, too large, or not what ``to_bytes`` wrote.
        """
        try:
            with path.open("rb") as file:
                return cls.from_bytes(file.read(CAP + 1), str(path))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from error


def words(text: str) -> list[str]:
    r"""The words of a text: runs of ``\w``, each lower-cased, cut at 64 characters."""
    return [word.lower() for word in _WORD.findall(text)]


def span_hashes(text: str) -> np.ndarray:
    """Hash of each span of ``text``, uint64 (max(0, len - 11),).

    A polynomial in the code points modulo 2^64, by doubling: two neighbours of length s
    make one of length 2s. Its bits are then mixed, for low bits know few characters.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    if len(codes) < SPAN:
        return np.empty(0, np.uint64)
    by_one = codes.astype(np.uint64)
    by_two = by_one[:-1] * BASE + by_one[1:]
    by_four = by_two[:-2] * BASE**2 + by_two[2:]
    by_eight = by_four[:-4] * BASE**4 + by_four[4:]
    return mixed(by_eight[:-4] * BASE**4 + by_four[8:])


def word_hashes(found: Iterable[str]) -> np.ndarray:
    """Hash of each word, uint64 (n,)."""
    digests = (
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for word in found
    )
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def _blocks(texts: Iterable[str]) -> Iterator[str]:
    """The same text in pieces neither small nor large."""
    held: list[str] = []
    size = 0
    for text in texts:
        for begin in range(0, len(text), BLOCK):
            held.append(text[begin : begin + BLOCK])
            size += len(held[-1])
            if size >= BLOCK:
                yield "".join(held)
                held, size = [], 0
    if held:
        yield "".join(held)


def _whole_words(text: str) -> tuple[set[str], str]:
    """Distinct words of ``text``, and the one at its end that may yet go on."""
    tokens = text.split()  # most are repeats, which the pattern need not read again
    tail = tokens.pop() if tokens and not text[-1].isspace() else ""
    found = _WORD.findall(tail)
    cut = bool(found) and tail.endswith(found[-1]) and len(found[-1]) < LONGEST_WORD
    last = found.pop() if cut else ""
    found += _WORD.findall(" ".join(set(tokens)))
    return {word.lower() for word in found}, last
