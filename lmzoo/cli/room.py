"""Room for a model and for its checkpoints, asked for before anything is made."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmzoo.errors import UsageError

KEPT = 3  # the best, the last, and the one that is being written


def require(folder: Path, model: nn.Module) -> None:
    """A disk that would be full at the first saves is told now.

    Args:
        folder: of the run; need not be there yet.
        model: to be trained.

    Raises:
        UsageError: less is free than its checkpoints take.
    """
    needed = KEPT * size(model)
    place = folder.absolute()
    place = next(path for path in (place, *place.parents) if path.exists())
    with contextlib.suppress(OSError):  # not every file system says how full it is
        disk = shutil.disk_usage(place)
        if disk.total and disk.free < needed:
            raise UsageError(
                f"{folder}: {disk.free / 1e6:,.1f} MB are free there, and {KEPT} "
                f"checkpoints take {needed / 1e6:,.1f} MB; free space, or choose "
                f"another --trainer.default_root_dir"
            )


def size(model: nn.Module) -> int:
    """Bytes of a checkpoint, about: what is stored, and Adam's two averages."""
    stored = [*model.parameters(), *model.buffers()]
    trained = [p for p in model.parameters() if p.requires_grad]
    return sum(t.numel() * t.element_size() for t in [*stored, *trained, *trained])


def require_memory(name: str, cls: type[nn.Module], given: Mapping[str, Any]) -> None:
    """A model whose weights no memory here holds is told before it is built.

    Args:
        name: of the model.
        cls: its class; built on the meta device, with a vocabulary of one token.
        given: the constructor's arguments.

    Raises:
        UsageError: its weights take more bytes than this machine has.
    """
    try:
        with torch.device("meta"):
            model = cls(**{**given, "vocab_size": 1})
    except Exception:  # a plugin's own, or another vocabulary's
        return  # it is told where it is built in earnest
    count = sum(p.numel() for p in model.parameters())
    needed = sum(p.numel() * p.element_size() for p in model.parameters())
    if needed > (here := memory()):
        raise UsageError(
            f"--model {name}: {count:,} parameters or more take {needed / 1e9:,.0f} "
            f"GB, and this machine has {here / 1e9:,.0f} GB of memory; take a smaller "
            f"one (lmzoo params --model {name} counts)"
        )


def memory() -> float:
    """Bytes of memory that this machine has; infinity where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")
