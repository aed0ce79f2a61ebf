"""Optimizers and schedules by class path, over the model's own parameter groups.

The command line names a class and its arguments; the model says which parameters decay.
A schedule is a function of the step alone.

An optimizer may have two class attributes. ``of_model`` names the arguments that the
model fills in: ``hidden`` and ``stacked``, as ``hidden_matrices`` and
``stacked_parameters`` give them. ``whole_matrices`` is True where a step looks at whole
matrices, so that it cannot work on shares of them.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lmzoo.errors import UsageError
from lmzoo.models.member import Member, is_matrix
from lmzoo.training.parts import Parts
from lmzoo.training.schedules import Schedule


class WarmupCosine(Schedule):
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


def use(
    model: Member, optimizer: dict[str, Any], scheduler: dict[str, Any] | None
) -> None:
    """Give ``model`` the factories that its ``configure_optimizers`` calls.

    Args:
        model: a member of the zoo.
        optimizer: ``{"class_path": ..., "init_args": {...}}``.
        scheduler: the same, or None for a constant rate.
    """
    # a partial, not a closure: a copy of the model then asks the copy
    model.optimizer_factory = partial(_optimizer, optimizer, model)
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


def _optimizer(
    spec: dict[str, Any], model: Member, groups: list[dict[str, Any]]
) -> Optimizer:
    arguments, cls = dict(spec.get("init_args") or {}), _import(spec["class_path"])
    arguments |= {name: OF_MODEL[name](model) for name in of_model(spec["class_path"])}
    if cls is torch.optim.Muon:
        raise UsageError(
            "--optimizer torch.optim.Muon: it takes matrices alone, and a model has "
            "other parameters too; give --optimizer muon, which trains those by AdamW"
        )
    return _build({**spec, "init_args": arguments}, "--optimizer", groups)


def of_model(class_path: str) -> tuple[str, ...]:
    """Arguments of an optimizer that the model fills in; none if there is no such."""
    try:
        return getattr(_import(class_path), "of_model", ())
    except (ImportError, AttributeError, ValueError):
        return ()  # the parser says what is wrong with it


def needs_whole_matrices(class_path: str) -> bool:
    """Whether an optimizer's step looks at whole matrices, by its own word."""
    cls = _import(class_path)
    return getattr(cls, "whole_matrices", cls in WHOLE_MATRICES)


def hidden_matrices(model: Member) -> dict[nn.Parameter, list[int]]:
    """Matrices inside the blocks, no embedding and no head -> the rows of their parts.

    A matrix that stands for several, one on top of the other, has several parts, as
    the model's ``stacked`` says. The kernel of a depthwise convolution is no matrix.
    """
    parts, stacked = Parts.of(model), model.stacked()
    found = {}
    for name in sorted(set().union(*parts.blocks)):
        parameter = parts.named[name]
        if is_matrix(parameter):
            found[parameter] = stacked.get(name, [len(parameter)])
    return found


def stacked_parameters(model: Member) -> dict[nn.Parameter, list[int]]:
    """Parameters that are several on top of one another -> the rows of each."""
    named, stacked = dict(model.named_parameters()), model.stacked()
    return {named[name]: rows for name, rows in stacked.items() if name in named}


OF_MODEL: Mapping[str, Callable[[Member], Any]] = {
    "hidden": hidden_matrices,
    "stacked": stacked_parameters,
}
# of the library's: orthogonalised as a whole; moments of rows and of columns
WHOLE_MATRICES = (torch.optim.Muon, torch.optim.Adafactor)


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
