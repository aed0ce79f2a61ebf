"""The command itself in forked processes, and the ways to end one.

A fork server imports torch and Lightning once; each start of the command is then a fork
that has only itself to do. The server runs no operation and has one thread, so what is
forked from it is as a process that was started afresh.
"""

import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

PATIENCE = 300.0  # seconds after which a process hangs
BEGIN = "lmzoo.training.checkpoints:Checkpoints.on_train_start"
PRELOADED = ["lmzoo.selftest.preloaded"]
# by which a launcher, a scheduler, or a user's own settings reach a run
FOREIGN = (
    *("SLURM_", "TORCHELASTIC_", "OMPI_", "PMI_", "LSB_", "JSM_", "KUBERNETES_", "PL_"),
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "LMZOO_"),
)
KEPT = "LMZOO_TEST_"  # what tests ask of every process that they start


@dataclass(frozen=True)
class Fuse:
    """Sends this process a signal when a function is called.

    Attributes:
        place: "module:Class.method" or "module:function".
        count: at which of its calls.
        naming: only calls whose first arguments hold this in their words count.
        after: once the call has returned, not before it.
        number: the signal.
    """

    place: str
    count: int = 1
    naming: str = ""
    after: bool = False
    number: int = signal.SIGKILL

    def lay(self) -> None:
        """Put the fuse into this process."""
        left = [self.count]

        def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
            """The function with the fuse on it."""

            @wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                named = self.naming in " ".join(map(str, args[:2]))
                left[0] -= named
                now = named and left[0] == 0
                if now and not self.after:
                    os.kill(os.getpid(), self.number)
                result = function(*args, **kwargs)
                if now and self.after:
                    os.kill(os.getpid(), self.number)
                return result

            return call

        replace(self.place, wrapped)


class Fork:
    """A module's function in a forked process.

    Starting one also asks after all that were started before, and of two threads that
    find the same end only one is told its exit code. So they take turns.

    Args:
        function: of a module.
        args: of the function.
    """

    def __init__(self, function: Callable[..., None], *args: Any) -> None:
        self._process = CONTEXT.Process(target=function, args=args)
        with TURNS:
            self._process.start()
        self.pid = self._process.pid or 0
        self.sentinel = self._process.sentinel

    def code(self, within: float) -> int | None:
        """Its exit code, or None if it runs on after so many seconds."""
        if not wait([self.sentinel], timeout=max(0.0, within)):
            return None
        with TURNS:
            self._process.join()
            return self._process.exitcode

    def kill(self) -> None:
        """End it outright."""
        self._process.kill()


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; minus the signal that ended it.
        began: whether training had begun.
        trained: seconds since then.
        said: its last line on standard error.
    """

    code: int
    began: bool
    trained: float
    said: str

    @property
    def killed(self) -> bool:
        """Whether it was killed outright."""
        return self.code == -signal.SIGKILL


def replace(place: str, change: Callable[[Any], Any]) -> None:
    """Put ``change(function)`` where ``place`` ("module:Class.method") names one."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, change(getattr(owner, name)))


def own(environment: Mapping[str, str]) -> dict[str, str]:
    """What a trial gets of an environment: no job's ranks, no cache but its own."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(KEPT) or not name.startswith(FOREIGN)
    }


def command(
    line: str,
    log: Path,
    fuses: Sequence[Fuse] = (),
    delay: float | None = None,
    prepare: Callable[[], None] | None = None,
) -> Ended:
    """Run ``lmzoo LINE`` in a forked process until it ends.

    Args:
        line: the words after ``lmzoo``.
        log: what it prints is added to this file; its folder also has the cache.
        fuses: laid into it before it starts.
        delay: seconds after the beginning of training at which it is killed.
        prepare: a module's function, called in the process before anything else.
    """
    reader, writer = CONTEXT.Pipe(duplex=False)
    fork = Fork(_command, line.split(), str(log), fuses, prepare, writer)
    writer.close()
    began = _began(reader, fork.sentinel)
    started = time.perf_counter()
    if began and delay is not None and not wait([fork.sentinel], timeout=delay):
        fork.kill()
    code = fork.code(PATIENCE)
    trained = time.perf_counter() - started
    if code is None:
        fork.kill()
        return Ended(1, began, trained, f"hung for {PATIENCE:.0f} s")
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")
    return Ended(code, began, trained, said)


def apart(function: Callable[..., None], *args: Any) -> int:
    """Call a module's function in a forked process; its exit code."""
    fork = Fork(function, *args)
    code = fork.code(PATIENCE)
    if code is None:
        fork.kill()
    return 1 if code is None else code


def killed_during(function: Callable[..., None], delay: float, *args: Any) -> None:
    """Call a module's function in a forked process and kill it.

    Args:
        function: takes a connection before ``args``, into which it says that it begins.
        delay: seconds after that at which it is killed.
        args: of the function.
    """
    reader, writer = CONTEXT.Pipe(duplex=False)
    fork = Fork(function, writer, *args)
    writer.close()
    if _began(reader, fork.sentinel):
        wait([fork.sentinel], timeout=delay)
    fork.kill()
    fork.code(PATIENCE)


def _began(reader: Connection, sentinel: int) -> bool:
    """Wait for the beginning of training, or for the end of the process."""
    ready = wait([reader, sentinel], timeout=PATIENCE)
    with reader:
        try:
            return reader in ready and bool(reader.recv_bytes())
        except EOFError:
            return False


def _command(
    argv: list[str],
    log: str,
    fuses: Sequence[Fuse],
    prepare: Callable[[], None] | None,
    writer: Connection,
) -> None:
    """In the forked process: be the command."""
    os.environ["LMZOO_CACHE"] = str(Path(log).parent / "cache")
    speak_into(log, log)
    as_at_a_prompt()
    if prepare is not None:
        prepare()
    replace(BEGIN, lambda function: _told(function, writer))
    for fuse in fuses:
        fuse.lay()
    become(["lmzoo", *argv])


def speak_into(out: str, err: str) -> None:
    """In this process: what it prints is added to files."""
    for stream, file in ((1, out), (2, err)):
        output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, stream)


def become(argv: list[str]) -> None:
    """In this process: be ``python -m ARGV``, or the script that comes first."""
    sys.argv = argv
    if argv[0].endswith(".py"):
        runpy.run_path(argv[0], run_name="__main__")
    else:
        runpy.run_module(argv[0], run_name="__main__")


def as_at_a_prompt() -> None:
    """In this process: one thread, and signals as a shell's foreground has them."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # "&" has it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so has nohup


def _told(function: Callable[..., Any], writer: Connection) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        writer.send_bytes(b"began")
        return function(*args, **kwargs)

    return call


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)
TURNS = threading.Lock()
