r"""What is kept of a training text to tell later what was copied from it: no text.

Two Bloom filters (Bloom 1970, doi 10.1145/362686.362692), one over the hashes of every
span of 12 characters, white space as it stands, one over those of the words (runs of
``\w``, lower-cased). A filter of m bits over n items with k hash functions never
misses an item, and takes a stranger for an item at the rate

    f = (1 - (1 - 1/m)^(k n))^k  ~  (1 - e^(-k n / m))^k

which is 0.9 % at 10 bits an item, and 2.2 % at the 8 bits where room runs out. A text
with more items than that keeps those whose hash is divisible by ``every``, a power of
two: a sample that the content decides, so the same spans are known in every text.

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

SPAN = 12  # characters
HASHES = 5  # bits set for each item
WANTED, LEAST = 10, 8  # bits for each item: where there is room, and when it runs out
LONGEST_WORD = 64  # characters; a longer run is cut into words of this length
HEADER = 4096  # bytes at most, all that is not bits
CAP = 4 << 20  # bytes, of the whole file
WORD_ROOM = CAP // 8 - HEADER  # bytes
SPAN_ROOM = CAP - CAP // 8  # bytes
BLOCK = 1 << 17  # characters hashed at a time: their hashes fit a processor's cache
MAGIC = b"lmzoo:spans:1\n"
BASE = np.uint64(0x9E3779B97F4A7C15)
_WORD = re.compile(rf"\w{{1,{LONGEST_WORD}}}")


@dataclass(frozen=True)
class Bloom:
    """Set of 64-bit hashes that has no false negatives.

    Attributes:
        bits: the filter, packed, uint8 (m / 8,).
        count: n, the number of hashes in it.
        every: only hashes divisible by this power of two were put in.
    """

    bits: np.ndarray
    count: int
    every: int = 1

    @classmethod
    def of(cls, hashes: np.ndarray, every: int, room: int) -> "Bloom":
        """A filter over distinct ``hashes``, uint64 (n,), of at most ``room`` bytes."""
        size = min(room, max(8, -(-WANTED * len(hashes) // 8)))
        flags = np.zeros(size * 8, np.bool_)
        for begin in range(0, len(hashes), BLOCK):
            for place in _places(hashes[begin : begin + BLOCK], len(flags)):
                flags[place] = True
        return cls(np.packbits(flags), len(hashes), every)

    @property
    def false_positive_rate(self) -> float:
        """How often a stranger is taken for an item, by the formula above."""
        clear = (1 - 1 / (8 * len(self.bits))) ** (HASHES * self.count)
        return (1 - clear) ** HASHES

    def known(self, hashes: np.ndarray) -> np.ndarray:
        """Whether the filter can tell of each hash: bool (n,), all True unsampled."""
        return hashes & np.uint64(self.every - 1) == 0

    def holds(self, hashes: np.ndarray) -> np.ndarray:
        """Whether each hash is in the filter: bool (n,); only of known ones."""
        found = np.ones(len(hashes), np.bool_)
        for place in _places(hashes, 8 * len(self.bits)):
            shift = (7 - (place & np.uint64(7))).astype(np.uint8)
            found &= (self.bits[place >> np.uint64(3)] >> shift & 1).astype(np.bool_)
        return found


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
        spans = _Sample(SPAN_ROOM * 8 // LEAST)
        words = _Sample(WORD_ROOM * 8 // LEAST)
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
    return _mixed(by_eight[:-4] * BASE**4 + by_four[8:])


def word_hashes(found: Iterable[str]) -> np.ndarray:
    """Hash of each word, uint64 (n,)."""
    digests = (
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for word in found
    )
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


class _Sample:
    """Distinct hashes: all, or once there are more than ``room``, a sample of them.

    ``every`` ends as the smallest power of two that leaves at most ``room`` hashes,
    whatever the order they came in.
    """

    def __init__(self, room: int) -> None:
        self.room, self.every = room, 1
        self._kept: list[np.ndarray] = []
        self._new = 0

    def add(self, hashes: np.ndarray) -> None:
        if self.every > 1:
            hashes = hashes[hashes & np.uint64(self.every - 1) == 0]
        self._kept.append(hashes)
        self._new += len(hashes)
        if self._new > self.room:
            self.settled()

    def settled(self) -> np.ndarray:
        """The distinct hashes, sorted."""
        kept = np.concatenate([np.empty(0, np.uint64), *self._kept])
        self._kept = []
        kept.sort()
        first = np.ones(len(kept), np.bool_)
        np.not_equal(kept[1:], kept[:-1], out=first[1:])
        kept = kept[first]  # many times faster than numpy.unique
        while len(kept) > self.room:
            self.every *= 2
            kept = kept[kept & np.uint64(self.every - 1) == 0]
        self._kept, self._new = [kept], 0
        return kept


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


def _places(hashes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The bits of each hash in a filter of ``size`` bits, one array a hash function.

    All from two halves of one hash (Kirsch and Mitzenmacher 2006).
    """
    low = np.uint64(0xFFFFFFFF)
    first, second = hashes >> np.uint64(32), _mixed(hashes * BASE) | np.uint64(1)
    for turn in range(HASHES):
        place = first + np.uint64(turn) * second & low
        yield place * np.uint64(size) >> np.uint64(32)


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Every bit of a hash made to depend on all its bits: MurmurHash3's finalizer."""
    hashes = hashes ^ hashes >> np.uint64(33)
    hashes *= np.uint64(0xFF51AFD7ED558CCD)
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xC4CEB9FE1A85EC53)
    hashes ^= hashes >> np.uint64(33)
    return hashes
