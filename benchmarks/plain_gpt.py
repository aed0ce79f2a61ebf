"""The network of ``reference.py``: GPT-2's in its plainest form, in torch alone."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """Of the network, of a batch, of the run, and of a sampled validation."""

    layers: int
    heads: int
    width: int
    context: int
    batch: int
    dropout: float
    steps: int
    batches: int
    keep: bool  # the weights of the least sampled loss


SIZES = {
    "cpu": Size(4, 4, 128, 64, 12, 0.0, 2000, 20, keep=False),
    "gpu": Size(6, 6, 384, 256, 64, 0.2, 5000, 200, keep=True),
    "rehearsal": Size(2, 2, 32, 32, 8, 0.2, 5000, 4, keep=True),
}


class Block(nn.Module):
    """Attention and a GELU network, each on a normalised copy of the stream."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width, self.heads = size.width, size.heads
        self.first = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.second = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        size = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        q, k, v = self.qkv(self.first(x)).split(x.shape[2], dim=2)
        q, k, v = (part.view(size).transpose(1, 2) for part in (q, k, v))
        dropped = self.dropout.p if self.training else 0.0
        seen = F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropped, is_causal=True
        )
        x = x + self.dropout(self.mix(seen.transpose(1, 2).reshape(x.shape)))
        return x + self.dropout(self.down(F.gelu(self.up(self.second(x)))))


class Net(nn.Module):
    """Token and position embeddings, blocks, a head tied to the embedding."""

    def __init__(self, vocabulary: int, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, size.width)
        self.positions = nn.Embedding(size.context, size.width)
        self.dropout = nn.Dropout(size.dropout)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("mix.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * size.layers) if last else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        h = self.dropout(h)
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.tokens.weight)
