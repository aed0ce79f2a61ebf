"""PaLM's decoder with each choice an argument: its presets are the paper's models.

    x = E[tokens]
    x = x + Attention(N(x)) + MLP(N(x))                    parallel, L times; or
    x = x + Attention(N(x));  x = x + MLP(N(x))            serial, L times
    logits = E N(x) / sqrt(D)

Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, section 2, and its sources: SwiGLU
(Shazeer 2020, arXiv:2002.05202), parallel halves (Wang & Komatsuzaki 2021, GPT-J), one
head of keys and values (Shazeer 2019, arXiv:1911.02150), rotary positions (Su et al.
2021, arXiv:2104.09864), one matrix for both embeddings, no biases, the z-loss. Beside
them: RMS norm (Zhang & Sennrich 2019, arXiv:1910.07467), groups of heads (Ainslie et
al. 2023, arXiv:2305.13245), normalised queries and keys (Henry et al. 2020,
arXiv:2010.04245), squared ReLU (So et al. 2021, arXiv:2109.08668).

The defaults are no PaLM: they are for minutes on a processor, with serial blocks, as
many heads of keys and values as of queries, normalised queries and keys, a head of its
own and GPT-2's start. Left out of the presets: the paper's optimizer, which is no part
of a network, and in the small ones its vocabulary.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lmzoo.metrics import IGNORED
from lmzoo.models.blocks import BlockForm, Parallel, Serial
from lmzoo.models.caching import Cache, CachedDecoder
from lmzoo.models.gated import GatedMLP, MLPKind, hidden_width
from lmzoo.models.grouped import GroupedAttention
from lmzoo.models.layers import (
    SMALL,
    language_head,
    matrix_flops,
    require_choice,
    require_positive,
    require_probability,
    widened,
)
from lmzoo.models.norms import Norm, make_norm
from lmzoo.models.rotary import rotation_table

Position = Literal["rope", "learned", "none"]
Start = Literal["gpt2", "palm"]

GPT2_WIDTH = 768  # where GPT-2's 0.02 is its own; it goes as 1 / sqrt(d_model) here
SIMULATED = 4_000_000  # logits, about, behind an expected initial loss
PAPER: dict[str, Any] = {  # every choice, so that no default decides one
    "num_kv_heads": 1,
    "mlp": "swiglu",
    "position": "rope",
    "rope_base": 10_000.0,
    "norm": "layer",
    "block": "parallel",
    "fused": True,
    "bias": False,
    "tie_embeddings": True,
    "scale_logits": True,
    "qk_norm": False,
    "z_loss": 1e-4,
    "initialisation": "palm",
    "dropout": 0.0,
}
TEXT: dict[str, Any] = {"vocab_size": 256_000, "context_length": 2048, "d_head": 256}


def _sizes(layers: int, heads: int, width: int, **more: Any) -> dict[str, Any]:
    sizes = {"num_layers": layers, "num_heads": heads, "d_model": width}
    return {**PAPER, **sizes, "d_hidden": 4 * width, **more}


class PaLM(CachedDecoder):
    """PaLM's decoder, of which every part can be exchanged; presets are the paper's.

    Maps tokens (B, T) to logits (B, T, V), T at most ``context_length``.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: most tokens that one prediction sees, C.
        d_model: width of the residual stream, D.
        num_layers: blocks, L.
        num_heads: heads of queries in a block, H.
        num_kv_heads: heads of keys and values, a divisor of ``num_heads``; 1 is
            multi-query attention; None: ``num_heads``.
        d_head: width of one head; None: ``d_model // num_heads``.
        d_hidden: width of the MLP's hidden layer; None: the one with 8 D^2 weights,
            whatever the kind: 4 D, or 8/3 D (a multiple of 8) where it is gated.
        mlp: ``swiglu``, ``gelu`` or ``relu_squared``.
        position: ``rope`` rotates queries and keys, ``learned`` adds a vector, ``none``
            leaves the order to the mask.
        rope_base: of the angles of ``rope``, above 0.
        norm: ``layer`` or ``rms``, each with a scale.
        block: ``parallel``: both halves read one norm of the stream; ``serial``.
        fused: one matrix product for all maps that read the same norm.
        bias: add biases to the blocks' linear maps and to the layer norms; an RMS
            norm, queries' and keys' norm and the head have none.
        tie_embeddings: one matrix for the token embedding and the head.
        scale_logits: divide logits by sqrt(D).
        qk_norm: normalise queries and keys in each head, as ``norm`` does, no scale.
        z_loss: weight of log^2 Z in training, at least 0; no reported loss holds it.
        initialisation: ``palm``: linear maps, a head of its own too, N(0, 1 / fan-in),
            embeddings N(0, 1);
            ``gpt2``: N(0, 0.02^2 768 / D), 1 / (2 L) of that variance into the stream,
            embeddings N(0, 0.02^2).
        dropout: probability of dropping an embedding, an attention weight, or a
            part's output, in [0, 1).

    Raises:
        ValueError: a number out of its range, an unknown choice, heads that do not
            divide, or an odd ``d_head`` with ``rope``.
    """

    # Table 1 of the paper; a text brings its own vocabulary. The small ones are of its
    # form and of the sizes that minGPT gave the names to.
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "palm-540b": _sizes(118, 48, 18_432, **TEXT),
        "palm-62b": _sizes(64, 32, 8192, **TEXT),
        "palm-8b": _sizes(32, 16, 4096, **TEXT),
        "palm-micro": _sizes(4, 4, 128),
        "palm-nano": _sizes(3, 3, 48),
    }

    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 4e-3,
        "data.batch_size": 12,
        "lr_scheduler.warmup_steps": 60,
        "trainer.max_steps": 10_000,
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "d_hidden")

    rotation: Tensor | None  # (2, C, 1, Dh)

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        d_model: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        d_hidden: int | None = None,
        mlp: MLPKind = "swiglu",
        position: Position = "rope",
        rope_base: float = 10_000.0,
        norm: Norm = "layer",
        block: BlockForm = "serial",
        fused: bool = True,
        bias: bool = False,
        tie_embeddings: bool = False,
        scale_logits: bool = False,
        qk_norm: bool = True,
        z_loss: float = 0.0,
        initialisation: Start = "gpt2",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self._settle(d_model, num_heads, num_kv_heads, d_head, d_hidden, mlp)
        _check_choices(position, norm, block, initialisation)
        require_positive(num_layers=num_layers)
        require_probability(dropout=dropout)
        if not 0 <= z_loss < math.inf:
            raise ValueError(f"z_loss must be a weight of at least 0, given {z_loss!r}")
        self.z_loss, self.initialisation = z_loss, initialisation

        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding, table = None, None
        if position == "learned":
            self.position_embedding = nn.Embedding(context_length, d_model)
        if position == "rope":
            table = rotation_table(context_length, self.d_head, rope_base)
        self.register_buffer("rotation", table, persistent=False)
        self.dropout = nn.Dropout(dropout)
        form = Parallel if block == "parallel" else Serial
        heads, width = (num_heads, self.num_kv_heads, self.d_head), self.d_hidden
        self.layers = nn.ModuleList(
            form(
                GroupedAttention(
                    d_model, *heads, norm if qk_norm else None, bias, dropout
                ),
                GatedMLP(mlp, d_model, width, bias, dropout),
                d_model=d_model,
                norm=norm,
                bias=bias,
                fused=fused,
            )
            for _ in range(num_layers)
        )
        self.norm = make_norm(norm, d_model, bias=bias)
        self.head = language_head(
            d_model,
            self.token_embedding,
            tie=tie_embeddings,
            bias=False,
            scale=d_model**-0.5 if scale_logits else 1.0,
        )
        self._initialise()

    def _run(
        self, tokens: Tensor, cache: Cache | None = None, past: int = 0, skip: int = 0
    ) -> Tensor:
        x, rotation = self._inputs(tokens, past)  # (B, T, D)
        for i, layer in enumerate(self.layers):
            x = layer(x, rotation, cache and (cache.keys[i], cache.values[i]), past)
        return self.head(self.norm(x[:, skip:]))  # (B, T - skip, V)

    def _inputs(self, tokens: Tensor, past: int = 0) -> tuple[Tensor, Tensor | None]:
        """Vectors (B, T, D), and the rotations of their positions if there are any."""
        end = self._end(tokens, past)
        x = self.token_embedding(tokens)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[past:end]
        rotation = None if self.rotation is None else self.rotation[:, past:end]
        return self.dropout(x), rotation

    def penalties(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The z-loss: log^2 of the softmax's denominator, mean over counted targets.

        It keeps log Z near 0 (section 5 of the paper).
        """
        if not self.z_loss:
            return {}
        counted = targets != IGNORED
        squares = widened(logits).logsumexp(dim=-1).square() * counted
        return {"z_loss": self.z_loss * squares.sum() / counted.sum().clamp(min=1)}

    def attention_maps(self, tokens: Tensor) -> Tensor:
        """Attention weights of every layer and head, (B, L, H, T, T); rows sum to 1."""
        (x, rotation), maps = self._inputs(tokens), []
        for layer in self.layers:
            maps.append(layer.attention_weights(x, rotation))  # type: ignore[operator]
            x = layer(x, rotation)
        return torch.stack(maps, dim=1)

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token at ``length``: 6 N + 12 L H Dh T.

        N counts the weights of matrix products, the head included; biases, norms and
        look-ups are left out, and masked pairs are counted (appendix B of the paper).
        How many heads keys and values have changes N alone.
        """
        attention = len(self.layers) * self.num_heads * self.d_head * length
        return matrix_flops(self) + 12 * attention

    def expected_initial_nll(self) -> float:
        """Nats per token before training, by a simulation of the first weights.

        With ``palm`` all that enters a linear map has variance 1, and so has what comes
        out. The stream is the token's vector e and 2 L outputs of known variances, so
        that a share r of it is e; a head of its own then gives independent normal
        logits, and a tied one adds r |e| to the logit of the token just read: such a
        model starts by repeating it, the louder the wider and shallower it is. What
        positions have in common is left out, so the figure for a tied head is a little
        high.
        """
        if self.initialisation == "gpt2":
            return super().expected_initial_nll()
        noise = torch.Generator().manual_seed(0)
        length = self.context_length
        rows = max(16, min(1024, SIMULATED // self.vocab_size))  # one position each
        scores = torch.randn(rows, length, generator=noise)
        places = torch.linspace(0, length - 1, rows).round()
        seen = torch.arange(length) <= places[:, None]
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        mlp = next(m for m in self.modules() if isinstance(m, GatedMLP))
        inputs = [torch.randn(10_000, generator=noise) for _ in mlp.inputs]
        added = weights.square().sum(-1) + mlp.activate(*inputs).square().mean()
        vectors = 1 + (self.position_embedding is not None)
        share = (vectors + len(self.layers) * added).rsqrt()  # (rows,)
        logits = torch.randn(rows, self.vocab_size, generator=noise)
        if self.head.weight is self.token_embedding.weight:
            width = self.token_embedding.embedding_dim
            logits = logits * width**0.5
            logits[:, 0] += share * width
        logits = logits * getattr(self.head, "scale", 1.0)
        return float((logits.logsumexp(-1) - logits.mean(-1)).mean())

    def _settle(
        self,
        d_model: int,
        num_heads: int,
        num_kv_heads: int | None,
        d_head: int | None,
        d_hidden: int | None,
        mlp: MLPKind,
    ) -> None:
        """Check the sizes, and fill in those that follow from others."""
        require_choice(MLPKind, mlp=mlp)
        require_positive(d_model=d_model, num_heads=num_heads)
        if d_head is None and d_model % num_heads:
            raise ValueError(
                f"d_model must be a multiple of num_heads unless d_head is given: "
                f"expected a multiple of {num_heads}, given {d_model}"
            )
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.d_head = d_model // num_heads if d_head is None else d_head
        self.d_hidden = hidden_width(mlp, d_model) if d_hidden is None else d_hidden
        require_positive(
            num_kv_heads=self.num_kv_heads, d_head=self.d_head, d_hidden=self.d_hidden
        )
        if num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads must divide num_heads: expected a divisor of "
                f"{num_heads}, given {num_kv_heads}"
            )

    def _initialise(self) -> None:
        paper = self.initialisation == "palm"
        embedding = self.token_embedding.weight
        std = SMALL * (GPT2_WIDTH / embedding.shape[1]) ** 0.5
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1.0 if paper else SMALL)
            elif isinstance(module, nn.Linear) and module.weight is not embedding:
                out = 2 * len(self.layers) if name.endswith("project") else 1
                own = SMALL if module is self.head else std / out**0.5
                own = module.in_features**-0.5 if paper else own
                nn.init.normal_(module.weight, std=own)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _check_choices(
    position: Position, norm: Norm, block: BlockForm, initialisation: Start
) -> None:
    require_choice(Position, position=position)
    require_choice(Norm, norm=norm)
    require_choice(BlockForm, block=block)
    require_choice(Start, initialisation=initialisation)
