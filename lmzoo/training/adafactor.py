"""Adafactor as PaLM uses it: second moments unfactored, steps by the parameter's scale.

Shazeer & Stern 2018 (arXiv 1804.04235), algorithm 5 with a full matrix of second
moments and a first moment; Chowdhery et al. 2022 (arXiv 2204.02311), section 5. The
library's ``torch.optim.Adafactor`` always factors and has no first moment.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

EPSILON = 1e-30  # added to squared gradients
LEAST_SCALE = 1e-3  # a parameter counts as at least this large


class Adafactor(Optimizer):
    """Adam whose step is a share of the parameter's root mean square.

    At step k: v <- b2 v + (1 - b2) g^2 with b2 = 1 - k^decay; u = g / sqrt(v), divided
    by its own root mean square where that exceeds ``clip_threshold``;
    m <- b1 m + (1 - b1) lr max(1e-3, rms(x)) u; x <- x - m - weight_decay lr^2 x.

    Args:
        params: parameter groups.
        lr: share of a parameter's scale; PaLM's peak, for ``InverseSquareRoot``.
        beta1: share of the earlier steps in a step; 0 for none.
        decay: exponent of the second moment's b2, negative.
        clip_threshold: largest root mean square of an update before it is scaled.
        weight_decay: of matrices, times the square of the present rate.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta1: float = 0.9,
        decay: float = -0.8,
        clip_threshold: float = 1.0,
        weight_decay: float = 1.0,
    ) -> None:
        if not 0 < lr < float("inf") or not 0 <= beta1 < 1 or not decay < 0:
            raise ValueError(
                f"expected lr > 0, beta1 in [0, 1) and decay < 0, given {lr}, {beta1}, "
                f"{decay}"
            )
        if not clip_threshold > 0 or not weight_decay >= 0:
            raise ValueError(
                f"expected clip_threshold > 0 and weight_decay >= 0, given "
                f"{clip_threshold}, {weight_decay}"
            )
        defaults = {"lr": lr, "beta1": beta1, "decay": decay}
        defaults |= {"clip_threshold": clip_threshold, "weight_decay": weight_decay}
        super().__init__(params, defaults)

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

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, rate = self.state[parameter], group["lr"]
        if not state:
            state["step"] = torch.tensor(0.0)  # on the CPU: reading it waits for none
            state["second"] = torch.zeros_like(parameter)
            if group["beta1"]:
                state["first"] = torch.zeros_like(parameter)
        state["step"] += 1
        forget = float(state["step"]) ** group["decay"]  # 1 - b2
        second = state["second"].lerp_(grad.square() + EPSILON, forget)
        update = grad * second.rsqrt()
        update /= (_rms(update) / group["clip_threshold"]).clamp(min=1)
        update *= rate * _rms(parameter).clamp(min=LEAST_SCALE)
        if group["beta1"]:
            update = state["first"].lerp_(update, 1 - group["beta1"])
        parameter.mul_(1 - group["weight_decay"] * rate**2)
        parameter.sub_(update)


def _rms(tensor: Tensor) -> Tensor:
    """Root mean square of all entries; nothing is read back from the device."""
    return tensor.norm() / tensor.numel() ** 0.5
