"""Feed-forward models: no memory but the tokens in the input.

    Bare:         logits = W E[token_t]
    MLP:          logits = W f(E[token_t]), the same f at every position
    FeedForward:  logits = W f(E[token_{t-w+1}], ..., E[token_t]), a window of w tokens

Bengio et al. 2003, "A Neural Probabilistic Language Model", is the last: the embeddings
of the window side by side, one hidden layer, a softmax.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lmzoo.models.layers import (
    WindowModel,
    language_head,
    require_positive,
    require_probability,
)


class Bare(WindowModel):
    """Embedding and head with nothing between: a bigram table of limited rank.

    Maps tokens (B, T) to logits (B, T, V) for any T.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window; the model sees one.
        d_model: size of a token's embedding; the rank of the table.
        dropout: probability of dropping an embedding's entry, in [0, 1).
        tie_embeddings: one matrix for the embedding and the head.
        head_bias: add a bias to the head.

    Raises:
        ValueError: a size below 1 or a dropout outside [0, 1).
    """

    recipe: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 128,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model)
        require_probability(dropout=dropout)
        self.window = 1
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.dropout = nn.Dropout(dropout)
        self.head = language_head(
            d_model, self.embedding, tie=tie_embeddings, bias=head_bias
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        return self.head(self.dropout(self.embedding(tokens)))
