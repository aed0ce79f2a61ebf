"""A state that is carried from batch to batch, in the rows of several processes."""

from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor


def gather_rows(trainer: Trainer, state: Any) -> Any:
    """A carried state with the rows of all processes, as nested tuples."""
    if isinstance(state, Tensor):
        if trainer.world_size == 1:
            return state.detach().cpu()
        parts = trainer.strategy.all_gather(state.detach())
        return parts.flatten(0, 1).cpu()  # (ranks, B, ...) -> (ranks * B, ...)
    if isinstance(state, tuple | list):
        return tuple(gather_rows(trainer, part) for part in state)
    return state


def own_rows(trainer: Trainer, state: Any) -> Any:
    """This process's share of ``gather_rows``."""
    if isinstance(state, Tensor):
        rows = state.shape[0] // trainer.world_size
        start = trainer.global_rank * rows
        return state[start : start + rows].to(trainer.strategy.root_device)
    if isinstance(state, tuple | list):
        return tuple(own_rows(trainer, part) for part in state)
    return state
