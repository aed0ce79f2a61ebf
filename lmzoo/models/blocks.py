"""How attention and MLP are joined to the residual stream, and fed from it.

    parallel:  x + Attention(N(x)) + MLP(N(x))
    serial:    x + Attention(N(x)), then x + MLP(N(x))

The parallel form (Wang & Komatsuzaki 2021, GPT-J) has one norm, and all maps that read
it can be one product.
"""

from typing import Literal

from torch import Tensor, nn

from lmzoo.models.gated import GatedMLP
from lmzoo.models.grouped import GroupedAttention
from lmzoo.models.norms import Norm, make_norm
from lmzoo.models.projections import Projections

BlockForm = Literal["parallel", "serial"]


class Parallel(nn.Module):
    """Both halves read one norm of the stream, by one product if fused.

    Args:
        attention: takes the outputs named in its ``inputs``.
        mlp: likewise.
        d_model: width of the stream, D.
        norm: kind of the norm.
        bias: add biases to the maps and to the norms.
        fused: one product for all of them.
    """

    def __init__(
        self,
        attention: GroupedAttention,
        mlp: GatedMLP,
        *,
        d_model: int,
        norm: Norm,
        bias: bool,
        fused: bool,
    ) -> None:
        super().__init__()
        parts = {**attention.inputs, **mlp.inputs}
        self.norm = make_norm(norm, d_model, bias=bias)
        self.inputs = Projections(d_model, parts, bias=bias, fused=fused)
        self.attention, self.mlp = attention, mlp

    def forward(
        self,
        x: Tensor,
        rotation: Tensor | None = None,
        cache: tuple[Tensor, Tensor] | None = None,
        past: int = 0,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v, *hidden = self.inputs(self.norm(x))
        attended = self.attention(q, k, v, rotation, cache, past)
        return x + attended + self.mlp(*hidden)

    def attention_weights(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, H, T, T)."""
        q, k, *_ = self.inputs(self.norm(x))
        return self.attention.weights(q, k, rotation)


class Serial(nn.Module):
    """Attention, then MLP, each reading its own norm of the stream.

    Args: as ``Parallel``; fused, each half has one product.
    """

    def __init__(
        self,
        attention: GroupedAttention,
        mlp: GatedMLP,
        *,
        d_model: int,
        norm: Norm,
        bias: bool,
        fused: bool,
    ) -> None:
        super().__init__()
        self.attention_norm = make_norm(norm, d_model, bias=bias)
        self.attention_inputs = Projections(
            d_model, attention.inputs, bias=bias, fused=fused
        )
        self.attention = attention
        self.mlp_norm = make_norm(norm, d_model, bias=bias)
        self.mlp_inputs = Projections(d_model, mlp.inputs, bias=bias, fused=fused)
        self.mlp = mlp

    def forward(
        self,
        x: Tensor,
        rotation: Tensor | None = None,
        cache: tuple[Tensor, Tensor] | None = None,
        past: int = 0,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v = self.attention_inputs(self.attention_norm(x))
        x = x + self.attention(q, k, v, rotation, cache, past)
        return x + self.mlp(*self.mlp_inputs(self.mlp_norm(x)))

    def attention_weights(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, H, T, T)."""
        q, k, _ = self.attention_inputs(self.attention_norm(x))
        return self.attention.weights(q, k, rotation)
