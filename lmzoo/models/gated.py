"""The position-wise half of a block: one hidden layer, gated or not."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

MLPKind = Literal["swiglu", "gelu", "relu_squared"]
STEP = 8  # a gated hidden layer is a multiple of it wide, for the processor's sake


def hidden_width(kind: MLPKind, d_model: int) -> int:
    """Width at which every kind has 8 D^2 weights, the gated one to a multiple of 8.

    Two matrices of 4 D, or three of 8/3 D (Shazeer 2020, arXiv:2002.05202, section 3).
    """
    if kind != "swiglu":
        return 4 * d_model
    return STEP * max(1, round(8 * d_model / 3 / STEP))


class GatedMLP(nn.Module):
    """An activation between two linear maps, the first of which a block provides.

    - ``swiglu``: silu(x W) times x V, entry by entry.
    - ``gelu``: in its tanh form.
    - ``relu_squared``: max(0, x W)^2 (So et al. 2021, arXiv:2109.08668).

    Args:
        kind: as above.
        d_model: width of the output, D.
        d_hidden: width of the hidden layer, F.
        bias: add biases to the last map.
        dropout: of the output.
    """

    def __init__(
        self, kind: MLPKind, d_model: int, d_hidden: int, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        names = ["gate", "up"] if kind == "swiglu" else ["up"]
        self.kind = kind
        self.inputs: dict[str, int] = dict.fromkeys(names, d_hidden)  # a block's part
        self.project = nn.Linear(d_hidden, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, *inputs: Tensor) -> Tensor:
        """One or two tensors (B, T, F) -> (B, T, D)."""
        return self.dropout(self.project(self.activate(*inputs)))

    def activate(self, *inputs: Tensor) -> Tensor:
        """One tensor (..., F), or the gate and what it lets through -> (..., F)."""
        if self.kind == "swiglu":
            gate, up = inputs
            return F.silu(gate) * up
        if self.kind == "gelu":
            return F.gelu(inputs[0], approximate="tanh")
        return F.relu(inputs[0]).square()
