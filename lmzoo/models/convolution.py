"""Causal dilated convolution: each layer looks further back, and none looks ahead.

    x = E[tokens]
    x_t = x_t + GELU(b + sum_k W_k LN(x)_{t - k d}),  k = 0 .. K-1,  d = 1, 2, 4, ...
    logits = W LN(x)

The dilation d doubles from layer to layer, so L layers see 1 + (K - 1)(2^L - 1) tokens.
After van den Oord et al. 2016, "WaveNet", arXiv:1609.03499, and Bai et al. 2018,
arXiv:1803.01271. Left out: gates and skip connections. The norms have no parameters.
"""

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
    1 + (kernel_size - 1) * (2 ** num_layers - 1) tokens.

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
        "optimizer.lr": 3e-3,
        "data.batch_size": 16,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 8_000,
    }

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 128,
        num_layers: int = 4,
        kernel_size: int = 4,
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
