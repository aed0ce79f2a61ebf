"""Interpolated n-gram counting, the floor that every trained model has to beat.

The probability of a token after its k predecessors h mixes what was counted after h
with the estimate from one predecessor less (Witten & Bell 1991, the interpolated form
of Chen & Goodman 1998)::

    p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h))

where c counts, T(h) is the number of different tokens seen after h, h' is h without its
oldest token, and below the empty context stands the uniform 1/V. Nothing is tuned.
Left out: discounting by count-of-counts (modified Kneser-Ney), pruning.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.models.steps import Batch


class NGram(LanguageModel):
    """Witten-Bell interpolated n-grams up to ``order``, counted in one pass.

    The tables are buffers, so a checkpoint holds them, and with them every stretch of
    ``order`` tokens of the training text: know this before giving a checkpoint away.
    Runs in one process only.

    Tried: orders 3, 4, 5 and 6 give 2.049, 1.774, 1.669 and 1.698 nats on tiny
    Shakespeare (90/10); on the King James Bible order 6 is better than 5 (1.928 against
    1.961 bits per character).

    Args:
        vocab_size: V.
        context_length: tokens of an evaluation window; a prediction sees ``order - 1``.
        order: longest n-gram, 1 to 6.
        table_sizes: contexts and entries of each level, known after counting; written
            by the model itself, so that its tables can be rebuilt.

    Shapes: tokens (B, T) to log-probabilities (B, T, V).

    Raises:
        ValueError: an order outside 1 to 6, or sizes for another order.
    """

    counting: ClassVar[bool] = True
    recipe: ClassVar[dict[str, Any]] = {
        "trainer.max_steps": 1,
        "trainer.val_check_interval": 1,
        "lr_scheduler.warmup_steps": 0,
    }

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 1024,
        *,
        order: int = 5,
        table_sizes: list[list[int]] | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= order <= 6:
            raise ValueError(f"order must be 1 to 6, given {order}")
        sizes = table_sizes or [[0, 0]] * order
        if len(sizes) != order:
            raise ValueError(
                f"table_sizes must have {order} levels, given {len(sizes)}"
            )
        self.order, self.window = order, max(1, order - 1)
        for level, (contexts, entries) in enumerate(sizes):
            self._store(level, *_empty(contexts, entries))

    def forward(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of every next token; (B, T) -> (B, T, V)."""
        size = self.vocab_size
        p = tokens.new_full((tokens.numel(), size), 1 / size, dtype=torch.float32)
        for level, ids in self._contexts(tokens):
            rows = (ids >= 0).nonzero()[:, 0]
            row, token, count, total, types = self._rows(level, ids[rows])
            mixed = p[rows] * types[:, None].float()
            mixed[row, token] += count.float()
            p[rows] = mixed / (total + types)[:, None].float()
        return p.log().view(*tokens.shape, size)

    def target_log_probs(
        self, tokens: Tensor, targets: Tensor, order: int | None = None
    ) -> Tensor:
        """Log-probability of each target, (B, T) float64; no (V,) row is built.

        A lower ``order`` gives the figures of a model that counted only so far.
        """
        size, wanted = self.vocab_size, targets.flatten()
        p = torch.full((tokens.numel(),), 1 / size, dtype=torch.float64)
        for level, ids in self._contexts(tokens)[:order]:
            known = ids >= 0
            entries, counts, totals = self._table(level)[1:]
            keys = ids.clamp(min=0) * size + wanted
            place = torch.searchsorted(entries, keys).clamp(max=len(entries) - 1)
            found = known & (entries[place] == keys)
            count = torch.where(found, counts[place], 0).double()
            total, types = self._totals(level, ids.clamp(min=0), totals)
            p = torch.where(known, (count + types * p) / (total + types), p)
        return p.log().view(targets.shape)

    def count(self, tokens: np.ndarray) -> None:
        """Fill the tables from a text, ids (n,); what was there before is dropped."""
        text = np.asarray(tokens)  # a store's two bytes a token are not made eight
        if not len(text):
            raise ValueError("expected a text to count, given no tokens")
        size, sizes = self.vocab_size, []
        ids = np.zeros(len(text), np.int64)  # context before each token, by number
        keys = np.zeros(1, np.int64)
        for level in range(self.order):
            if level:  # one more token, the older one, in front of each context
                ids = ids[1:]
                ids *= size
                ids += text[: len(ids)]
                keys = _number(ids, len(keys) * size)
            entries, counts = _pairs(ids, text[level:], len(keys), size)
            totals = np.bincount(ids, minlength=len(keys))
            self._store(level, keys, entries, counts, totals)
            sizes.append([len(keys), len(entries)])
        self.arguments["table_sizes"] = sizes
        self.hparams["table_sizes"] = sizes

    def successors(self, context: list[int]) -> dict[int, int]:
        """Token -> count after ``context``, which has at most order - 1 tokens."""
        if len(context) >= self.order:
            raise ValueError(
                f"expected at most {self.order - 1} tokens, given {len(context)}"
            )
        tokens = torch.tensor([context or [0]], dtype=torch.long)
        ids = dict(self._contexts(tokens)).get(len(context))
        if ids is None or ids[-1] < 0:
            return {}
        _, token, count, _, _ = self._rows(len(context), ids[-1:])
        return dict(zip(token.tolist(), count.tolist(), strict=True))

    def setup(self, stage: str) -> None:
        """Refuse several processes, before Lightning wraps the model for them.

        Raises:
            UsageError: more than one process.
        """
        if stage == "fit" and self.trainer.world_size > 1:
            raise UsageError("ngram counts in one process; give --trainer.devices 1")

    def on_train_start(self) -> None:
        """Count the training text, straight from its memory map."""
        self.count(self.trainer.datamodule.train_tokens)  # type: ignore[attr-defined]
        self.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        """Nothing: there is no gradient, the counting is done."""

    # ---- tables ---------------------------------------------------------------------

    def _contexts(self, tokens: Tensor) -> list[tuple[int, Tensor]]:
        """(level, number of the context at each position or -1), shortest first."""
        ids = torch.zeros_like(tokens)  # (B, T)
        found = []
        for level in range(self.order):
            keys = self._table(level)[0]
            if not len(keys):
                break
            if level:
                older = torch.full_like(tokens, -1)
                reach = level - 1  # the context of a position ends with its own token
                older[:, reach:] = tokens[:, : max(0, tokens.shape[1] - reach)]
                wanted = ids * self.vocab_size + older
                place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
                known = (ids >= 0) & (older >= 0) & (keys[place] == wanted)
                ids = torch.where(known, place, -1)
            found.append((level, ids.flatten()))
        return found

    def _rows(self, level: int, ids: Tensor) -> tuple[Tensor, ...]:
        """All entries of some contexts: (row, token, count), and (total, types)."""
        _, entries, counts, totals = self._table(level)
        start = torch.searchsorted(entries, ids * self.vocab_size)
        total, types = self._totals(level, ids, totals)
        lengths = types.long()
        row = torch.repeat_interleave(lengths)
        first = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        place = start[row] + torch.arange(len(row), device=ids.device) - first
        token = entries[place] % self.vocab_size
        return row, token, counts[place], total, types

    def _totals(self, level: int, ids: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        entries = self._table(level)[1]
        start = torch.searchsorted(entries, ids * self.vocab_size)
        end = torch.searchsorted(entries, (ids + 1) * self.vocab_size)
        return totals[ids].double(), (end - start).double()

    def _table(self, level: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keys, entries, counts, totals = (
            self.get_buffer(f"{name}_{level}") for name in TABLES
        )
        return keys, entries, counts, totals

    def _store(self, level: int, *tables: np.ndarray | Tensor) -> None:
        for name, table in zip(TABLES, tables, strict=True):
            if not isinstance(table, Tensor):
                table = torch.from_numpy(np.ascontiguousarray(table, np.int64))
            self.register_buffer(f"{name}_{level}", table)


DIRECT = 1 << 26  # addresses: half a gigabyte of counters at most
BLOCK = 1 << 20  # tokens that are renumbered at a time
TABLES = ("contexts", "entries", "counts", "totals")


def _pairs(
    ids: np.ndarray, text: np.ndarray, contexts: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each (context, next token) that occurs, as one number, and how often."""
    pairs = ids * size
    pairs += text
    return _distinct(pairs, contexts * size)


def _distinct(values: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct values, and how often each occurs.

    Where the values are small enough to be addresses this counts instead of sorting.
    """
    if bound > DIRECT:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values, minlength=1)
    found = np.flatnonzero(counts)
    return found, counts[found]


def _number(values: np.ndarray, bound: int) -> np.ndarray:
    """Sorted distinct values; in place, each of ``values`` becomes its rank in them."""
    if bound > DIRECT:
        found, values[:] = np.unique(values, return_inverse=True)
        return found
    seen = np.zeros(bound, np.bool_)
    seen[values] = True
    found = np.flatnonzero(seen)
    rank_of = np.zeros(bound, np.int32)
    rank_of[found] = np.arange(len(found))
    for start in range(0, len(values), BLOCK):  # no second array of that length
        part = values[start : start + BLOCK]
        part[:] = rank_of[part]
    return found


def _empty(contexts: int, entries: int) -> tuple[Tensor, ...]:
    """Tables of the right sizes, to be filled from a checkpoint."""
    sizes = (contexts, entries, entries, contexts)
    return tuple(torch.zeros(size, dtype=torch.long) for size in sizes)
