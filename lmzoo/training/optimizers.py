"""Optimizers and schedules by class path, over the model's own parameter groups.

The command line names a class and its arguments; the model says which parameters decay.
A schedule is a function of the step alone.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lmzoo.errors import UsageError
from lmzoo.models.member import Member


class WarmupCosine(LRScheduler):
    """Linear warm-up, then half a cosine down to a fraction of the rate.

    Cosine annealing is from Loshchilov & Hutter 2016 (arXiv 1608.03983).

    Args:
        optimizer: whose rates are the peak.
        total_steps: optimizer steps of the whole run; filled in by the Trainer.
        warmup_steps: steps up to the peak; at most a fifth of the run is used.
        final_ratio: rate at the end, as a fraction of the peak.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int = 1,
        warmup_steps: int = 60,
        final_ratio: float = 0.01,
    ) -> None:
        if total_steps < 1 or warmup_steps < 0 or not 0 <= final_ratio <= 1:
            raise ValueError(
                f"expected total_steps >= 1, warmup_steps >= 0 and final_ratio in "
                f"[0, 1], given {total_steps}, {warmup_steps}, {final_ratio}"
            )
        self.total_steps, self.final_ratio = total_steps, final_ratio
        self.warmup_steps = min(warmup_steps, total_steps // 5)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """The rate after ``step`` optimizer steps, as a fraction of the peak."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        span = max(1, self.total_steps - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / span)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return self.final_ratio + (1 - self.final_ratio) * cosine

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rate of every group at the current step."""
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Where it stands; the run's length is the configuration's to say."""
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the position back and set the rates that belong to it."""
        super().load_state_dict(state_dict)
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def use(
    model: Member, optimizer: dict[str, Any], scheduler: dict[str, Any] | None
) -> None:
    """Give ``model`` the factories that its ``configure_optimizers`` calls.

    Args:
        model: a member of the zoo.
        optimizer: ``{"class_path": ..., "init_args": {...}}``.
        scheduler: the same, or None for a constant rate.
    """
    model.optimizer_factory = lambda groups: _build(optimizer, "--optimizer", groups)
    if scheduler is None:
        model.scheduler_factory = None
        return
    model.scheduler_factory = _scheduler_factory(scheduler)


def rehearse(model: Member) -> None:
    """Build the optimizer and the schedule once, to be refused before anything runs.

    Raises:
        UsageError: what the optimizer or the schedule says of its arguments.
    """
    groups = model.parameter_groups()
    if groups and model.optimizer_factory is not None:
        optimizer = model.optimizer_factory(groups)
        if model.scheduler_factory is not None:
            scheduler = model.scheduler_factory(optimizer, 1)
            if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                raise UsageError(
                    "--lr_scheduler ReduceLROnPlateau: a schedule here is a function "
                    "of the step alone, so that a run resumes exactly; choose another"
                )


def _scheduler_factory(spec: dict[str, Any]) -> Callable[[Optimizer, int], Any]:
    def build(optimizer: Optimizer, total: int) -> Any:
        arguments = dict(spec.get("init_args") or {})
        cls = _import(spec["class_path"])
        if "total_steps" in inspect.signature(cls).parameters:
            arguments["total_steps"] = total
        return _build({**spec, "init_args": arguments}, "--lr_scheduler", optimizer)

    return build


def _build(spec: dict[str, Any], option: str, first: Any) -> Any:
    cls = _import(spec["class_path"])
    arguments = {k: v for k, v in (spec.get("init_args") or {}).items()}
    try:
        return cls(first, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{option} {spec['class_path']}: {error}") from error


def _import(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)
