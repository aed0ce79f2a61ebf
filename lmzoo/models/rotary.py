"""Rotary positions: a query meets a key by how far apart they stand.

    (q_i, q_i+h) -> rotated by the angle t base^(-i / h),   h = Dh / 2, i = 0 .. h - 1

so that the product of a query at t with a key at s depends on t - s alone. Su et al.
2021, "RoFormer", arXiv:2104.09864. There neighbours (2 i, 2 i + 1) make a pair; here
entry i is paired with entry i + h, the same up to the order of a head's entries, which
is learned anyway: one roll swaps the partners then.
"""

import torch
from torch import Tensor


def rotation_table(length: int, d_head: int, base: float) -> Tensor:
    """Cosines, and sines with the sign of each entry: (2, length, 1, Dh).

    Args:
        length: positions, from 0 on.
        d_head: width of a head, even.
        base: the slowest pair turns once in about ``2 pi base`` positions.

    Raises:
        ValueError: an odd width, or a base that is not above 0.
    """
    if d_head % 2:
        raise ValueError(f"rotary positions need an even d_head, given {d_head}")
    if not base > 0:
        raise ValueError(f"rope_base must be above 0, given {base!r}")
    positions = torch.arange(length, dtype=torch.float64)
    pairs = torch.arange(d_head // 2, dtype=torch.float64)
    angles = torch.outer(positions, base ** (-2 * pairs / d_head))  # (length, Dh / 2)
    cos = torch.cat([angles.cos(), angles.cos()], dim=-1)
    sin = torch.cat([-angles.sin(), angles.sin()], dim=-1)
    return torch.stack([cos, sin])[:, :, None].to(torch.get_default_dtype())


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn ``x`` (B, T, H, Dh) by its positions' rows of a table (2, T, 1, Dh).

    In the type of ``x``: under autocast a wider table would widen queries and keys, and
    attention narrow them again.
    """
    cos, sin = table.to(x.dtype)
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin
