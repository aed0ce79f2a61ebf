"""Several processes that run one command line together, as torchrun would start them.

They are forked from one server that has imported everything, so a process costs what it
does and not what it imports.
"""

import contextlib
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from lmzoo.cli import main
from lmzoo.compare.jobs import Job, Outcome, last_error

SECONDS = 900  # until a run that hangs is given up


def together(
    line: str | list[str],
    world: int,
    log: Path,
    before: Callable[[], None] | None = None,
) -> list[int]:
    """Exit codes of ``lmzoo LINE`` in ``world`` processes; each writes ``log.RANK``.

    The line may be given in words. ``before`` is called in each of the processes first:
    a place for a spy.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lmzoo.cli.trainer"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(world):
        words = line.split() if isinstance(line, str) else line
        given = (words, rank, world, port, f"{log}.{rank}", before)
        started.append(context.Process(target=_run, args=given, daemon=True))
        started[-1].start()
    for process in started:
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
    return [-9 if process.exitcode is None else process.exitcode for process in started]


def apart(job: Job) -> Outcome:
    """A cell of a comparison in a process of its own; ``jobs.execute``, but forked."""
    assert not job.environment
    job.folder.mkdir(parents=True, exist_ok=True)
    log = job.folder / "log.txt"
    (code,) = together(list(job.argv), 1, log)
    Path(f"{log}.0").replace(log)
    return Outcome(job.name, code, last_error(job.folder) if code else "")


def gone(process: int) -> bool:
    """Whether a process is over, or is so within some seconds."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            return True
        if "State:\tZ" in status:  # over, and nobody has asked how it ended
            return True
        time.sleep(0.01)
    return False


def _run(
    words: list[str],
    rank: int,
    world: int,
    port: int,
    log: str,
    before: Callable[[], None] | None,
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if world > 1:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
        told |= {"LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in told.items()})
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        os.environ["TORCHELASTIC_RUN_ID"] = "tests"
    import torch  # in the new process

    torch.set_num_threads(1)
    with (
        open(log, "w", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        if before is not None:
            before()
        try:
            code = main(words)
        except Exception:
            traceback.print_exc()
            code = 1
    sys.exit(code)
