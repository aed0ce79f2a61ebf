"""One cell of a comparison as a job: a ``lmzoo fit`` command in its own process.

A cell that is run twice goes on where it stopped, because ``fit`` does. So a launcher
only has to start processes, and may start one again.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

PROMPT = "$ lmzoo "  # before the command, where a sitting begins in a log


@dataclass(frozen=True)
class Job:
    """What one cell needs to run.

    Attributes:
        name: unique in the comparison, a file name.
        argv: words after ``lmzoo``.
        folder: the run folder; its output goes to ``log.txt`` in it.
        threads: of the process, for every math library in it.
        environment: more variables.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path
    threads: int = 1
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its exit code, and the last error line it printed."""

    name: str
    code: int
    reason: str = ""


class Launcher(Protocol):
    """Runs jobs somewhere and tells when each is done."""

    def run(self, jobs: Sequence[Job], done: Callable[[Outcome], None]) -> None:
        """Run every job; call ``done`` once for each, from this thread."""
        ...


def execute(job: Job, *, tied: bool = False) -> Outcome:
    """Run one job in a new process and wait for it.

    Args:
        job: what to run.
        tied: kill the process when this thread ends, however it ends (Linux only), so
            that nothing goes on training in a folder where the job is run again.
    """
    process = start(job, tied=tied)
    try:
        return finish(job, process)
    except BaseException:  # stopped from outside: fit saves before it ends
        process.terminate()
        process.wait()
        raise


def start(
    job: Job, session: bool = False, tied: bool = False
) -> "subprocess.Popen[bytes]":
    """Begin a job; in a ``session`` of its own no Ctrl-C reaches it by itself."""
    job.folder.mkdir(parents=True, exist_ok=True)
    threads = {f"{name}_NUM_THREADS": str(job.threads) for name in ("OMP", "MKL")}
    with (job.folder / "log.txt").open("ab") as log:
        log.write(f"{PROMPT}{shlex.join(job.argv)}\n".encode())  # a sitting begins
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", "lmzoo", *job.argv],
            env={**os.environ, **threads, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=session,
            preexec_fn=_tie() if tied and sys.platform == "linux" else None,
        )


def finish(job: Job, process: "subprocess.Popen[bytes]") -> Outcome:
    """Wait for a process that ``start`` began."""
    code = process.wait()
    if code < 0:
        return Outcome(job.name, code, f"ended by signal {-code}")
    return Outcome(job.name, code, "" if code == 0 else last_error(job.folder))


def _tie() -> Callable[[], None]:
    """What a new process does first to die with the thread that started it."""
    libc, parent = ctypes.CDLL(None), os.getpid()  # loaded before the fork

    def tie() -> None:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended in between
            os._exit(128 + signal.SIGKILL)

    return tie


def last_error(folder: Path) -> str:
    """The last line of the log's last sitting that says what went wrong."""
    log = (folder / "log.txt").read_text("utf-8", "replace")
    lines = log.rpartition(PROMPT)[2].splitlines()[1:]
    said = [line for line in lines if line.startswith("error: ")]
    last = (said or [line for line in lines if line.strip()] or ["no output"])[-1]
    return last.removeprefix("error: ").strip()
