"""softmax(q k' / sqrt(Dh)) v, by whichever way is quickest where it runs."""

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = 256  # keys up to which products are the quicker; beyond, memory decides


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762).

    The library's kernels, but for training in bfloat16 on a CPU: there they take two to
    three times as long as plain products while windows are short
    (``benchmarks/attention.py``).

    Args:
        q: queries (B, H, T, Dh).
        k: keys (B, G, S, Dh); G divides H, and each is read by H / G heads.
        v: values (B, G, S, Dh).
        mask: (T, S), True where a query sees a key; None for no mask.
        causal: position t sees keys up to t, T equals S; not beside a mask.
        dropout: probability of dropping a weight.

    Returns:
        (B, H, T, Dh).
    """
    learns = torch.is_grad_enabled() and q.requires_grad
    slow = learns and q.device.type == "cpu" and q.dtype == torch.bfloat16
    if slow and k.shape[2] <= LONGEST:
        return _by_products(q, k, v, mask, causal, dropout)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=causal,
        dropout_p=dropout,
        enable_gqa=k.shape[1] != q.shape[1],
    )


def _by_products(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    dropout: float,
) -> Tensor:
    """The same, with all weights in memory; the softmax is taken in float32."""
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    groups = q.unflatten(1, (k.shape[1], -1))  # (B, G, H / G, T, Dh)
    scores = (groups * q.shape[-1] ** -0.5) @ k.unsqueeze(2).mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype)
    if dropout:
        weights = F.dropout(weights, dropout)
    return (weights @ v.unsqueeze(2)).flatten(1, 2)
