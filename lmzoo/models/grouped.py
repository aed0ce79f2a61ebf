"""Attention in which several heads of queries share one head of keys and values."""

import torch
from torch import Tensor, nn

from lmzoo.models.attention import attend
from lmzoo.models.caching import append, causal_mask
from lmzoo.models.norms import Norm, make_norm
from lmzoo.models.rotary import rotate


class GroupedAttention(nn.Module):
    """softmax(Q K^T / sqrt(Dh)) V, causal, in H heads over G heads of keys and values.

    Head h of the queries reads head ``h // (H / G)`` of keys and values. G = H is
    Vaswani et al. 2017 (arXiv:1706.03762), G = 1 Shazeer 2019 (arXiv:1911.02150), what
    lies between Ainslie et al. 2023 (arXiv:2305.13245). A block provides Q, K and V.

    Args:
        d_model: width of the output, D.
        num_heads: heads of queries, H.
        num_kv_heads: heads of keys and values, G.
        d_head: width of one, Dh.
        qk_norm: the norm of queries and keys within a head, or None.
        bias: add biases to the map out of the heads.
        dropout: of attention weights and of the output.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_kv_heads: int,
        d_head: int,
        qk_norm: Norm | None,
        bias: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.d_head, self.causal = d_head, True
        queries, keys = num_heads * d_head, num_kv_heads * d_head
        self.inputs = {"q": queries, "k": keys, "v": keys}  # what a block projects
        self.qk_norm = make_norm(qk_norm, d_head, scale=False) if qk_norm else None
        self.project = nn.Linear(queries, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rotation: Tensor | None = None,
        cache: tuple[Tensor, Tensor] | None = None,
        past: int = 0,
    ) -> Tensor:
        """(B, T, H Dh) and twice (B, T, G Dh) -> (B, T, D).

        ``rotation`` holds the rows of T positions, (2, T, 1, Dh); ``cache`` gets keys
        and values at ``past``.
        """
        q, k = self._heads(q, rotation), self._heads(k, rotation)  # (B, H or G, T, Dh)
        v = v.unflatten(-1, (-1, self.d_head)).transpose(1, 2)
        if cache is not None:
            k, v = append(cache[0], k, past), append(cache[1], v, past)
        if q.shape[2] == 1:
            attended = self._one(q, k, v)
        else:
            attended = attend(
                q,
                k,
                v,
                mask=causal_mask(q, past) if past else None,
                causal=not past,
                dropout=self.dropout.p if self.training else 0.0,
            )
        return self.dropout(self.project(attended.transpose(1, 2).flatten(2)))

    def weights(self, q: Tensor, k: Tensor, rotation: Tensor | None = None) -> Tensor:
        """The attention weights themselves, (B, H, T, T); rows sum to 1."""
        q, k = self._heads(q, rotation), self._heads(k, rotation)
        k = k.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1)
        scores = q @ k.transpose(-2, -1) / self.d_head**0.5
        return scores.masked_fill(~causal_mask(q, 0), -torch.inf).softmax(dim=-1)

    def _one(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The last position, which sees all: heads of a group are rows of one product.

        Keys and values are then read once for the group, not once for each head.
        """
        rows = q.reshape(len(q), self.num_kv_heads, -1, self.d_head)  # (B, G, H/G, Dh)
        dropped = self.dropout.p if self.training else 0.0
        attended = attend(rows, k, v, dropout=dropped)
        return attended.reshape(q.shape)

    def _heads(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """(B, T, H Dh) -> (B, H, T, Dh), normalised and turned."""
        x = x.unflatten(-1, (-1, self.d_head))  # (B, T, H, Dh)
        if self.qk_norm is not None:
            x = self.qk_norm(x).to(x.dtype)  # autocast runs a layer norm in float32
        if rotation is not None:
            x = rotate(x, rotation)
        return x.transpose(1, 2)
