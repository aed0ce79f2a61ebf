"""Mamba-2: a linear recurrence whose state is a matrix and whose decay the input sets.

    u = conv(LN(x))                           the last few positions, channel by channel
    z, v, k, q, s = W u;   d = softplus(s + b)               heads share k and q
    S_t = exp(-r d_t) S_{t-1} + k_t (d_t v_t)^T;   y_t = S_t^T q_t + m v_t
    x = x + W' RMSNorm(y silu(z))                            for each of L layers
    logits = W LN(x)

Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060 (there k, q, v are B, C, X and
r, m are A, D). Within a piece of the text the sum over all pairs of positions is three
products of matrices, as in attention without a softmax; between pieces, and in
decoding, the state is all that is carried, and its size does not grow.

Changed: the convolution reads the normalised input instead of v, k and q: fewer
channels to convolve.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel, State
from lmzoo.models.layers import (
    SMALL,
    ShortConvolution,
    language_head,
    matrix_flops,
    require_positive,
    require_probability,
    widened,
)
from lmzoo.models.projections import JointLinear

SLOWEST, FASTEST = 1e-3, 0.1  # d at the start, spread over the heads
MOST_RATE = 16.0  # r at the start lies between 1 and this


class Mamba2(LanguageModel):
    """Residual layers of short convolution, selective state space and output gate.

    Maps tokens (B, T) to logits (B, T, V) for any T.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window; memory has no limit.
        d_model: width of the residual stream, D.
        num_heads: states in a layer, H, each with a decay of its own.
        d_head: columns of a head's state: its share of v, P.
        d_state: rows of a head's state: the size of k and q, N.
        num_layers: layers, L.
        kernel_size: positions that a layer's convolution reads, K.
        chunk_size: positions whose pairs are summed at once; changes no result.
        dropout: probability of dropping an entry of a layer's output, in [0, 1).
        tie_embeddings: one matrix for the embedding and the head.
        head_bias: add a bias to the head.
        carry_state: train on consecutive pieces of the text, each beginning with the
            state that the one before it ended with, instead of on random windows.

    Raises:
        ValueError: a size below 1 or a dropout outside [0, 1).
    """

    unbounded: ClassVar[bool] = True
    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 4e-3,
        "optimizer.weight_decay": 0.0,
        "data.batch_size": 12,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 8_000,
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "d_head", "d_state")

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 256,
        num_heads: int = 6,
        d_head: int = 64,
        d_state: int = 32,
        num_layers: int = 2,
        kernel_size: int = 4,
        chunk_size: int = 64,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        head_bias: bool = True,
        carry_state: bool = False,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model, num_heads=num_heads, d_head=d_head)
        require_positive(d_state=d_state, num_layers=num_layers)
        require_positive(kernel_size=kernel_size, chunk_size=chunk_size)
        require_probability(dropout=dropout)
        self.carry_state, self.chunk_size = carry_state, chunk_size
        self.d_state, self.d_inner = d_state, num_heads * d_head
        self.embedding = nn.Embedding(vocab_size, d_model)
        sizes = (d_model, num_heads, d_head, d_state, kernel_size, chunk_size)
        self.layers = nn.ModuleList(Layer(*sizes, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = language_head(
            d_model, self.embedding, tie=tie_embeddings, bias=head_bias, std=SMALL
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        x = self.embedding(tokens)  # (B, T, D)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(self.norm(x))

    def advance(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Feed tokens (B, T_new) after ``state``; logits (B, T_new, V), new state.

        The state is, for each layer, the last K - 1 inputs of its convolution,
        (B, K - 1, D), and S, (B, H, N, P).
        """
        x, states = self.embedding(tokens), []
        before = [None] * len(self.layers) if state is None else state
        for layer, own in zip(self.layers, before, strict=True):
            x, after = layer(x, own, keep=True)
            states.append(after)
        return self.head(self.norm(x)), tuple(states)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight, and the sums over pairs.

        A piece of c positions costs c^2 (N + H P) products within it; all but the last
        write the state and all but the first read it, c N H P products each.
        """
        rows, columns = self.d_state, self.d_inner
        chunk, full = self.chunk_size, (length - 1) // self.chunk_size
        last = length - full * chunk
        pairs = (full * chunk**2 + last**2) * (rows + columns)
        carried = (length - last + length - min(chunk, length)) * rows * columns
        return matrix_flops(self) + 6 * len(self.layers) * (pairs + carried) // length


class Layer(nn.Module):
    """x + W RMSNorm(y silu(z)): what the state gives, let through by a gate."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_head: int,
        d_state: int,
        kernel_size: int,
        chunk_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.d_state, self.chunk_size = num_heads, d_state, chunk_size
        self.d_inner = num_heads * d_head
        self.norm = nn.LayerNorm(d_model)
        self.conv = ShortConvolution(d_model, kernel_size)
        inner = self.d_inner
        uses = {"z": inner, "v": inner, "k": d_state, "q": d_state, "s": num_heads}
        self.inputs = JointLinear(d_model, uses, bias=False)
        share = torch.linspace(0, 1, num_heads)
        start = SLOWEST * (FASTEST / SLOWEST) ** share.flip(0)
        self.step_bias = nn.Parameter(start + torch.log(-torch.expm1(-start)))
        self.log_rate = nn.Parameter((1 + (MOST_RATE - 1) * share).log())
        self.skip = nn.Parameter(torch.ones(num_heads))
        self.gated_norm = nn.RMSNorm(self.d_inner)
        self.project = nn.Linear(self.d_inner, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, state: State = None, keep: bool = False
    ) -> tuple[Tensor, State]:
        """(B, T, D) and the state -> (B, T, D), and the new state if it is kept."""
        past, memory = (None, None) if state is None else state
        u, past = self.conv(self.norm(x), past)
        inner, rows = self.d_inner, self.d_state
        z, vkq, s = self.inputs(u).split(
            [inner, inner + 2 * rows, self.num_heads], dim=-1
        )
        v, k, q = F.silu(vkq).split([inner, rows, rows], dim=-1)
        v = v.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, P)
        step = F.softplus(widened(s) + self.step_bias).transpose(1, 2)  # (B, H, T)
        log_decay = -step * self.log_rate.exp()[:, None]
        y, memory = selective_scan(
            v * step[..., None], k, q, log_decay, memory, self.chunk_size, keep
        )
        y = y + v * self.skip[:, None, None]
        y = y.transpose(1, 2).flatten(2) * F.silu(z)  # (B, T, H P)
        y = y.to(self.gated_norm.weight.dtype)
        return x + self.dropout(self.project(self.gated_norm(y))), (past, memory)


def selective_scan(
    values: Tensor,
    keys: Tensor,
    queries: Tensor,
    log_decay: Tensor,
    state: Tensor | None = None,
    chunk_size: int = 64,
    keep: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T and y_t = S_t^T q_t, for all t.

    Args:
        values: (B, H, T, P).
        keys: (B, T, N), the same for every head.
        queries: (B, T, N).
        log_decay: at most 0, (B, H, T); below about -60 all before it is forgotten.
        state: S before the first position, (B, H, N, P); None: zeros.
        chunk_size: positions taken at once.
        keep: return the last state as well, else None.

    Returns:
        y (B, H, T, P) and S after the last position.
    """
    pieces = [(values, keys, queries, log_decay)]
    # an exported graph keeps no loop over a length: all of it is one piece there
    if values.shape[2] > chunk_size and not torch.onnx.is_in_onnx_export():
        along = ((values, 2), (keys, 1), (queries, 1), (log_decay, 2))
        pieces = list(zip(*(x.split(chunk_size, dim) for x, dim in along), strict=True))
    outputs = []
    for number, (v, k, q, decay) in enumerate(pieces, start=1):
        total = decay.cumsum(dim=-1)  # log of what is left of the state, (B, H, c)
        outputs.append(_read(v, k, q, total, state))
        if keep or number < len(pieces):
            state = _write(v, k, total, state)
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return y, state if keep else None


def _read(v: Tensor, k: Tensor, q: Tensor, total: Tensor, state: State) -> Tensor:
    """What one piece reads, (B, H, c, P): from its own positions and the state."""
    length = total.shape[-1]
    earlier = total.new_ones(length, length, dtype=torch.bool).tril()
    gaps = total[..., :, None] - total[..., None, :]
    kept = gaps.masked_fill(~earlier, -torch.inf).exp()  # (B, H, c, c)
    products = q @ k.transpose(1, 2)  # (B, c, c)
    y = (products[:, None] * kept).to(v.dtype) @ v
    if state is None:
        return y
    return y + total.exp()[..., None] * (q[:, None] @ state.to(q.dtype))


def _write(v: Tensor, k: Tensor, total: Tensor, state: State) -> Tensor:
    """The state after one piece, (B, H, N, P), in at least float32."""
    left = (total[..., -1:] - total).exp()[..., None]  # (B, H, c, 1)
    new = widened(k[:, None].transpose(2, 3) @ (left * v).to(k.dtype))
    return new if state is None else total[..., -1:, None].exp() * state + new
