"""What a run goes on from, checked before the first step relies on it.

A checkpoint is data of any origin. Lightning and torch take its training state as it
is: a fused optimizer would write through an average that is too short into memory that
is not its own.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lmzoo.errors import UsageError, first_line

OWN_SHAPES = (torch.optim.Adafactor, torch.optim.LBFGS)  # not those of the parameters
SAVED = ("best", "last", "history", "seconds")


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
        UsageError: a state is missing, of another shape, or repeats by its strides.
    """
    path = trainer.ckpt_path
    if saved != (len(trainer.optimizers), len(trainer.lr_scheduler_configs)):
        raise _unfit(path, "it has not one state for each optimizer and schedule")
    for optimizer in trainer.optimizers:
        remembers = any(optimizer.defaults.get(key) for key in ("betas", "momentum"))
        if remembers and trainer.global_step and not optimizer.state:
            raise _unfit(path, "the optimizer's averages are missing")
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


@contextlib.contextmanager
def one_line(trainer: Trainer, checkpoints: Any) -> Iterator[None]:
    """A state of training that cannot be taken up ends in one line.

    Args:
        trainer: that takes it up.
        checkpoints: the callback that saves; ``begun`` once nothing is left to take.

    Raises:
        UsageError: with what the library said.
    """
    try:
        yield
    except UsageError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if checkpoints.begun or trainer.ckpt_path is None:
            raise
        raise _unfit(trainer.ckpt_path, first_line(error)) from error


def _unfit(path: Any, why: str) -> UsageError:
    return UsageError(
        f"{path}: its state of training cannot be taken up ({why}); it was changed, or "
        f"is damaged: use another checkpoint, or start a new run with --init_from"
    )
