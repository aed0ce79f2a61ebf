"""GPT: a stack of blocks in which every position attends to those before it.

    x = E[tokens] + P[positions]
    x = x + Attention(LN(x));  x = x + MLP(LN(x))       for each of L blocks
    logits = LN(x) W

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2): a
norm before each part (pre-norm) and one at the end, learned positions, GELU in its tanh
form, projections into the residual stream initialised smaller by sqrt(2 L). With the
same weights the logits are those of GPT-2.

Changed: the head is its own matrix unless tied; the size of a head is free; the blocks'
initial weights go as 1 / sqrt(d_model), and are GPT-2's at its width of 768.

The recipe's depth, rate, start and length of window are the best of a few on the
default corpus, one run each. To look again: ``lmzoo compare --model gpt --vary
model.num_layers=3,4 --vary optimizer.lr=3e-3,5e-3 --budget.steps 3500``.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lmzoo.models.attention import attend
from lmzoo.models.base import LanguageModel
from lmzoo.models.caching import Cache, CachedDecoder, append, causal_mask
from lmzoo.models.layers import (
    SMALL,
    language_head,
    matrix_flops,
    require_positive,
    require_probability,
)
from lmzoo.models.projections import JointLinear

GPT2_WIDTH = 768  # where 0.02 is GPT-2's; it goes as 1 / sqrt(d_model) elsewhere

PUBLISHED: dict[str, Any] = {"dropout": 0.1, "tie_embeddings": True}
GPT1: dict[str, Any] = {"vocab_size": 40_478, "context_length": 512, **PUBLISHED}
GPT2: dict[str, Any] = {"vocab_size": 50_257, "context_length": 1024, **PUBLISHED}


def _sizes(layers: int, heads: int, width: int, **more: Any) -> dict[str, Any]:
    return {"num_layers": layers, "num_heads": heads, "d_model": width, **more}


class GPT(CachedDecoder):
    """Decoder-only Transformer with learned positions.

    Maps tokens (B, T) to logits (B, T, V), T at most ``context_length``.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: most tokens that one prediction sees, C.
        d_model: width of the residual stream, D.
        num_layers: blocks, L.
        num_heads: attention heads in a block, H.
        d_head: width of one head; None: ``d_model // num_heads``.
        d_hidden: width of the MLP's hidden layer; None: ``4 * d_model``.
        dropout: probability of dropping an embedding, an attention weight, or a
            part's output, in [0, 1).
        bias: add biases in the blocks' linear maps and norms, as GPT-2 does.
        tie_embeddings: one matrix for the token embedding and the head.
        head_bias: add a bias to the head.

    Raises:
        ValueError: a size below 1, a dropout outside [0, 1), or a ``d_model`` that
            ``num_heads`` does not divide while ``d_head`` is None.
    """

    # minGPT's names. The published ones carry the vocabulary that their totals hold
    # for; a text brings its own. The first GPT normalised after each part and had no
    # final norm: here it is built pre-norm, as in minGPT, and has 1,536 parameters more
    # than 116,534,784.
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "openai-gpt": _sizes(12, 12, 768, **GPT1),
        "gpt2": _sizes(12, 12, 768, **GPT2),
        "gpt2-medium": _sizes(24, 16, 1024, **GPT2),
        "gpt2-large": _sizes(36, 20, 1280, **GPT2),
        "gpt2-xl": _sizes(48, 25, 1600, **GPT2),
        "gopher-44m": _sizes(8, 16, 512),
        "gpt-mini": _sizes(6, 6, 192),
        "gpt-micro": _sizes(4, 4, 128),
        "gpt-nano": _sizes(3, 3, 48),
    }

    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 4e-3,
        "data.batch_size": 12,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 10_000,
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "d_hidden")
    causal: ClassVar[bool] = True

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 128,
        num_layers: int = 3,
        num_heads: int = 4,
        d_head: int | None = None,
        d_hidden: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        tie_embeddings: bool = False,
        head_bias: bool = False,
    ) -> None:
        super().__init__()
        require_positive(d_model=d_model, num_layers=num_layers, num_heads=num_heads)
        require_probability(dropout=dropout)
        if d_head is None and d_model % num_heads:
            raise ValueError(
                f"d_model must be a multiple of num_heads unless d_head is given: "
                f"expected a multiple of {num_heads}, given {d_model}"
            )
        self.num_heads = self.num_kv_heads = num_heads
        self.d_head = d_model // num_heads if d_head is None else d_head
        hidden = 4 * d_model if d_hidden is None else d_hidden
        require_positive(d_head=self.d_head, d_hidden=hidden)

        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(context_length, d_model)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Block(d_model, num_heads, self.d_head, hidden, dropout, bias, self.causal)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, bias=bias)
        self.head = language_head(
            d_model, self.token_embedding, tie=tie_embeddings, bias=head_bias
        )
        self._initialise()

    def _run(
        self, tokens: Tensor, cache: Cache | None = None, past: int = 0, skip: int = 0
    ) -> Tensor:
        """Logits of ``tokens``, which stand ``past`` positions into their window.

        The first ``skip`` of them have no logits: they were given before.
        """
        x = self._inputs(tokens, past)  # (B, T, D)
        for i, layer in enumerate(self.layers):
            x = layer(x, cache and (cache.keys[i], cache.values[i]), past)
        return self.head(self.norm(x[:, skip:]))  # (B, T - skip, V)

    def _inputs(self, tokens: Tensor, past: int = 0) -> Tensor:
        end = self._end(tokens, past)
        positions = torch.arange(past, end, device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        return self.dropout(x)

    def attention_maps(self, tokens: Tensor) -> Tensor:
        """Attention weights of every layer and head, (B, L, H, T, T); rows sum to 1.

        They are recomputed from queries and keys: the kernel that ``forward`` uses
        keeps none.
        """
        x, maps = self._inputs(tokens), []
        for layer in (m for m in self.modules() if isinstance(m, Block)):
            maps.append(layer.attention.weights(layer.attention_norm(x)))
            x = layer(x)
        return torch.stack(maps, dim=1)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token at ``length``: 6 N + 12 L H Dh T.

        N counts the weights of matrix products, the head included; biases, norms and
        look-ups are left out, and masked pairs are counted, as is usual (Chowdhery et
        al. 2022, arXiv:2204.02311, appendix B).
        """
        attention = len(self.layers) * self.num_heads * self.d_head * length
        return matrix_flops(self) + 12 * attention

    def _initialise(self) -> None:
        for embedding in (self.token_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=SMALL)
        std = SMALL * (GPT2_WIDTH / self.token_embedding.embedding_dim) ** 0.5
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        parts = [m for m in self.modules() if isinstance(m, Attention | MLP)]
        for part in parts:  # 2 L outputs add up in the residual stream
            nn.init.normal_(part.project.weight, std=std / len(parts) ** 0.5)


