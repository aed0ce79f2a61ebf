"""Batches of labelled texts: a pure function of the position, alike in length."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError

IGNORED = -100  # a row that only fills a batch up
POOL = 32  # batches that are sorted by length together


class LabelledBatch(NamedTuple):
    """Texts, padded at the right to the longest of them, and their labels.

    Attributes:
        tokens: (B, T) int64; 0 where padded.
        mask: (B, T) bool, True where a token is text.
        targets: (B,) int64, the label; -100 where a row is not counted.
        rows: (B,) int64, which texts of the part these are.
        position: global index of the first sample, before ranks take their rows.
    """

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    rows: Tensor
    position: int


def padded(texts: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Ids of texts as tokens and mask, (B, T) each; T is the longest, at least 1."""
    lengths = torch.tensor([len(text) for text in texts])
    width = max(1, int(lengths.max()))
    tokens = torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = torch.from_numpy(text.astype(np.int64))
    return tokens, torch.arange(width) < lengths[:, None]


class LabelledLoader:
    """An endless iterator over training batches, from ``position`` on.

    Each epoch takes every text once, in a new order; batches hold texts of like length
    (sorted inside pools of ``POOL`` batches), so little is padding. The last batch of
    an epoch is filled up with texts from its beginning.

    Args:
        texts: ids of each text.
        targets: labels, (n,).
        batch_size: B, over all ranks.
        seed: decides the orders.
        position: samples already used; the next iteration starts there.
        bucket: sort by length; False draws batches of any lengths.
        rank: gives the rows of the global batch from rank * B / world_size on.
        world_size: number of ranks.

    Raises:
        UsageError: B does not divide among the ranks.
    """

    def __init__(
        self,
        texts: Sequence[np.ndarray],
        targets: np.ndarray,
        batch_size: int,
        seed: int = 1337,
        position: int = 0,
        bucket: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise UsageError(
                f"--data.batch_size {batch_size}: does not divide among {world_size} "
                "processes; give a multiple"
            )
        self.texts, self.targets = texts, targets
        self.batch_size, self.seed, self.position = batch_size, seed, position
        self.bucket = bucket
        share = batch_size // world_size
        self._rows = slice(rank * share, (rank + 1) * share)
        self._lengths = np.array([len(text) for text in texts])
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Batches after which every text was used."""
        return -(-len(self.texts) // self.batch_size)

    def __iter__(self) -> Iterator[LabelledBatch]:
        position = self.position
        while True:
            yield self.batch(position)
            position += self.batch_size

    def batch(self, position: int) -> LabelledBatch:
        """This rank's rows of the batch whose first sample is ``position``."""
        epoch, number = divmod(position // self.batch_size, self.batches_per_epoch)
        rows = self._epoch(epoch)[number, self._rows]
        tokens, mask = padded([self.texts[row] for row in rows])
        targets = torch.from_numpy(self.targets[rows])
        return LabelledBatch(tokens, mask, targets, torch.from_numpy(rows), position)

    def _epoch(self, epoch: int) -> np.ndarray:
        """Rows of each batch of an epoch, (batches, B)."""
        if self._order is not None and self._order[0] == epoch:
            return self._order[1]
        generator = np.random.Generator(np.random.PCG64((self.seed, epoch)))
        order = generator.permutation(len(self.texts))
        order = np.resize(order, self.batches_per_epoch * self.batch_size)
        if self.bucket:
            size = POOL * self.batch_size
            for begin in range(0, len(order), size):
                pool = order[begin : begin + size]
                by_length = np.argsort(self._lengths[pool], kind="stable")
                order[begin : begin + size] = pool[by_length]
        batches = order.reshape(-1, self.batch_size)
        batches = batches[generator.permutation(len(batches))]
        self._order = epoch, batches
        return batches


class LabelledPass:
    """A full pass in which every text counts exactly once, the longest first.

    Args:
        texts: ids of each text.
        targets: labels, (n,).
        batch_size: texts in a batch, over all ranks.
        rank: this rank's share of each batch is taken; shares have equal sizes.
        world_size: number of ranks.
    """

    def __init__(
        self,
        texts: Sequence[np.ndarray],
        targets: np.ndarray,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.texts, self.targets = texts, targets
        self.batch_size, self._rank = batch_size, rank
        self._share = -(-batch_size // world_size)
        lengths = np.array([len(text) for text in texts])
        self._order = np.argsort(-lengths, kind="stable")

    def __len__(self) -> int:
        return -(-len(self.texts) // self.batch_size)

    def __iter__(self) -> Iterator[LabelledBatch]:
        for begin in range(0, len(self.texts), self.batch_size):
            whole = self._order[begin : begin + self.batch_size]
            mine = np.arange(self._share) + self._rank * self._share
            if self._share == self.batch_size:  # one rank: no rows to fill up
                mine = mine[: len(whole)]
            counted = mine < len(whole)
            rows = whole[np.minimum(mine, len(whole) - 1)]
            tokens, mask = padded([self.texts[row] for row in rows])
            targets = np.where(counted, self.targets[rows], IGNORED)
            yield LabelledBatch(
                tokens,
                mask,
                torch.from_numpy(targets),
                torch.from_numpy(rows),
                begin,
            )
