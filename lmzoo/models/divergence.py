"""Loss and gradient of each step, and what to do when one is not finite.

To read a number from a GPU is to wait until it has done all that it was given. torch's
fused optimizers take a flag that stays there, ``found_inf``, by which its gradient
scaler leaves steps out: where it is 1 they change neither weights nor their own state.
So on a GPU they are held still from the first bad step on, and it is said at the next
row of the log, validation or checkpoint. Everywhere else each step is looked at.
"""

import math
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer

from lmzoo.errors import Diverged

PATIENCE_OF_SCALER = 10  # steps left out in a row by a gradient scaler


def can_hold(optimizer: Optimizer, norm: Tensor) -> bool:
    """Whether the optimizer heeds a flag on the device that ``norm`` is on."""
    return norm.is_cuda and getattr(optimizer, "_step_supports_amp_scaling", False)


class Watch:
    """Stops training before the optimizer step whose loss or gradient is not finite.

    Nothing lets go of what is held: whenever somebody looks, the weights are those
    before that step.
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None  # of a step's micro-batches, added up
        self._skipped = 0
        self._first: Tensor | None = None  # that was held, from 1; below: none

    def add(self, loss: Tensor, several: bool = False) -> None:
        """Before each backward pass: its loss, (); it stays where it is.

        Args:
            loss: of a micro-batch.
            several: processes add up their gradients. One whose loss is not finite
                then spoils that of all, so that none steps on without the others.
        """
        seen = loss.detach()
        if several and loss.requires_grad:
            loss.register_hook(partial(_spoilt, seen))
        self._loss = seen if self._loss is None else self._loss + seen

    def may_step(
        self, trainer: Any, optimizer: Optimizer, norm: Tensor, *, sharded: bool
    ) -> bool:
        """Before each optimizer step: whether to take it, as far as one can tell.

        Args:
            trainer: Lightning's.
            optimizer: that is about to step.
            norm: of the whole gradient, ().
            sharded: each process holds a share of every weight.

        Returns:
            False where a gradient scaler leaves this step out and lowers its scale.

        Raises:
            Diverged: loss or gradient is not finite; several times in a row where a
                gradient scaler leaves such steps out.
        """
        loss, self._loss = self._loss, None
        scaler = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
        # of several processes each has a loss of its own, and all the same gradient,
        # which a loss that is not finite spoils
        several = getattr(trainer, "world_size", 1) > 1
        seen = norm if loss is None or several else norm + loss.to(norm)
        if can_hold(optimizer, norm) and scaler is None and not sharded:
            self.hold(optimizer, seen, trainer.global_step + 1)
            if (trainer.global_step + 1) % max(1, trainer.log_every_n_steps) == 0:
                self.require_finite(trainer)
            return True
        finite = math.isfinite(seen.item())
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped and (scaler is None or self._skipped >= PATIENCE_OF_SCALER):
            what = "the gradient is not finite"
            if loss is not None and not math.isfinite(loss):
                what = f"the loss is {float(loss)}"
            _diverged(trainer, what, getattr(trainer, "global_step", 0) + 1)
        return finite

    def hold(self, optimizer: Optimizer, seen: Tensor, step: int) -> None:
        """Hold an optimizer still from the first ``seen`` on that is not finite."""
        if self._first is None or self._first.device != seen.device:
            self._first = torch.full_like(seen, -1, dtype=torch.int64)
        begins = ~torch.isfinite(seen) & (self._first < 0)
        self._first = torch.where(begins, step, self._first)
        flag = (self._first >= 0).float()
        vars(optimizer).update(found_inf=flag, grad_scale=None)

    def held_since(self) -> int | None:
        """The step at which it began, if it did; waits for the device, and forgets."""
        first = -1 if self._first is None else int(self._first)
        if first < 0:
            return None
        self._first = None
        return first

    def require_finite(self, trainer: Any) -> None:
        """Stop if a step was held.

        Raises:
            Diverged: saying which; the weights are those before it.
        """
        if (step := self.held_since()) is not None:
            _diverged(trainer, "the loss or its gradient is not finite", step)


def _spoilt(loss: Tensor, gradient: Tensor) -> Tensor:
    """The gradient where the loss is finite, NaN where it is not; nothing waits."""
    return torch.where(torch.isfinite(loss), gradient, math.nan)


def _diverged(trainer: Any, what: str, step: int) -> NoReturn:
    clipped = getattr(trainer, "gradient_clip_val", None)
    clip = "" if clipped else ", or clip with --trainer.gradient_clip_val 1"
    raise Diverged(
        f"training diverged: {what} at step {step}; nothing was updated. Lower "
        f"--optimizer.lr{clip}"
    )