class TransformerUnmasked(GPT):
    """GPT without its mask: every position sees the whole window, its target included.

    An exhibit: its training loss falls towards 0, because the answer is in the input,
    and it can predict nothing. ``check`` rejects it by name.
    """

    exhibit: ClassVar[str | None] = "causality"
    causal: ClassVar[bool] = False
    advance = LanguageModel.advance  # a cache is of no use when the past looks ahead


class Block(nn.Module):
    """Attention, then MLP, each reading a normalised copy of the residual stream."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_head: int,
        d_hidden: int,
        dropout: float,
        bias: bool,
        causal: bool,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model, bias=bias)
        self.attention = Attention(d_model, num_heads, d_head, dropout, bias, causal)
        self.mlp_norm = nn.LayerNorm(d_model, bias=bias)
        self.mlp = MLP(d_model, d_hidden, dropout, bias)

    def forward(
        self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None, past: int = 0
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.attention_norm(x), cache, past)
        return x + self.mlp(self.mlp_norm(x))


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(Dh)) V in each of H heads, mixed by one more linear map."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_head: int,
        dropout: float,
        bias: bool,
        causal: bool,
    ) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.qkv = JointLinear(d_model, dict.fromkeys("qkv", num_heads * d_head), bias)
        self.project = nn.Linear(num_heads * d_head, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None, past: int = 0
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); ``cache`` gets the keys and values at ``past``."""
        q, k, v = self._heads(x)  # (B, H, T, Dh)
        if cache is not None:
            k, v = append(cache[0], k, past), append(cache[1], v, past)
        one = q.shape[2] == 1  # the last position sees all: masking it takes time
        masked = self.causal and not one
        attended = attend(
            q,
            k,
            v,
            mask=causal_mask(q, past) if masked and past else None,
            causal=masked and not past,
            dropout=self.dropout.p if self.training else 0.0,
        )
        return self.dropout(self.project(attended.transpose(1, 2).flatten(2)))

    def weights(self, x: Tensor) -> Tensor:
        """The attention weights themselves, (B, T, D) -> (B, H, T, T)."""
        q, k, _ = self._heads(x)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        if self.causal:
            scores = scores.masked_fill(~causal_mask(q, 0), -torch.inf)
        return scores.softmax(dim=-1)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        split = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, H, Dh)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (B, H, T, Dh)
        return q, k, v


class MLP(nn.Module):
    """Two linear maps with GELU (tanh form) between them."""

    def __init__(self, d_model: int, d_hidden: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, d_hidden, bias=bias)
        self.activation = nn.GELU(approximate="tanh")
        self.project = nn.Linear(d_hidden, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.dropout(self.project(self.activation(self.expand(x))))
