"""What every launcher to other machines needs: a job that travels, and why it ended.

The comparison's folder must be the same folder on every machine: a cell that was
stopped from outside (its process or its worker killed, its node taken away) is run
again, and ``fit`` goes on from the newest checkpoint in that folder.
"""

import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from lmzoo.compare.jobs import Job, Outcome, execute
from lmzoo.errors import UsageError

LOST = -1  # exit code of a cell whose engine does not know how it ended


def parcel(job: Job) -> tuple[Job, str]:
    """A job that runs alike elsewhere: whole paths, this process's own settings."""
    mine = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("LMZOO_") and not key.startswith("LMZOO_RUN_")
    }
    environment = {**mine, **job.environment}
    job = replace(job, folder=job.folder.absolute(), environment=environment)
    return job, str(Path.cwd())


# those that ``fit`` heeds: see lmzoo.training.interruption
STOPPING = {
    getattr(signal, f"SIG{name}", None)
    for name in ("INT", "TERM", "HUP", "USR1", "USR2")
}


def run_cell(job: Job, folder: str) -> Outcome:
    """Run the job from ``folder``, where its relative paths mean what they meant."""
    with contextlib.chdir(folder):
        return execute(job, tied=True)


def was_stopped(code: int) -> bool:
    """Whether a signal ended the process; ``fit`` saves first and tells by 128 + it."""
    return code < 0 or code - 128 in STOPPING


def told_by(code: int) -> str:
    """The signal that an exit code stands for, in words."""
    number = -code if code < 0 else code - 128
    with contextlib.suppress(ValueError):
        return f"stopped by {signal.Signals(number).name}"
    return f"stopped by signal {number}"


# ---- words ---------------------------------------------------------------------------


def engine(module: str, extra: str) -> ModuleType:
    """The package of an extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        if module == "ray":
            # optional: the ray extra
            import ray as found
        else:
            # optional: the slurm extra
            import submitit as found
    except ImportError as error:
        raise UsageError(
            f"--launcher {extra} needs the package {module}, which is not installed: "
            f"pip install 'lmzoo[{extra}]'"
        ) from error
    return found


def require_counts(owner: object, *names: str) -> None:
    """Raise UsageError for an option below 0."""
    for name in names:
        if getattr(owner, name) < 0:
            value = getattr(owner, name)
            raise UsageError(f"--launcher.{name} {value}: expected 0 or more")


def tried(retries: int) -> str:
    """How often a cell was run that was stopped every time."""
    return f"run {retries + 1} time{'s' if retries else ''}"


def first_line(error: BaseException) -> str:
    """What an error says, or its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()
