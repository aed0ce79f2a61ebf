"""What a run goes on from, checked before the first step relies on it.

A checkpoint is data of any origin. Lightning and torch take its training state as it
is: a fused optimizer would write through an average that is too short into memory that
is not its own.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lmzoo.errors import UsageError, first_line

OWN_SHAPES = (torch.optim.Adafactor, torch.optim.LBFGS)  # not those of the parameters
SAVED = ("best", "last", "history", "seconds")
FAULTS = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    RuntimeError,
)
RATES = ("base_lrs", "_last_lr")  # of a schedule, one for each group of parameters
COUNTS = ("last_epoch", "_step_count")


def require_whole(checkpoint: dict[str, Any], path: Any, key: str) -> None:
    """Everything that exact resuming needs is in the checkpoint.

    Args:
        checkpoint: as it was read.
        path: where from, for the message.
        key: of the callback that saves.

    Raises:
        UsageError: naming what is not there.
    """
    states = {
        "callbacks": dict,
        "loops": dict,
        "optimizer_states": list,
        "lr_schedulers": list,
    }
    for name, kind in states.items():
        if not isinstance(checkpoint.get(name), kind):
            raise _unfit(path, f"its {name} are no {kind.__name__}")
    state = checkpoint["callbacks"].get(key)
    if not isinstance(state, dict) or any(part not in state for part in SAVED):
        raise _unfit(path, "it does not say what was saved of the run")
    for part in ("best", "last"):
        record = state[part]
        shaped = isinstance(record, dict) and {"file", "step", "metrics"} <= set(record)
        if record is not None and not shaped:
            raise _unfit(path, f"its record of the {part} checkpoint is {record!r}")


def require_fitting(trainer: Trainer, saved: tuple[int, int]) -> None:
    """The state of each optimizer is that of the parameters that it belongs to.

    Args:
        trainer: at the start of training.
        saved: how many optimizers and schedules the checkpoint holds the state of.

    Raises:
        UsageError: a state is missing, of another shape or kind, or repeats by its
            strides.
    """
    path = trainer.ckpt_path
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    if saved != (len(trainer.optimizers), len(schedules)):
        raise _unfit(path, "it has not one state for each optimizer and schedule")
    for optimizer in trainer.optimizers:
        remembers = any(optimizer.defaults.get(key) for key in ("betas", "momentum"))
        if remembers and trainer.global_step and not optimizer.state:
            raise _unfit(path, "the optimizer's averages are missing")
    require_moments(trainer.optimizers, path)
    for schedule in schedules:
        _require_schedule(schedule, path)


def require_moments(optimizers: Sequence[torch.optim.Optimizer], path: Any) -> None:
    """What optimizers remember, and their options, are such as they can step with.

    Args:
        optimizers: with the state that was taken up.
        path: where from, for the message.

    Raises:
        UsageError: naming the first that is not.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for name, default in optimizer.defaults.items():
                if not _alike(group.get(name, default), default):
                    raise _unfit(path, f"the optimizer's {name} is {group[name]!r}")
        free = isinstance(optimizer, OWN_SHAPES)
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if not _fits(value, parameter, free):
                    shape = tuple(parameter.shape)
                    raise _unfit(path, f"{name} is not one of a parameter {shape}")


def _fits(value: Any, parameter: Tensor, free: bool) -> bool:
    """Whether a step can write through ``value`` as it does through the parameter."""
    if not isinstance(value, Tensor):
        return free or value is None or isinstance(value, int | float)
    laid_out = value.is_contiguous() or value.stride() == parameter.stride()
    single = value.dim() == 0  # a count of steps
    return laid_out and (free or single or value.shape == parameter.shape)


def _alike(value: Any, default: Any) -> bool:
    """Whether ``value`` is of the kind of an optimizer's default."""
    if isinstance(default, tuple | list):
        same = isinstance(value, tuple | list) and len(value) == len(default)
        return same and all(map(_alike, value, default))
    if default is None or isinstance(default, bool):
        return value is None or _is_number(value)
    if isinstance(default, int | float | Tensor):
        return _is_number(value)
    return isinstance(value, type(default))


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and bool(value.isfinite())
    return isinstance(value, int | float) and math.isfinite(value)


def _require_schedule(schedule: Any, path: Any) -> None:
    """A schedule's own state, which torch takes up as attributes of any name."""
    state, groups = vars(schedule), len(schedule.optimizer.param_groups)
    for name, value in state.items():
        rates = isinstance(value, list) and len(value) == groups
        if (
            callable(getattr(type(schedule), name, None))
            or (name in RATES and not (rates and all(map(_is_number, value))))
            or (name in COUNTS and type(value) is not int)
        ):
            raise _unfit(path, f"the schedule's {name} is {value!r}")


@contextlib.contextmanager
def taking_up(path: Callable[[], Any]) -> Iterator[None]:
    """A state of training that cannot be taken up ends in one line.

    Args:
        path: where it is taken from; None where nothing is, so that a fault is one of
            the program.

    Raises:
        UsageError: with what the library said.
    """
    try:
        yield
    except UsageError:
        raise
    except FAULTS as error:
        if (place := path()) is None:
            raise
        raise _unfit(place, first_line(error)) from error


def _unfit(path: Any, why: str) -> UsageError:
    return UsageError(
        f"{path}: its state of training cannot be taken up ({why}); it was changed, or "
        f"is damaged: use another checkpoint, or start a new run with --init_from"
    )
