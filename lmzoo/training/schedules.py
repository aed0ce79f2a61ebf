"""Learning-rate schedules: each a function of the step alone, so that a run resumes.

``WarmupCosine``, the default, stands in ``lmzoo.training.optimizers``.
"""

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Schedule(LRScheduler):
    """Every group's rate is its peak times ``factor(step)``.

    A state is the position alone: the run's length is the configuration's to say.

    Args:
        optimizer: whose rates are the peak.
    """

    def factor(self, step: int) -> float:
        """The rate after ``step`` optimizer steps, as a fraction of the peak."""
        raise NotImplementedError

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rate of every group at the current step."""
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the position back and set the rates that belong to it."""
        super().load_state_dict(state_dict)
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class WarmupStableDecay(Schedule):
    """Linear warm-up, the peak for most of the run, then a line down.

    Hu et al. 2024 (MiniCPM, arXiv 2404.06395); the line and its share of the run as in
    Hagele et al. 2024 (arXiv 2405.18392).

    Args:
        optimizer: whose rates are the peak.
        total_steps: optimizer steps of the whole run; filled in by the Trainer.
        warmup_steps: steps up to the peak; at most a fifth of the run is used.
        decay_share: share of the run, at its end, in which the rate falls.
        final_ratio: rate at the end, as a fraction of the peak.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int = 1,
        warmup_steps: int = 60,
        decay_share: float = 0.2,
        final_ratio: float = 0.0,
    ) -> None:
        shares = 0 <= final_ratio <= 1 and 0 <= decay_share <= 1
        if total_steps < 1 or warmup_steps < 0 or not shares:
            raise ValueError(
                f"expected total_steps >= 1, warmup_steps >= 0, decay_share and "
                f"final_ratio in [0, 1], given {total_steps}, {warmup_steps}, "
                f"{decay_share}, {final_ratio}"
            )
        self.total_steps, self.final_ratio = total_steps, final_ratio
        self.warmup_steps = min(warmup_steps, total_steps // 5)
        self.decay_steps = round(decay_share * total_steps)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """The rate after ``step`` optimizer steps, as a fraction of the peak."""
        rising = (step + 1) / (self.warmup_steps + 1)
        left = max(0, self.total_steps - step)
        falling = 1.0
        if left < self.decay_steps:
            share = left / self.decay_steps
            falling = self.final_ratio + (1 - self.final_ratio) * share
        return min(1.0, rising) * falling


class InverseSquareRoot(Schedule):
    """The peak for a number of steps, then as one over the root of the step.

    PaLM's, with a peak of 1e-2 (Chowdhery et al. 2022, arXiv 2204.02311, section 5):
    1 / sqrt(k) from step k = 10,000 on.

    Args:
        optimizer: whose rates are the peak.
        constant_steps: steps at the peak.

    Raises:
        ValueError: fewer than 1 step.
    """

    def __init__(self, optimizer: Optimizer, constant_steps: int = 10_000) -> None:
        if constant_steps < 1:
            raise ValueError(
                f"constant_steps must be 1 or more, given {constant_steps}"
            )
        self.constant_steps = constant_steps
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """The rate of step k = ``step`` + 1, as a fraction of the peak."""
        return (self.constant_steps / max(self.constant_steps, step + 1)) ** 0.5
