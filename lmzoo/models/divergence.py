"""A gradient that is not finite, noticed without waiting for the GPU in every step.

To read a number from a GPU is to wait until it has done all that it was given. torch's
fused optimizers take a flag that stays there, ``found_inf``, by which its gradient
scaler leaves steps out: where it is 1 they change neither weights nor their own state.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer


def can_hold(optimizer: Optimizer, norm: Tensor) -> bool:
    """Whether the optimizer heeds a flag on the device that ``norm`` is on."""
    return norm.is_cuda and getattr(optimizer, "_step_supports_amp_scaling", False)


class Hold:
    """Holds an optimizer still from the first gradient that is not finite on.

    Nothing lets go of it again: whenever somebody looks, the weights are those before
    that step.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None  # the step at which it began; below 0: none

    def watch(self, optimizer: Optimizer, norm: Tensor, step: int) -> None:
        """Before each optimizer step: take note of its gradient's norm, on the device.

        Args:
            optimizer: that heeds ``found_inf``.
            norm: of the whole gradient, ().
            step: its number.
        """
        if self._first is None or self._first.device != norm.device:
            self._first = torch.full_like(norm, -1, dtype=torch.int64)
        begins = ~torch.isfinite(norm) & (self._first < 0)
        self._first = torch.where(begins, step, self._first)
        flag = (self._first >= 0).float()
        vars(optimizer).update(found_inf=flag, grad_scale=None)

    def since(self) -> int | None:
        """The step at which it began, if it did; waits for the device, and forgets."""
        first = -1 if self._first is None else int(self._first)
        if first < 0:
            return None
        self._first = None
        return first
