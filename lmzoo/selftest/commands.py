"""Commands as a person types them, each in a process of its own, in milliseconds.

A process that imported lmzoo once forks for each command (see ``server.py``), so that
a command that crashes, hangs or takes all memory takes nothing else along.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import lmzoo

GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Result:
    """How one command ended, and what it said."""

    code: int  # negative: the signal that ended it
    out: str
    err: str
    seconds: float
    memory: int  # bytes, at its largest; what was imported is about half a gigabyte
    timed_out: bool

    @property
    def errors(self) -> list[str]:
        """The lines that tell a mistake."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    def wrong_refusal(self) -> str:
        """Why this is not how a mistake has to end; "" if it is.

        Exit code 2, one line that begins with "error: ", no traceback.
        """
        if self.timed_out:
            return f"still running after {self.seconds:.0f} seconds"
        if "Traceback" in self.err:
            return f"a traceback: {self.err.strip().splitlines()[-1][:200]}"
        if self.code != 2:
            return f"exit code {self.code}: {self._last()}"
        if len(self.errors) != 1:
            return f"{len(self.errors)} lines of error: {self.err[:200]!r}"
        return ""

    def wrong_success(self) -> str:
        """Why this is not success; "" if it is."""
        if self.timed_out:
            return f"still running after {self.seconds:.0f} seconds"
        return f"exit code {self.code}: {self._last()}" if self.code else ""

    def _last(self) -> str:
        lines = (self.err or self.out).strip().splitlines() or ["it said nothing"]
        return lines[-1][:200]


class Commands:
    """A context in which commands can be run.

    Args:
        folder: where what they print is kept, and where they run unless told.
        environment: variables that they get beside this process's own.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = {"LMZOO_CACHE": str(folder / "cache"), **(environment or {})}

    def __enter__(self) -> "Commands":
        self.folder.mkdir(parents=True, exist_ok=True)
        root = str(Path(lmzoo.__file__).parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._server = subprocess.Popen(
            [sys.executable, "-m", "lmzoo.selftest.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",  # a fork cannot use one again
                "HF_HUB_OFFLINE": "1",
            },
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._server:  # closes both pipes and waits
            pass

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
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        orders, files = [], []
        for number, job in enumerate(jobs):
            out, err = (
                (self.folder / f"{name}-{number}.log").resolve()
                for name in ("out", "err")
            )
            out.write_bytes(b"")
            err.write_bytes(b"")
            files.append((out, err))
            orders.append(
                {
                    "argv": job.argv,
                    "folder": str((job.folder or self.folder).resolve()),
                    "environment": {**self.environment, **(job.environment or {})},
                    "seconds": job.seconds,
                    "memory": job.memory,
                    "out": str(out),
                    "err": str(err),
                }
            )
        self._server.stdin.write(json.dumps(orders) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs commands ended by itself")
        return [
            Result(out=_read(out), err=_read(err), **how)
            for (out, err), how in zip(files, json.loads(answer), strict=True)
        ]


@dataclass(frozen=True)
class Job:
    """A module, or the script at a path, with its arguments.

    Attributes:
        argv: a module's name or the path of a script, and its arguments.
        folder: to run in; None is that of the context.
        environment: variables beside those of the context.
        seconds: after which it is killed.
        memory: bytes of address space that it may take beyond what the server has; 0
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


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
