"""A model from another package: each token and its left neighbour."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo import LanguageModel


class Neighbour(LanguageModel):
    """Two embeddings side by side, one hidden layer."""

    def __init__(
        self, vocab_size: int, context_length: int = 32, d_model: int = 32
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.hidden = nn.Linear(2 * d_model, 4 * d_model)
        self.head = nn.Linear(4 * d_model, vocab_size)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)  # (B, T, D)
        left = F.pad(x, (0, 0, 1, 0))[:, :-1]  # one step to the right, zeros first
        return self.head(F.gelu(self.hidden(torch.cat([x, left], dim=-1))))
