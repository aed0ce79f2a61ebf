"""Feed-forward models: no memory but the tokens in the input.

    Bare:         logits_t = W E[token_t]
    MLP:          logits_t = W f(E[token_t])
    FeedForward:  logits_t = W f(E[token_{t-w+1}], ..., E[token_t])

The last, with a window of w tokens, is Bengio et al. 2003, "A Neural Probabilistic
Language Model". The same f stands at every position, so a text of T tokens gives T
predictions, none of which sees its own target.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lmzoo.models.layers import (
    SMALL,
    WindowModel,
    language_head,
    matrix_flops,
    require_positive,
    require_probability,
)


class FeedForward(WindowModel):
    """Window feed-forward model: w embeddings side by side, hidden layers, head.

    Maps tokens (B, T) to logits (B, T, V) for any T; where fewer than w tokens have
    been seen, a learned vector stands for each that is missing.

    Changed from the paper: GELU for tanh, residual hidden layers with layer norms, no
    direct connections from the embeddings to the head.

    Norms, three narrower layers for one wide one and a window of 10 for 16 were each
    the better choice on one small text, one run each. To look again: ``lmzoo compare
    --model ff --vary model.window=10,16 --vary model.num_layers=1,3
    --budget.seconds 60``.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window.
        window: tokens that one prediction sees, w; what lies further back than
            ``context_length`` is never trained.
        d_model: size of a token's embedding, D.
        d_hidden: width of the hidden layers.
        num_layers: hidden layers; those after the first are residual.
        dropout: probability of dropping an entry of a hidden layer, in [0, 1).
        tie_embeddings: one matrix for the embedding and the head, which is then
            preceded by a linear map from ``d_hidden`` to ``d_model``.
        head_bias: add a bias to the head.

    Raises:
        ValueError: a size below 1 or a dropout outside [0, 1).
    """

    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 4e-3,
        "data.batch_size": 16,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 18_000,
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "d_hidden")

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        window: int = 10,
        d_model: int = 32,
        d_hidden: int = 256,
        num_layers: int = 3,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        require_positive(window=window, d_model=d_model)
        require_positive(d_hidden=d_hidden, num_layers=num_layers)
        require_probability(dropout=dropout)
        self.window = window
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.padding = nn.Parameter(torch.zeros(d_model)) if window > 1 else None
        self.mix = nn.Sequential(
            nn.Linear(window * d_model, d_hidden), nn.GELU(approximate="tanh")
        )
        self.layers = nn.ModuleList(
            Residual(d_hidden, dropout) for _ in range(num_layers - 1)
        )
        self.norm = nn.LayerNorm(d_hidden)
        self.narrow = nn.Linear(d_hidden, d_model) if tie_embeddings else nn.Identity()
        self.head = language_head(
            d_model if tie_embeddings else d_hidden,
            self.embedding,
            tie=tie_embeddings,
            bias=head_bias,
            std=0.05 if tie_embeddings else SMALL,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        x = self.embedding(tokens)  # (B, T, D)
        if self.padding is not None:
            missing = self.padding.expand(len(x), self.window - 1, -1)
            x = torch.cat([missing, x], dim=1)  # (B, w - 1 + T, D)
        windows = x.unfold(1, self.window, 1).transpose(2, 3)  # (B, T, w, D)
        x = self.mix(windows.flatten(2))  # (B, T, d_hidden)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.narrow(self.norm(x)))  # (B, T, V)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight of a matrix product."""
        del length
        return matrix_flops(self)


class Residual(nn.Module):
    """x + GELU(W LN(x)): a hidden layer that starts as a small correction."""

    def __init__(self, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_hidden)
        self.linear = nn.Linear(d_hidden, d_hidden)
        self.activation = nn.GELU(approximate="tanh")
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_hidden) -> (B, T, d_hidden)."""
        return x + self.dropout(self.activation(self.linear(self.norm(x))))


class MLP(WindowModel):
    """Position-wise multi-layer perceptron: sees one token, as a bigram table does.

    Maps tokens (B, T) to logits (B, T, V) for any T. Each layer adds
    W2 relu(W1 LN(x)) to x; its norm has no parameters.

    It sees one token, and learns what one token tells, a bigram table's loss, at any
    rate: ``lmzoo compare --model mlp --vary optimizer.lr=1e-3,1e-2,3e-2``.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window; the model sees one.
        d_model: size of a token's embedding, D.
        d_hidden: width of a hidden layer.
        num_layers: perceptrons, one after the other.
        dropout: probability of dropping an entry of a layer's output, in [0, 1).
        tie_embeddings: one matrix for the embedding and the head.
        head_bias: add a bias to the head.

    Raises:
        ValueError: a size below 1 or a dropout outside [0, 1).
    """

    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 3e-3,
        "data.batch_size": 64,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 3_000,
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "d_hidden")

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 64,
        d_hidden: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model, d_hidden=d_hidden, num_layers=num_layers)
        require_probability(dropout=dropout)
        self.window = 1
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(d_model, elementwise_affine=False),
                nn.Linear(d_model, d_hidden),
                nn.ReLU(),
                nn.Linear(d_hidden, d_model),
                nn.Dropout(dropout),
            )
            for _ in range(num_layers)
        )
        self.head = language_head(
            d_model, self.embedding, tie=tie_embeddings, bias=head_bias
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        x = self.embedding(tokens)  # (B, T, D)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)  # (B, T, V)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight of a matrix product."""
        del length
        return matrix_flops(self)


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

    recipe: ClassVar[dict[str, Any]] = {**MLP.recipe, "optimizer.lr": 1e-2}
    sizes: ClassVar[tuple[str, ...]] = ("d_model",)

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 64,
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

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight of the head."""
        del length
        return matrix_flops(self)
