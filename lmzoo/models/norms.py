"""Norms with a scale, and with a bias if asked for."""

from typing import Literal

from torch import nn

Norm = Literal["layer", "rms"]
EPSILON = 1e-6


def make_norm(
    kind: Norm, size: int, *, scale: bool = True, bias: bool = False
) -> nn.Module:
    """A norm over the last ``size`` entries.

    Args:
        kind: ``layer`` takes the mean off and divides by the standard deviation (Ba et
            al. 2016, arXiv:1607.06450); ``rms`` divides by the root mean square (Zhang
            & Sennrich 2019, arXiv:1910.07467).
        size: entries, D.
        scale: learn a factor for each entry, 1 at first.
        bias: of ``layer`` with a scale, learn a number to add to each entry, 0 at
            first; ``rms`` has none.
    """
    if kind == "rms":
        return nn.RMSNorm(size, EPSILON, elementwise_affine=scale)
    return nn.LayerNorm(size, EPSILON, elementwise_affine=scale, bias=bias)
