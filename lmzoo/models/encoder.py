"""A bidirectional Transformer encoder, trained to restore tokens hidden from it.

    x = LN(E[tokens] + P[positions])
    x = LN(x + Attention(x));  x = LN(x + MLP(x))       for each of L blocks
    logits = E^T LN(gelu(W x)) + b                      where a token was hidden

Devlin et al. 2018, arXiv:1810.04805 (BERT), without token types and without the next
sentence, as in DistilBERT (Sanh et al. 2019, arXiv:1910.01108): with the same weights
the vectors are DistilBERT's. What stands for a hidden token is a vector of the head,
not a row of the vocabulary, so any tokenizer will do.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo.metrics import IGNORED, LanguageModelMetrics
from lmzoo.models.layers import SMALL, require_positive, require_probability
from lmzoo.models.member import Member, Sample, seed_for

EPSILON = 1e-12  # of the norms, as published
HIDDEN, MASKED, RANDOM = 0.15, 0.8, 0.1  # share hidden; of these masked, replaced


class Encoder(Member):
    """Bidirectional Transformer with learned positions and a padding mask.

    Maps tokens (B, T) to logits (B, T, V) of the tokens themselves, T at most
    ``context_length``. It is not causal: it continues no text and scores none. Its
    figures are those of the hidden tokens alone, and compare with no other model's.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: most tokens of a text.
        d_model: width, D.
        num_layers: blocks, L.
        num_heads: attention heads in a block, H; they divide ``d_model``.
        d_hidden: width of the MLP's hidden layer; None: ``4 * d_model``.
        dropout: probability of dropping an embedding, an attention weight, or a part's
            output, in [0, 1).

    Raises:
        ValueError: a size below 1, a dropout outside [0, 1), or a ``d_model`` that
            ``num_heads`` does not divide.
    """

    task: ClassVar[str] = "encoder"
    metric_names: ClassVar[tuple[str, ...]] = LanguageModelMetrics.NAMES
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "distilbert": {
            "vocab_size": 30_522,
            "context_length": 512,
            "d_model": 768,
            "num_layers": 6,
            "num_heads": 12,
            "d_hidden": 3_072,
            "dropout": 0.1,
        }
    }
    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 1e-3,
        "optimizer.weight_decay": 0.01,
        "data.batch_size": 32,
        "lr_scheduler.warmup_steps": 200,
        "trainer.max_steps": 4_000,
    }

    metrics: LanguageModelMetrics

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 128,
        *,
        d_model: int = 128,
        num_layers: int = 3,
        num_heads: int = 4,
        d_hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model, num_layers=num_layers, num_heads=num_heads)
        require_probability(dropout=dropout)
        hidden = 4 * d_model if d_hidden is None else d_hidden
        require_positive(d_hidden=hidden)
        if d_model % num_heads:
            raise ValueError(
                f"d_model must be a multiple of num_heads: expected a multiple of "
                f"{num_heads}, given {d_model}"
            )
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(context_length, d_model)
        self.norm = nn.LayerNorm(d_model, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Block(d_model, num_heads, hidden, dropout) for _ in range(num_layers)
        )
        self.head: MaskedHead | None = MaskedHead(self.token_embedding)
        self.metrics = LanguageModelMetrics()
        self.apply(_initialise)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits of the token at each position; (B, T) -> (B, T, V)."""
        return self._head(self.features(tokens, mask))

    def features(
        self, tokens: Tensor, mask: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """One vector for each token, (B, T) -> (B, T, D).

        Args:
            tokens: ids (B, T).
            mask: True where a token is text, (B, T); None: everywhere. No vector
                depends on what is not text.
            hidden: True where the mask vector stands in for the token, (B, T).

        Raises:
            ValueError: T exceeds ``context_length``.
        """
        length = tokens.shape[1]
        if length > self.context_length:
            raise ValueError(
                f"expected at most context_length = {self.context_length} tokens, "
                f"given {length}"
            )
        x = self.token_embedding(tokens)  # (B, T, D)
        if hidden is not None:
            x = torch.where(hidden[..., None], self._head.mask, x)
        positions = torch.arange(length, device=tokens.device)
        x = self.dropout(self.norm(x + self.position_embedding(positions)))
        seen = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, T)
        for layer in self.layers:
            x = layer(x, seen)
        return x

    def embed(self, tokens: Tensor) -> Tensor:
        """Input vectors (B, T, D), positions left out."""
        return self.token_embedding(tokens)

    def take_head(self) -> int:
        """Give up the head that restores tokens; the size D of ``features``."""
        self.head = None
        return self.token_embedding.embedding_dim

    @property
    def _head(self) -> "MaskedHead":
        if self.head is None:
            raise RuntimeError("this encoder's head was taken: it is a body now")
        return self.head

    # ---- masked-language-model training --------------------------------------------

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Loss of one micro-batch; what is hidden is a function of its position."""
        del batch_idx
        seed_for(self.seed, batch.position, self.global_rank)
        nll, _, _ = self._restored(batch.tokens, None)
        return nll.sum() / max(1, nll.numel())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add one batch to the sums; the same tokens are hidden in every pass."""
        del batch_idx
        generator = torch.Generator().manual_seed(batch.position + 1)
        counted = batch.targets != IGNORED  # what only fills a batch up
        nll, logits, targets = self._restored(batch.tokens, generator, counted)
        self.metrics.update(nll, logits, targets)

    test_step = validation_step

    def _start_pass(self, loader: Any) -> None:
        super()._start_pass(loader)
        self.metrics.set_lengths(getattr(loader, "lengths", None))

    def _restored(
        self,
        tokens: Tensor,
        generator: torch.Generator | None,
        counted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Nats (1, N), logits (1, N, V) and targets (1, N) of the N hidden tokens.

        The head is by far the dearest part of a small encoder: it sees those N only.
        """
        chance = torch.rand(2, *tokens.shape, generator=generator).to(tokens.device)
        other = torch.randint(0, self.vocab_size, tokens.shape, generator=generator)
        chosen = chance[0] < HIDDEN
        if counted is not None:
            chosen &= counted
        hidden = chosen & (chance[1] < MASKED)
        replaced = chosen & (chance[1] >= 1 - RANDOM)
        shown = torch.where(replaced, other.to(tokens.device), tokens)
        logits = self._head(self.features(shown, None, hidden)[chosen])
        targets = tokens[chosen]
        nll = F.cross_entropy(logits.float(), targets, reduction="none")
        return nll[None], logits[None], targets[None]


class Block(nn.Module):
    """Attention, then MLP, each followed by a norm of the sum (post-norm)."""

    def __init__(
        self, d_model: int, num_heads: int, d_hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = Attention(d_model, num_heads, dropout)
        self.attention_norm = nn.LayerNorm(d_model, eps=EPSILON)
        self.expand = nn.Linear(d_model, d_hidden)
        self.project = nn.Linear(d_hidden, d_model)
        self.mlp_norm = nn.LayerNorm(d_model, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D); ``seen`` (B, 1, 1, T) says where there is text."""
        x = self.attention_norm(x + self.attention(x, seen))
        update = self.dropout(self.project(F.gelu(self.expand(x))))
        return self.mlp_norm(x + update)


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(Dh)) V in each of H heads, over all of the text."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key, self.value, self.project = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )  # (B, H, T, Dh)
        rate = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, dropout_p=rate
        )
        return self.project(attended.transpose(1, 2).flatten(2))


class MaskedHead(nn.Module):
    """The vector of a hidden token, and the way back from vectors to tokens."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        vocab_size, d_model = embedding.weight.shape
        self.mask = nn.Parameter(SMALL * torch.randn(d_model))
        self.transform = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model, eps=EPSILON)
        self.restore = nn.Linear(d_model, vocab_size)
        self.restore.weight = embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return self.restore(self.norm(F.gelu(self.transform(x))))


def _initialise(module: nn.Module) -> None:
    """Normal with 0.02 for every matrix, zero for every bias, as published."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=SMALL)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
