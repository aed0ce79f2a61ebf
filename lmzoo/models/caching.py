"""Decoding with keys and values kept: what every Transformer of the zoo shares.

The window re-anchors by halves past the context's edge (``LanguageModel.window_start``)
and its second half is then computed anew, so that a cached logit is the one of a full
pass over the window, whatever tells the positions apart.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel


class Cache(NamedTuple):
    """Decoding state: the window's tokens, and each layer's keys and values of them.

    The buffers are allocated once at full size and written in place; positions from
    ``len(tokens)`` on hold nothing yet. H counts the heads of keys and values, which
    may be fewer than those of queries.
    """

    tokens: Tensor  # (B, n), the window so far
    keys: tuple[Tensor, ...]  # L of (B, H, C, Dh)
    values: tuple[Tensor, ...]  # L of (B, H, C, Dh)
    seen: int  # tokens since the start, those before the window included


class CachedDecoder(LanguageModel):
    """A stack of attention blocks that is fed piece by piece.

    A subclass builds ``token_embedding`` and ``layers``, sets ``num_kv_heads`` and
    ``d_head``, and writes ``_run``.
    """

    token_embedding: nn.Embedding
    layers: nn.ModuleList
    num_kv_heads: int
    d_head: int

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V).

        Raises:
            ValueError: T exceeds ``context_length``.
        """
        return self._run(tokens)

    def _run(
        self, tokens: Tensor, cache: Cache | None = None, past: int = 0, skip: int = 0
    ) -> Tensor:
        """Logits of ``tokens``, which stand ``past`` positions into their window.

        The first ``skip`` of them have no logits: they were given before.
        """
        raise NotImplementedError

    def advance(
        self, tokens: Tensor, state: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """Feed tokens (B, T_new) after ``state``; logits (B, T_new, V), new state.

        Each token is computed once, except that the window re-anchors once every C/2
        tokens past the context's edge, and its second half is then computed anew. The
        new state shares the buffers of the old one: ``fork`` a state to keep it.
        """
        cache = self._empty_cache(tokens) if state is None else state
        history = torch.cat([cache.tokens, tokens], dim=1)
        seen, end = cache.seen, cache.seen + tokens.shape[1]
        origin = anchor = self.window_start(seen)  # history[:, 0] is token `origin`
        filled, pieces = seen - origin, []  # positions whose keys and values are known
        for start, until in self.stretches(seen, end):
            if start != anchor:
                anchor, filled = start, 0
            chunk = history[:, start + filled - origin : until - origin]
            known = chunk.shape[1] - (until - seen)  # computed anew, not new
            pieces.append(self._run(chunk, cache, past=filled, skip=known))
            seen, filled = until, until - start
        logits = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
        window = history[:, anchor - origin :]
        return logits, cache._replace(tokens=window, seen=end)

    def _end(self, tokens: Tensor, past: int) -> int:
        """Where ``tokens`` end in their window; ValueError where it is too short."""
        end = past + tokens.shape[1]
        if end > self.context_length:
            raise ValueError(
                f"expected at most context_length = {self.context_length} tokens, "
                f"given {end}"
            )
        return end

    def _empty_cache(self, tokens: Tensor) -> Cache:
        like = self.token_embedding.weight
        shape = (len(tokens), self.num_kv_heads, self.context_length, self.d_head)
        keys, values = (
            tuple(like.new_zeros(shape) for _ in self.layers) for _ in range(2)
        )
        return Cache(tokens[:, :0], keys, values, seen=0)


def append(buffer: Tensor, new: Tensor, past: int) -> Tensor:
    """Write ``new`` (B, H, T, Dh) into ``buffer`` at ``past``; all up to there."""
    end = past + new.shape[2]
    buffer[:, :, past:end] = new
    return buffer[:, :, :end]


def causal_mask(q: Tensor, past: int) -> Tensor:
    """True where query i, at position ``past + i``, may look: (T, past + T)."""
    length = q.shape[2]
    return q.new_ones(length, past + length, dtype=torch.bool).tril(past)
