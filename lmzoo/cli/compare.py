"""``lmzoo compare``: several models, seeds and settings under one budget.

A cell is one ``lmzoo fit`` in its own process and run folder. What is done is kept: the
same command goes on where it was stopped.
"""

import importlib
import inspect
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import filelock

from lmzoo import runs
from lmzoo.cli.compare_arguments import Request, read
from lmzoo.cli.compare_help import HELP
from lmzoo.compare.jobs import Job, Launcher, Outcome
from lmzoo.compare.plan import Cell, digest, near, require_different
from lmzoo.errors import UsageError

LAUNCHERS = {"local": "lmzoo.compare.local:Local"}
RECORD = "comparison.json"


def run(argv: list[str]) -> int:
    """Compare; 1 if a cell failed, 130 if interrupted."""
    if "--help" in argv or "-h" in argv:
        print(HELP)
        return 0
    request = read(argv)
    identity = _identity(request)
    folder = request.out or Path("compare") / digest(identity)
    _require_same(folder, identity)
    launcher = _launcher(request)
    before = signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: cells save first
    try:
        return _compare(request, identity, folder, launcher)
    finally:
        signal.signal(signal.SIGTERM, before)


def _compare(
    request: Request, identity: dict[str, Any], folder: Path, launcher: Launcher
) -> int:
    # torch: after a typing error had its answer
    from lmzoo.cli.compare_table import Board, show
    from lmzoo.compare.results import Results, blank, header

    comparison = request.comparison
    known = _rehearsed(request)
    document = header(comparison, ["lmzoo", *sys.argv[1:]])
    first = known[comparison.variants()[0].label]
    document.update(text=first.text, floors=first.floors)
    cells, records = comparison.cells(), []
    for cell in cells:
        one = known[cell.variant.label]
        record = blank(cell, one.text, _tokenizer(one.identity), one.mark)
        if one.excluded:
            record.update(status="excluded", reason=one.excluded)
        records.append(record)
    with _opened(folder, identity):
        results = Results(folder, document, records)
        results.write()
        jobs = [_job(request, cell, folder) for cell in cells]
        waiting = [j for j in jobs if results[j.name]["status"] == "waiting"]
        _announce(folder, len(waiting), results)
        try:
            with Board(results) as board:
                launcher.run(waiting, _collector(results, board, comparison.threads))
        except KeyboardInterrupt:
            done = results.count("done")
            print(
                f"interrupted: {done} of {len(cells)} cells are done; the same "
                f"command goes on with the rest"
            )
            return 130
        show({**results.header, "cells": list(results.cells.values())}, folder)
        _report(folder)
    return 1 if results.count("failed") else 0


def _rehearsed(request: Request) -> dict[str, Any]:
    """Label -> what is known of each variant, all of them different runs."""
    from lmzoo.cli.compare_rehearsal import rehearse  # torch, as above

    known = {}
    for variant in request.comparison.variants():
        known[variant.label] = rehearse(request.comparison, variant)
        if said := known[variant.label].excluded:
            print(f"{variant.label} is excluded: {said}", file=sys.stderr)
    require_different({label: one.identity for label, one in known.items()})
    return known


def _collector(results: Any, board: Any, threads: int) -> Callable[[Outcome], None]:
    """What happens when a cell ends: it is measured, and everything is written."""
    import torch  # as above

    from lmzoo.compare.collect import collect  # as above

    torch.set_num_threads(threads)  # of the cells: same sums, and no more neighbours

    def done(outcome: Outcome) -> None:
        cell = results[outcome.name]
        if outcome.code:
            cell.update(status="failed", reason=outcome.reason)
        else:
            try:
                found = collect(results.folder / cell["run"])
                cell.update(found, status="done", reason="")
            except UsageError as error:
                cell.update(status="failed", reason=str(error))
            except Exception as error:  # a plugin's model; the other cells go on
                said = f"{type(error).__name__}: {runs.first_line(error)}"
                cell.update(status="failed", reason=f"measuring it failed: {said}")
        results.write()
        board.ended(outcome.name)

    return done


def _report(folder: Path) -> None:
    """The written report, from results.json alone."""
    try:
        report = importlib.import_module("lmzoo.compare.report")
    except ModuleNotFoundError:
        return
    report.write(folder)


def _job(request: Request, cell: Cell, folder: Path) -> Job:
    comparison = request.comparison
    return Job(
        name=cell.name,
        argv=cell.argv(folder, comparison.plugins),
        folder=folder / cell.run,
        threads=comparison.threads,
    )


def _launcher(request: Request) -> Launcher:
    """The launcher by its name, with the options that it declares.

    Raises:
        UsageError: no such launcher, or an option that it does not read.
    """
    name = request.comparison.launcher
    if name not in LAUNCHERS:
        raise UsageError(
            f"--launcher {name}: choose {', '.join(LAUNCHERS)}{near(name, LAUNCHERS)}"
        )
    module, _, attribute = LAUNCHERS[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    known = [key for key in inspect.signature(cls).parameters if key != "parallel"]
    for key in request.launching:
        if key not in known:
            raise UsageError(
                f"--launcher.{key}: the {name} launcher reads "
                f"{', '.join(known) or 'no options'}{near(key, known)}"
            )
    return cls(parallel=request.comparison.parallel, **request.launching)


# ---- the folder ----------------------------------------------------------------------


def _identity(request: Request) -> dict[str, Any]:
    """The comparison's own, and the processor where time on it is the budget."""
    comparison = request.comparison
    identity = comparison.identity()
    if comparison.budget[0] == "seconds" and comparison.launcher == "local":
        from lmzoo.compare.results import machine  # torch comes along

        identity["processor"] = machine()["cpu"]
    return identity


def _require_same(folder: Path, identity: dict[str, Any]) -> None:
    """A folder holds one comparison.

    Raises:
        UsageError: it holds another one, or something else.
    """
    file = folder / RECORD
    if not file.is_file():
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UsageError(
                f"--out {folder}: it is there, and holds no comparison; name a new "
                f"folder"
            )
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{file} cannot be read: {runs.first_line(error)}") from error
    for key in sorted({*before, *identity}):
        if before.get(key) != identity.get(key):
            raise UsageError(
                f"{folder} holds a comparison with {key} = {before.get(key)!r}, this "
                f"one has {identity.get(key)!r}; choose another --out, or leave it out"
            )


def _opened(folder: Path, identity: dict[str, Any]) -> filelock.BaseFileLock:
    """The folder, made and locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except OSError as error:
        if isinstance(error, filelock.Timeout):
            raise UsageError(
                f"{folder}: another process runs this comparison; wait for it"
            ) from error
        raise UsageError(f"--out {folder}: {error.strerror or error}") from error
    if not (folder / RECORD).is_file():
        runs.write_json(folder / RECORD, {"format": 1, "identity": identity})
    return lock


# ---- words ---------------------------------------------------------------------------


def _announce(folder: Path, waiting: int, results: Any) -> None:
    done, excluded = results.count("done"), results.count("excluded")
    more = f", {done} are done" if done else ""
    more += f", {excluded} excluded" if excluded else ""
    print(f"{folder}: {waiting} cells to train{more}", file=sys.stderr)


def _tokenizer(identity: dict[str, Any]) -> str:
    """ "char", or "bpe:512" where a size was given; a file's by its name."""
    kind = Path(str(identity.get("data.tokenizer", ""))).name
    size = identity.get("data.tokenizer_size")
    return f"{kind}:{size}" if size else kind


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
