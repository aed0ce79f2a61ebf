"""Causal dilated convolution: each layer looks further back, and none looks ahead.

    x = E[tokens]
    x_t = x_t + GELU(b + sum_k W_k LN(x)_{t - k d}),  k = 0 .. K-1,  d = 1, 2, 4, ...
    logits = W LN(x)

The dilation d doubles from layer to layer, so L layers see 1 + (K - 1)(2^L - 1) tokens.
After van den Oord et al. 2016, "WaveNet", arXiv:1609.03499, and Bai et al. 2018,
arXiv:1803.01271. Left out: gates and skip connections. The norms have no parameters.

Small kernels and more layers did better than the reverse on one small text, one run
each; an odd kernel can also be centred. To look again: ``lmzoo compare --model conv
--vary model.kernel_size=2,3,4 --vary model.num_layers=4,5,6 --budget.steps 1200``.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo.models.layers import (
    WindowModel,
    language_head,
    matrix_flops,
    require_positive,
    require_probability,
)


class Conv(WindowModel):
    """Residual layers of causal dilated convolution.

    Maps tokens (B, T) to logits (B, T, V) for any T. One prediction sees ``window`` =
    1 + (kernel_size - 1) * (2 ** num_layers - 1) tokens; what lies further back than
    ``context_length`` is never trained.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window.
        d_model: channels, D.
        num_layers: layers; the dilation is 1 in the first and doubles in each.
        kernel_size: positions that one layer reads, K.
        dropout: probability of dropping an entry of a layer's output, in [0, 1).
        tie_embeddings: one matrix for the embedding and the head.
        head_bias: add a bias to the head.

    Raises:
        ValueError: a size below 1 or a dropout outside [0, 1).
    """

    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 6e-3,
        "data.batch_size": 16,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 10_000,
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model",)

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 128,
        num_layers: int = 5,
        kernel_size: int = 3,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model, num_layers=num_layers)
        require_positive(kernel_size=kernel_size)
        require_probability(dropout=dropout)
        self.window = 1 + (kernel_size - 1) * (2**num_layers - 1)
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.layers = nn.ModuleList(
            ConvLayer(d_model, kernel_size, 2**i, dropout, self.padding)
            for i in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.head = language_head(
            d_model, self.embedding, tie=tie_embeddings, bias=head_bias
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        x = self.embedding(tokens)  # (B, T, D)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))  # (B, T, V)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight of a matrix product."""
        del length
        return matrix_flops(self)

    @staticmethod
    def padding(reach: int) -> tuple[int, int]:
        """Zeros before and after a text, for a layer that spans ``reach`` more tokens.

        All of them before: position t reads t - reach .. t.
        """
        return reach, 0


class ConvNoncausal(Conv):
    """Convolution with centred padding: each position sees as far ahead as back.

    An exhibit: its training loss falls towards 0, because the answer is in the input,
    and it can predict nothing. ``check`` rejects it by name.
    """

    exhibit: ClassVar[str | None] = "causality"

    @staticmethod
    def padding(reach: int) -> tuple[int, int]:
        """Half of the zeros on each side."""
        return reach - reach // 2, reach // 2


class ConvLayer(nn.Module):
    """x + GELU(conv(LN(x))); the kernel's taps stand ``dilation`` positions apart."""

    def __init__(
        self,
        d_model: int,
        kernel_size: int,
        dilation: int,
        dropout: float,
        padding: Callable[[int], tuple[int, int]],
    ) -> None:
        super().__init__()
        self.padding = padding((kernel_size - 1) * dilation)
        self.norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.conv = nn.Conv1d(d_model, d_model, kernel_size, dilation=dilation)
        self.activation = nn.GELU(approximate="tanh")
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        padded = F.pad(self.norm(x).transpose(1, 2), self.padding)  # (B, D, T + reach)
        update = self.conv(padded).transpose(1, 2)  # (B, T, D)
        return x + self.dropout(self.activation(update))
