"""Several processes that run one command line together, as torchrun would start them.

They are forked from one server that has imported everything, so a process costs what it
does and not what it imports.
"""

import contextlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from lmzoo.cli import main

SECONDS = 900  # until a run that hangs is given up


def together(
    line: str, world: int, log: Path, before: Callable[[], None] | None = None
) -> list[int]:
    """Exit codes of ``lmzoo LINE`` in ``world`` processes; each writes ``log.RANK``.

    ``before`` is called in each of them first: a place for a spy.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lmzoo.cli.trainer"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(world):
        given = (line, rank, world, port, f"{log}.{rank}", before)
        started.append(context.Process(target=_run, args=given, daemon=True))
        started[-1].start()
    for process in started:
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
    return [-9 if process.exitcode is None else process.exitcode for process in started]


def _run(
    line: str,
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
        code = main(line.split())
    sys.exit(code)
