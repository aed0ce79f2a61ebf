"""Adafactor unfactored, as in PaLM: Adam with steps by the parameter's own scale.

Shazeer & Stern 2018 (arXiv 1804.04235), algorithm 5 with a full matrix of second
moments and a first moment; Chowdhery et al. 2022 (arXiv 2204.02311), section 5. The
library's ``torch.optim.Adafactor`` always factors and has no first moment.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lmzoo.models.member import whole

EPSILON = 1e-30  # added to squared gradients
LEAST_SCALE = 1e-3  # a parameter counts as at least this large


class Adafactor(Optimizer):
    """Adam whose step is a share of the parameter's root mean square.

    At step k: v <- b2 v + (1 - b2) g^2 with b2 = 1 - k^decay; u = g / sqrt(v), divided
    by its own root mean square where that exceeds ``clip_threshold``;
    m <- b1 m + (1 - b1) lr max(1e-3, rms(x)) u; x <- x - m - weight_decay lr^2 x.

    Both root mean squares are of a parameter, or of each part of one that is several on
    top of one another: a fused matrix learns as its parts would alone. PaLM clips the
    norm of the whole gradient at 1, which is the Trainer's ``gradient_clip_val``; that
    updates are clipped besides is Shazeer & Stern's, is not named in PaLM's section 5,
    and is off with ``clip_threshold=None``.

    Args:
        params: parameter groups.
        stacked: parameters that are several -> the rows of each; filled in by the
            model.
        lr: share of a parameter's scale; PaLM's peak, for ``InverseSquareRoot``.
        beta1: share of the earlier steps in a step; 0 for none.
        decay: exponent of the second moment's b2, negative.
        clip_threshold: largest root mean square of an update before it is scaled;
            None for no such clipping.
        weight_decay: of matrices, times the square of the present rate.

    Raises:
        ValueError: a number out of range.
    """

    of_model: ClassVar[tuple[str, ...]] = ("stacked",)

    def __init__(
        self,
        params: Iterable[Any],
        stacked: Mapping[nn.Parameter, Sequence[int]] | None = None,
        lr: float = 1e-2,
        beta1: float = 0.9,
        decay: float = -0.8,
        clip_threshold: float | None = 1.0,
        weight_decay: float = 1.0,
    ) -> None:
        if not 0 < lr < float("inf") or not 0 <= beta1 < 1 or not decay < 0:
            raise ValueError(
                f"expected lr > 0, beta1 in [0, 1) and decay < 0, given {lr}, {beta1}, "
                f"{decay}"
            )
        clips = clip_threshold is not None
        if (clips and not clip_threshold > 0) or not weight_decay >= 0:
            raise ValueError(
                f"expected clip_threshold > 0 and weight_decay >= 0, given "
                f"{clip_threshold}, {weight_decay}"
            )
        defaults = {"lr": lr, "beta1": beta1, "decay": decay}
        defaults |= {"clip_threshold": clip_threshold, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self._rows = {p: list(rows) for p, rows in (stacked or {}).items()}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(
        self, parameter: nn.Parameter, grad: Tensor, group: dict[str, Any]
    ) -> None:
        state, rate = self.state[parameter], group["lr"]
        if not state:
            state["step"] = torch.tensor(0.0)  # on the CPU: reading it waits for none
            state["second"] = torch.zeros_like(parameter)
            if group["beta1"]:
                state["first"] = torch.zeros_like(parameter)
        state["step"] += 1
        forget = float(state["step"]) ** group["decay"]  # 1 - b2
        second = state["second"].lerp_(grad.square() + EPSILON, forget)
        update, rows = grad * second.rsqrt(), self._rows.get(parameter)
        if group["clip_threshold"] is not None:
            update /= (_rms(update, rows) / group["clip_threshold"]).clamp(min=1)
        update *= rate * _rms(parameter, rows).clamp(min=LEAST_SCALE)
        if group["beta1"]:
            update = state["first"].lerp_(update, 1 - group["beta1"])
        parameter.mul_(1 - group["weight_decay"] * rate**2)
        parameter.sub_(update)


def _rms(tensor: Tensor, rows: Sequence[int] | None) -> Tensor:
    """Root mean square of all entries, or of each part's, given for each of its rows.

    Nothing is read back from the device. Of a sharded tensor every process has to ask,
    and gets its share of the rows.
    """
    if rows is None or len(rows) == 1:
        return tensor.norm() / tensor.numel() ** 0.5
    norms = torch.linalg.vector_norm(tensor.reshape(len(tensor), -1), dim=1)
    width = tensor.numel() // len(tensor)
    parts = [
        (part.norm() / (n * width) ** 0.5).expand(n)
        for part, n in zip(whole(norms).split(list(rows)), rows, strict=True)
    ]
    return _shared(torch.cat(parts).view(-1, *[1] * (tensor.ndim - 1)), tensor)


def _shared(tensor: Tensor, pattern: Tensor) -> Tensor:
    """This process's rows of ``tensor``, as it has those of ``pattern``."""
    if not hasattr(pattern, "to_local"):
        return tensor
    # heavy, and here imported already
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(pattern, DTensor)
    mesh, placements = pattern.device_mesh, pattern.placements
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)
