"""minGRU: a gated recurrent network whose gates read the input alone.

    u = conv(LN(x))                           the last few positions, channel by channel
    z_t = sigmoid(W_z u_t);  c_t = W_c u_t;  o_t = silu(W_o u_t)
    h_t = (1 - z_t) h_{t-1} + z_t c_t
    x = x + W (o h)                                          for each of L layers
    logits = W LN(x)

Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, "Were RNNs All We Needed?",
arXiv:2410.01201. As no gate reads the state, all are known at once, and what is left is
h_t = a_t h_{t-1} + b_t: a scan, which training does in parallel over time and decoding
in one step, with a state whose size does not grow.

Changed: an output gate in place of the paper's MLP after each layer; the candidate is
the paper's plain linear map, not its positive form, which only a scan in logarithms
needs. The scan is one of two levels, without logarithms or divisions, which is the
quickest on a CPU: benchmarks/scan.py runs it beside the paper's and others.
"""

import math
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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

TIED_STD = 0.005  # a tied head would else begin by predicting the token just read


class MinGRU(LanguageModel):
    """Residual layers of short convolution, minGRU and output gate.

    Maps tokens (B, T) to logits (B, T, V) for any T.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window; memory has no limit.
        d_model: width of the residual stream, D.
        d_hidden: size of the state of one layer.
        num_layers: layers, L.
        kernel_size: positions that a layer's convolution reads, K.
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
        "optimizer.lr": 8e-3,
        "optimizer.weight_decay": 0.0,
        "data.batch_size": 12,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 10_000,
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "d_hidden")

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 256,
        d_hidden: int = 256,
        num_layers: int = 2,
        kernel_size: int = 4,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        head_bias: bool = True,
        carry_state: bool = False,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model, d_hidden=d_hidden)
        require_positive(num_layers=num_layers, kernel_size=kernel_size)
        require_probability(dropout=dropout)
        self.carry_state = carry_state
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.layers = nn.ModuleList(
            Layer(d_model, d_hidden, kernel_size, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = language_head(
            d_model,
            self.embedding,
            tie=tie_embeddings,
            bias=head_bias,
            std=TIED_STD if tie_embeddings else SMALL,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        logits, _ = self.advance(tokens)
        return logits

    def advance(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Feed tokens (B, T_new) after ``state``; logits (B, T_new, V), new state.

        The state is, for each layer, the last K - 1 inputs of its convolution,
        (B, K - 1, D), and h, (B, d_hidden).
        """
        x, states = self.embedding(tokens), []  # (B, T, D)
        before = [None] * len(self.layers) if state is None else state
        for layer, own in zip(self.layers, before, strict=True):
            x, after = layer(x, own)
            states.append(after)
        return self.head(self.norm(x)), tuple(states)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight of a matrix product."""
        del length
        return matrix_flops(self)


class Layer(nn.Module):
    """x + W (o h): what the state gives, let through by a gate of the input."""

    def __init__(
        self, d_model: int, d_hidden: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.conv = ShortConvolution(d_model, kernel_size)
        self.gates = JointLinear(d_model, dict.fromkeys("zco", d_hidden), bias=True)
        self.project = nn.Linear(d_hidden, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """(B, T, D) and the state -> (B, T, D) and the new state."""
        inputs, hidden = (None, None) if state is None else state
        u, inputs = self.conv(self.norm(x), inputs)
        update, candidate, gate = self.gates(u).chunk(3, dim=-1)  # (B, T, d_hidden)
        update, candidate = widened(update), widened(candidate)
        h = linear_scan(
            torch.sigmoid(-update), torch.sigmoid(update) * candidate, hidden
        )
        let_through = (h * F.silu(gate)).to(gate.dtype)
        x = x + self.dropout(self.project(let_through))
        return x, (inputs, h[:, -1])


def linear_scan(decay: Tensor, inputs: Tensor, initial: Tensor | None = None) -> Tensor:
    """h_t = decay_t h_{t-1} + inputs_t for all t at once.

    Args:
        decay: factors (B, T, F), in [0, 1]; 0 forgets all that was before.
        inputs: what is added, (B, T, F).
        initial: h before the first position, (B, F); None: zeros.

    Returns:
        h, (B, T, F).
    """
    if initial is None:
        initial = torch.zeros_like(inputs[:, 0])
    if torch.onnx.is_in_onnx_export():  # which keeps no loop over a length
        return pairwise_scan(decay, inputs, initial)
    return LinearScan.apply(decay, inputs, initial)  # type: ignore[return-value]


class LinearScan(torch.autograd.Function):
    """``linear_scan``, whose gradient is the same scan from the end to the start."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
        """(B, T, F), (B, T, F), (B, F) -> (B, T, F)."""
        h = _scan(decay, inputs, initial)
        ctx.save_for_backward(decay, h, initial)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """g_t = grad_t + decay_{t+1} g_{t+1}, and from it the three gradients."""
        decay, h, initial = ctx.saved_tensors
        later = F.pad(decay[:, 1:], (0, 0, 0, 1))
        g = _scan(later, grad_outputs[0], torch.zeros_like(initial), back=True)
        before = torch.cat([initial[:, None], h[:, :-1]], dim=1)
        return g * before, g, decay[:, 0] * g[:, 0]


def _scan(
    decay: Tensor, inputs: Tensor, initial: Tensor, *, back: bool = False
) -> Tensor:
    """The scan in two levels, about 2 sqrt(T) steps, each over all that can be.

    Pieces of sqrt(T) positions are scanned side by side as if nothing came before
    them; then the end of each is carried into the next. Products of decays only shrink,
    so nothing overflows, and no logarithm is taken. ``back`` goes from the last
    position to the first.
    """
    length = inputs.shape[1]
    size = max(1, math.isqrt(length))
    if missing := -length % size:
        decay, inputs = (F.pad(x, (0, 0, 0, missing)) for x in (decay, inputs))
    decay, inputs = (x.unflatten(1, (-1, size)) for x in (decay, inputs))
    h, product = inputs.clone(), decay.clone()  # (B, pieces, size, F)
    inside, across = (
        list(zip(h.unbind(dim), product.unbind(dim), strict=True)) for dim in (2, 1)
    )
    if back:
        inside.reverse()
        across.reverse()
    for (before, decayed), (now, own) in pairwise(inside):
        now.addcmul_(own, before)
        own.mul_(decayed)
    for piece, decayed in across:
        piece.addcmul_(decayed, initial[:, None])
        initial = piece[:, 0 if back else -1]
    return h.flatten(1, 2)[:, :length]


def pairwise_scan(decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
    """``linear_scan`` as one sum over all pairs of positions: T times the memory."""
    length = inputs.shape[1]
    logs = decay.clamp(min=torch.finfo(decay.dtype).tiny).log().cumsum(dim=1)
    gaps = logs[:, :, None] - logs[:, None]  # (B, T, T, F)
    earlier = gaps.new_ones(length, length, dtype=torch.bool).tril()[..., None]
    kept = gaps.masked_fill(~earlier, -torch.inf).exp()
    return (kept * inputs[:, None]).sum(dim=2) + logs.exp() * initial[:, None]
