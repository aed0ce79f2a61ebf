"""A set of hashes in few bits: a Bloom filter (Bloom 1970, doi 10.1145/362686.362692).

A filter of m bits over n items with k hash functions never misses an item, and takes a
stranger for an item at the rate

    f = (1 - (1 - 1/m)^(k n))^k  ~  (1 - e^(-k n / m))^k

which is 0.9 % at 10 bits an item, and 2.2 % at the 8 bits where room runs out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

HASHES = 5  # k: bits set for each item
WANTED, LEAST = 10, 8  # bits for each item: where there is room, and when it runs out
BASE = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 1 << 17  # hashes at a time: they fit a processor's cache


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


class Sample:
    """Distinct hashes: all, or once there are more than ``room``, a sample of them.

    ``every`` ends as the smallest power of two that leaves at most ``room`` hashes,
    whatever the order they came in.
    """

    def __init__(self, room: int) -> None:
        self.room, self.every = room, 1
        self._kept: list[np.ndarray] = []
        self._new = 0

    def add(self, hashes: np.ndarray) -> None:
        """Take in some hashes, uint64 (n,), in any order and number."""
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


def mixed(hashes: np.ndarray) -> np.ndarray:
    """Every bit of a hash made to depend on all its bits: MurmurHash3's finalizer."""
    hashes = hashes ^ hashes >> np.uint64(33)
    hashes *= np.uint64(0xFF51AFD7ED558CCD)
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xC4CEB9FE1A85EC53)
    hashes ^= hashes >> np.uint64(33)
    return hashes


def _places(hashes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The bits of each hash in a filter of ``size`` bits, one array a hash function.

    All from two halves of one hash (Kirsch and Mitzenmacher 2006).
    """
    low = np.uint64(0xFFFFFFFF)
    first, second = hashes >> np.uint64(32), mixed(hashes * BASE) | np.uint64(1)
    for turn in range(HASHES):
        place = first + np.uint64(turn) * second & low
        yield place * np.uint64(size) >> np.uint64(32)
