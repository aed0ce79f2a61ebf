"""Room for the checkpoints of a run, asked for before its first step."""

import contextlib
import shutil
from pathlib import Path

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
