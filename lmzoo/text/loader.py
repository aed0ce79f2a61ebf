"""Batches straight from the memory-mapped tokens: no workers, no hidden state.

A training batch is a pure function of (seed, global position in samples), so a run
resumes exactly from one integer, and ranks that each take their rows of the global
batch see together what one process sees. Evaluation counts every target once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.text.sizes import BatchSizes

IGNORED = -100  # a target that is not counted, as in torch's cross_entropy
ORDERS = ("random", "epoch", "stream")
PROTOCOLS = ("windows", "carried")
_MASK = (1 << 64) - 1


class Batch(NamedTuple):
    """Token windows and what follows each token.

    Attributes:
        tokens: (B, T) int64.
        targets: (B, T) int64, the next token; -100 where not counted.
        position: global index of the first sample, before ranks take their rows.
        first: a carried state must start afresh here.
    """

    tokens: Tensor
    targets: Tensor
    position: int
    first: bool


class WindowLoader:
    """An endless iterator over training batches, from ``position`` on.

    Args:
        tokens: ids of the split, (n,).
        context_length: T, tokens in a window.
        batch_size: B over all ranks.
        order: ``random``: windows at independent uniform places. ``epoch``: windows
            side by side, in a new order each epoch, every target once (the last window
            reaches back where the text does not divide, and counts only what is new).
            ``stream``: B contiguous rows read in order, for carried state.
        seed: decides the places and orders.
        position: samples already used; the next iteration starts there.
        rank: gives the rows of the global batch from rank * B / world_size on.
        world_size: number of ranks.
        sizes: B at each position, where it changes; not for ``stream``.

    Raises:
        UsageError: the text is too short, or B does not divide among the ranks.
        ValueError: an unknown order or a rank outside the world.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        context_length: int,
        batch_size: int,
        order: str = "random",
        seed: int = 1337,
        position: int = 0,
        rank: int = 0,
        world_size: int = 1,
        sizes: BatchSizes | None = None,
    ) -> None:
        _check(order in ORDERS, f"order: expected one of {ORDERS}, given {order!r}")
        _check(0 <= rank < world_size, f"rank {rank} of world size {world_size}")
        self.tokens = np.asarray(tokens)  # a memory map's plain view gathers faster
        self.context_length = context_length
        self.batch_size = batch_size
        self.order = order
        self.seed = seed
        self.position = position
        self.left_out: tuple[int, int] = (0, 0)  # samples not yielded, [begin, end)
        self._targets = len(tokens) - 1
        if self._targets < context_length:
            raise UsageError(too_short("training", len(tokens), context_length + 1))
        self.sizes = sizes or BatchSizes(batch_size)
        self.sizes.require_multiples(world_size)
        if order == "stream" and self._targets < batch_size:
            raise UsageError(
                f"--data.batch_size {batch_size}: more rows than the {self._targets:,} "
                "tokens to train on; lower it"
            )
        self._rows = {  # of this rank, by the size of the whole batch
            size: rank * (size // world_size) + np.arange(size // world_size)
            for size in self.sizes.sizes
        }
        self._orders: dict[int, np.ndarray] = {}

    @property
    def samples_per_epoch(self) -> int:
        """Samples after which every target was used once (random: as many)."""
        if self.order == "stream":
            return self.batch_size * self._chunks
        return _divided(self._targets, self.context_length)

    @property
    def unused(self) -> int:
        """Targets that one epoch of the stream leaves out; the next one takes them."""
        return self._targets % self.batch_size if self.order == "stream" else 0

    @property
    def _chunks(self) -> int:
        return _divided(self._targets // self.batch_size, self.context_length)

    def __iter__(self) -> Iterator[Batch]:
        position = self._allowed(self.position)
        while True:
            yield self.batch(position)
            position = self._allowed(position + self.sizes.at(position))

    def _allowed(self, position: int) -> int:
        """``position``, or the first after it that is not left out."""
        begin, end = self.left_out
        return end if begin <= position < end else position

    def batch(self, position: int) -> Batch:
        """This rank's rows of the batch whose first sample is ``position``."""
        if self.order == "stream":
            return self._stream(position)
        samples = position + self._rows[self.sizes.at(position)]
        if self.order == "random":
            places = self._targets - self.context_length + 1
            starts = _hashed(self.seed, samples) % np.uint64(places)
            begins = starts.astype(np.int64)
            fresh = begins
        else:
            fresh = self._shuffled(samples) * self.context_length
            begins = np.minimum(fresh, self._targets - self.context_length)
        inputs = begins[:, None] + np.arange(self.context_length)  # (B, T)
        tokens, targets = _gather(self.tokens, inputs, inputs >= fresh[:, None])
        return Batch(tokens, targets, position, True)

    def _shuffled(self, samples: np.ndarray) -> np.ndarray:
        """The window that each sample takes in its epoch's order, (B,)."""
        epochs, places = np.divmod(samples, self.samples_per_epoch)
        windows = np.empty_like(samples)
        for epoch in np.unique(epochs).tolist():
            windows[epochs == epoch] = self._order(epoch)[places[epochs == epoch]]
        return windows

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            while len(self._orders) > 1:  # a batch may straddle two epochs
                del self._orders[next(iter(self._orders))]
            generator = np.random.Generator(np.random.PCG64((self.seed, epoch)))
            self._orders[epoch] = generator.permutation(self.samples_per_epoch)
        return self._orders[epoch]

    def _stream(self, position: int) -> Batch:
        number, odd = divmod(position, self.batch_size)
        if odd:
            raise UsageError(
                f"--data.batch_size {self.batch_size}: position {position} of the "
                "stream was not reached with it; resume with the size of the run"
            )
        epoch, chunk = divmod(number, self._chunks)
        length = self._targets // self.batch_size  # targets of one row
        shift = self.unused if epoch % 2 else 0  # so that two epochs miss nothing
        column = chunk * self.context_length + np.arange(self.context_length)
        rows = self._rows[self.batch_size]
        inputs = shift + rows[:, None] * length + column  # (B, T)
        counted = np.broadcast_to(column < length, inputs.shape)
        tokens, targets = _gather(self.tokens, inputs, counted)
        return Batch(tokens, targets, position, chunk == 0)


class EvalLoader:
    """A full pass in which every target counts exactly once.

    Protocol ``windows``: windows of ``context_length`` targets side by side, each after
    up to ``overlap`` earlier tokens that are context only. Protocol ``carried`` (if
    ``streams`` is given): that many contiguous rows, read in chunks by a model that
    carries its state; the number of rows is part of the protocol. Where a row does not
    fill its window, the last token is repeated and not counted.

    Args:
        tokens: ids of the split, (n,).
        context_length: T, targets in a window.
        batch_size: windows in a batch, over all ranks (``windows`` only).
        overlap: earlier tokens before each window.
        streams: number of rows of the carried protocol.
        rank: this rank's share of each batch is taken; shares have equal sizes.
        world_size: number of ranks.
        lengths: characters and bytes of each id, kept for the metrics.

    Raises:
        UsageError: fewer than two tokens.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        context_length: int,
        batch_size: int,
        overlap: int = 0,
        streams: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        lengths: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        _check(0 <= rank < world_size, f"rank {rank} of world size {world_size}")
        if len(tokens) < 2:
            raise UsageError(too_short("evaluation", len(tokens), 2))
        self.tokens = np.asarray(tokens)
        self.context_length = context_length
        self.batch_size = batch_size
        self.overlap = 0 if streams else overlap
        self.lengths = lengths
        self._rank, self._world_size = rank, world_size
        self._targets = len(tokens) - 1
        self.streams = min(streams, self._targets) if streams else None

    def __len__(self) -> int:
        if self.streams:
            longest = _divided(self._targets, self.streams)
            return _divided(longest, self.context_length)
        windows = _divided(self._targets, self.context_length)
        return _divided(windows, self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for number in range(len(self)):
            yield self._carried(number) if self.streams else self._windows(number)

    def _windows(self, number: int) -> Batch:
        size = self.context_length
        total = _divided(self._targets, size)
        first = number * self.batch_size
        windows = self._share(first, min(first + self.batch_size, total))
        begins = np.minimum(windows * size, self._targets)
        ends = np.where(windows < 0, 0, np.minimum(begins + size, self._targets))
        starts = np.maximum(begins - self.overlap, 0)
        inputs = starts[:, None] + np.arange(size + self.overlap)  # (B, overlap + T)
        return self._batch(inputs, begins, ends, first, True)

    def _carried(self, chunk: int) -> Batch:
        streams = self.streams or 1
        rows = self._share(0, streams)
        begins = rows * self._targets // streams
        ends = np.where(rows < 0, 0, (rows + 1) * self._targets // streams)
        column = chunk * self.context_length + np.arange(self.context_length)
        inputs = np.maximum(begins, 0)[:, None] + column  # (S, T)
        return self._batch(inputs, begins, ends, chunk * streams, chunk == 0)

    def _share(self, begin: int, end: int) -> np.ndarray:
        """This rank's items of [begin, end); -1 fills up to equal shares."""
        share = _divided(end - begin, self._world_size)
        items = begin + self._rank * share + np.arange(share)
        return np.where(items < end, items, -1)

    def _batch(
        self,
        inputs: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        position: int,
        first: bool,
    ) -> Batch:
        counted = (inputs >= begins[:, None]) & (inputs < ends[:, None])
        tokens, targets = _gather(self.tokens, inputs, counted)
        return Batch(tokens, targets, position, first)


def too_short(what: str, given: int, needed: int) -> str:
    """The message for a text without room for one window."""
    return (
        f"the {what} text has {given:,} tokens, {needed:,} are needed; give more text, "
        "a shorter context_length, or other split fractions"
    )


def _gather(
    ids: np.ndarray, inputs: np.ndarray, counted: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Tokens at ``inputs`` and the ones after them, each (B, T) int64.

    Past the end, where nothing is counted, the last input is repeated.
    """
    inputs = np.minimum(inputs, len(ids) - 2)
    tokens = ids[inputs].astype(np.int64)
    targets = ids[inputs + 1].astype(np.int64)
    if not counted.all():
        targets[~counted] = IGNORED
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def _hashed(seed: int, samples: np.ndarray) -> np.ndarray:
    """64 well-mixed bits for each sample: splitmix64 (Steele et al. 2014)."""
    start = np.uint64((seed * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019) & _MASK)
    z = start + (samples.astype(np.uint64) + np.uint64(1)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _divided(number: int, by: int) -> int:
    """The quotient, rounded up."""
    return -(-number // by)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
