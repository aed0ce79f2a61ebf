"""The process that runs commands in forks of itself; see ``commands.py``.

It imports what most commands need and runs none of it, so that a fork is as good as a
fresh process, and comes in milliseconds.
"""

import contextlib
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from typing import Any

HEAVY = (
    "lightning.pytorch.cli",
    "lightning.pytorch.loggers",
    "safetensors.torch",
    "tokenizers",
    "torch.utils.tensorboard",
    "lmzoo.analysis.sensitivity",
    "lmzoo.compare.report",
    "lmzoo.export",
    "lmzoo.testing",
    "lmzoo.text.labelled",
    "lmzoo.training.telemetry",
)


def serve() -> None:
    """Read orders as lines of JSON, answer each with a line, until the input ends."""
    with contextlib.suppress(ImportError):  # optional: some commands cannot run then
        importlib.import_module("transformers")
    for name in HEAVY:
        importlib.import_module(name)
    answers = os.dup(1)  # a child's output never mixes with the answers
    os.dup2(2, 1)
    for line in sys.stdin:
        answer = json.dumps(_together(json.loads(line)))
        os.write(answers, answer.encode() + b"\n")


def _together(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Carry out orders at one time; how each ended, in their order."""
    began = time.monotonic()
    running, ended = {_fork(order): n for n, order in enumerate(orders)}, {}
    while running:
        for child, number in list(running.items()):
            process, status, usage = os.wait4(child, os.WNOHANG)
            late = time.monotonic() - began > orders[number]["seconds"]
            if process:
                del running[child]
                ended[number] = {
                    "code": os.waitstatus_to_exitcode(status),
                    "seconds": time.monotonic() - began,
                    "memory": usage.ru_maxrss << 10,
                    "timed_out": late,
                }
            elif late:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
    return [ended[number] for number in range(len(orders))]


def _fork(order: dict[str, Any]) -> int:
    child = os.fork()
    if not child:
        _child(order)
    return child


def _child(order: dict[str, Any]) -> None:
    """Be ``python -m MODULE ARGUMENTS``, or a script, and never return."""
    code = 1
    try:
        os.setsid()
        for number, name in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
            handle = os.open(name, flags, 0o644)
            os.dup2(handle, number)
        os.chdir(order["folder"])
        os.environ.update(order["environment"])
        if order["memory"]:
            limit = _size() + order["memory"]
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.argv = list(order["argv"])
        sys.path.insert(0, order["folder"])
        code = _run(order["argv"][0])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code & 0xFF)


def _run(what: str) -> int:
    try:
        if what.endswith(".py"):
            runpy.run_path(what, run_name="__main__")
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=False)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    return 0


def _size() -> int:
    """Bytes of address space that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


serve()
