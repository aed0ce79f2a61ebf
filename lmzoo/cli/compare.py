"""``lmzoo compare``: several models, seeds and settings under one budget.

A cell is one ``lmzoo fit`` in its own process and run folder. What is done is kept: the
same command goes on where it was stopped.
"""

import hashlib
import json
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lmzoo.cli.compare_arguments import RECORD, Request, read
from lmzoo.cli.compare_help import HELP
from lmzoo.compare.launchers import launcher
from lmzoo.compare.local import Local
from lmzoo.compare.plan import digest
from lmzoo.compare.surroundings import machine
from lmzoo.errors import UsageError, first_line


def run(argv: list[str]) -> int:
    """Compare; 1 if a cell failed, 130 if interrupted."""
    if "--help" in argv or "-h" in argv:
        print(HELP)
        return 0
    request = read(argv)
    identity = _identity(request)
    folder = request.out or Path("compare") / digest(identity)
    _require_same(folder, identity)
    comparison = request.comparison
    engine = launcher(comparison.launcher, comparison.parallel, **request.launching)
    if isinstance(engine, Local):
        engine.steady = comparison.budget[0] == "seconds"
    # torch: after a typing error had its answer
    from lmzoo.cli.compare_session import compare

    before = signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: cells save first
    try:
        return compare(request, identity, folder, engine)
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- the folder ----------------------------------------------------------------------


def _identity(request: Request) -> dict[str, Any]:
    """The comparison's own, and the processor where time on it is the budget."""
    comparison = request.comparison
    identity = comparison.identity()
    if comparison.budget[0] == "seconds" and comparison.launcher == "local":
        identity["processor"] = machine()["cpu"]
    if comparison.plugins:  # their content: another model may have the same name
        hashes = [hashlib.sha256(Path(p).read_bytes()) for p in comparison.plugins]
        identity["plugin.sha256"] = [digest.hexdigest() for digest in hashes]
    for name, value in os.environ.items():  # options of fit, which every cell reads
        if name.startswith("LMZOO_FIT__"):
            identity[name] = value
    return identity


def _require_same(folder: Path, identity: dict[str, Any]) -> None:
    """A folder holds one comparison, to which models and seeds may be added.

    Raises:
        UsageError: it holds another one, or something else.
    """
    file = folder / RECORD
    if not file.is_file():
        inside = folder.iterdir() if folder.is_dir() else [folder]
        if folder.exists() and not all(path.name == ".lock" for path in inside):
            raise UsageError(
                f"--out {folder}: it is there, and holds no comparison; name a new "
                f"folder"
            )
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))["identity"]
        if not isinstance(before, dict):
            raise ValueError("its identity is no table")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} cannot be read ({first_line(error)}); name another --out"
        ) from error
    for key in sorted({*before, *identity}):
        if before.get(key) != identity.get(key) and not _grown(key, before, identity):
            raise UsageError(
                f"{folder} holds a comparison with {key} = {before.get(key)!r}, this "
                f"one has {identity.get(key)!r}; choose another --out, or leave it out"
            )


def _grown(key: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether what is done stays what it was: more models, seeds after the others."""
    old, new = before.get(key), now.get(key)
    if key == "models":
        return isinstance(old, list) and set(old) < set(new or [])
    if key == "seeds":
        return isinstance(old, list) and (new or [])[: len(old)] == old
    return False


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
