"""How training ends early, and what libraries say meanwhile, in lmzoo's own words."""

import contextlib
import errno
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from lmzoo.cli import messages
from lmzoo.errors import UsageError
from lmzoo.files import ADVICE

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class AlreadyFinished(Exception):
    """The same command has been run to its end before."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} is finished; --trainer.max_steps N trains on, "
            f"--fresh starts anew"
        )


def quiet() -> None:
    """Drop notices that are no news to a user."""
    for message in QUIET:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


QUIET = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*does not have many workers.*",
    r".*It is recommended to use `self.log.*sync_dist=True.*",  # summed already
    r".*`IterableDataset` has `__len__` defined.*",
    r".*`training_step` returned `None`.*",
    r".*configure_optimizers` returned `None`.*",
    r".*module\(s\) in eval mode at the start of training.*",  # what is frozen
    r".*GPU available but not used.*",
    r".*instantiate_classes.*deprecat.*",
    r".*add_instantiator.*deprecat.*",
    r".*skip_none.*deprecat.*",
    r".*Checkpoint directory .* exists and is not empty.*",
)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the libraries' ways of saying "you gave the wrong thing" into one line."""
    try:
        yield
    except AlreadyFinished as finished:
        print(finished)
    except (MisconfigurationException, ImportError) as error:
        raise UsageError(messages.shorten(str(error))) from error
    except OSError as error:  # what writes without lmzoo's own files, as TensorBoard
        if error.errno not in NO_ROOM:
            raise
        where = error.filename or "the run folder"
        raise UsageError(f"cannot write {where}: {error.strerror}; {ADVICE}") from error
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise SystemExit(130) from None
        raise
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is the first
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        raise UsageError(
            "out of memory: lower --data.batch_size or --model.context_length by half"
        ) from error
