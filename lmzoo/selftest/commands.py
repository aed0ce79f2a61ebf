"""Commands as a person types them, each in a process of its own, in milliseconds.

Forks of one server (see ``forks.py``), so that a command that crashes, hangs or takes
all memory takes nothing else along.
"""

import os
import resource
import shlex
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from lmzoo.selftest import forks

GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Result:
    """How one command ended, and what it said."""

    code: int  # negative: the signal that ended it
    out: str
    err: str
    seconds: float
    memory: int  # bytes, at its largest, imports included; 0 if it was killed
    timed_out: bool

    @property
    def errors(self) -> list[str]:
        """The lines that tell a mistake."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    def wrong_refusal(self, said: str = "") -> str:
        """Why this is not how a mistake has to end; "" if it is.

        Exit code 2, no traceback, one line that begins with "error: " and has ``said``.
        """
        if self.timed_out:
            return f"still running after {self.seconds:.0f} seconds"
        if "Traceback" in self.err:
            return f"a traceback: {self.err.strip().splitlines()[-1][:200]}"
        if self.code != 2:
            return f"exit code {self.code}: {self._last()}"
        if len(self.errors) != 1:
            return f"{len(self.errors)} lines of error: {self.err[:200]!r}"
        if said not in self.errors[0]:
            return f"it does not say {said!r}: {self.errors[0]!r}"
        return ""

    def wrong_success(self) -> str:
        """Why this is not success; "" if it is."""
        if self.timed_out:
            return f"still running after {self.seconds:.0f} seconds"
        if self.code:
            return f"exit code {self.code}: {self._last()}"
        return f"a traceback: {self._last()}" * ("Traceback (most" in self.err)

    def _last(self) -> str:
        lines = (self.err or self.out).strip().splitlines() or ["it said nothing"]
        return lines[-1][:200]


class Commands:
    """A place in which commands are run.

    Args:
        folder: where what they print is kept, and where they run unless told.
        environment: variables that they get beside the server's own.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = {
            "LMZOO_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            **(environment or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)

    def lmzoo(
        self,
        line: str | list[str],
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> Result:
        """Run ``lmzoo`` with the words of ``line``; the rest as of ``Job``."""
        return self.together([Job.of(line, folder, environment)])[0]

    def run(self, argv: list[str], folder: Path | None = None) -> Result:
        """Run the script at a path with its arguments."""
        return self.together([Job(argv, folder)])[0]

    def together(self, jobs: list["Job"]) -> list[Result]:
        """Run several at one time; how each ended, in their order."""
        running = []
        for number, job in enumerate(jobs):
            out, err = (
                (self.folder / f"{name}-{number}.log").resolve()
                for name in ("out", "err")
            )
            out.write_bytes(b"")
            err.write_bytes(b"")
            folder = str((job.folder or self.folder).resolve())
            environment = {**self.environment, **(job.environment or {})}
            reader, writer = forks.CONTEXT.Pipe(duplex=False)
            fork = forks.Fork(_be, job, folder, environment, str(out), str(err), writer)
            writer.close()
            running.append((fork, reader, out, err, time.monotonic()))
        results = []
        for job, (fork, reader, out, err, began) in zip(jobs, running, strict=True):
            code = fork.code(began + job.seconds - time.monotonic())
            late = code is None
            if late:
                with suppress(ProcessLookupError):
                    os.killpg(fork.pid, signal.SIGKILL)
                fork.kill()
                code = fork.code(forks.PATIENCE)
            results.append(
                Result(
                    code=code or 0,
                    out=_read(out),
                    err=_read(err),
                    seconds=time.monotonic() - began,
                    memory=_received(reader),
                    timed_out=late,
                )
            )
        return results


@dataclass(frozen=True)
class Job:
    """A module, or the script at a path, with its arguments.

    Attributes:
        argv: a module's name or the path of a script, and its arguments.
        folder: to run in; None is that of the context.
        environment: variables beside those of the context.
        seconds: after which it is killed.
        memory: bytes of address space that it may take beyond what is imported; 0
            sets no limit.
    """

    argv: list[str]
    folder: Path | None = None
    environment: dict[str, str] | None = None
    seconds: float = 300.0
    memory: int = 8 * GIGABYTE

    @classmethod
    def of(
        cls,
        line: str | list[str],
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> "Job":
        """The command of the words of ``line``."""
        words = shlex.split(line) if isinstance(line, str) else line
        return cls(["lmzoo", *words], folder, environment)


def _be(
    job: Job,
    folder: str,
    environment: dict[str, str],
    out: str,
    err: str,
    writer: Connection,
) -> None:
    """In the forked process: be ``python -m MODULE ARGUMENTS``, or a script."""
    os.setsid()  # what it starts ends with it
    forks.speak_into(out, err)
    os.chdir(folder)
    os.environ.update(environment)
    if job.memory:
        limit = _size() + job.memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.path.insert(0, folder)
    try:
        forks.as_at_a_prompt()
        forks.become(list(job.argv))
    finally:
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        writer.send(max(resource.getrusage(who).ru_maxrss << 10 for who in whose))


def _size() -> int:
    """Bytes of address space that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _received(reader: Connection) -> int:
    with reader, suppress(EOFError):
        return reader.recv()
    return 0


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
