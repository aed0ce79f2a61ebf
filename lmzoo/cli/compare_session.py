"""One sitting of a comparison: what is missing is trained, measured and written."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import torch

from lmzoo import files
from lmzoo.cli.compare_arguments import RECORD, Request
from lmzoo.cli.compare_completion import sized, tuned
from lmzoo.cli.compare_rehearsal import Rehearsed, rehearse
from lmzoo.cli.compare_table import Board, show
from lmzoo.compare import growth, report, timekeeping
from lmzoo.compare.collect import collect
from lmzoo.compare.jobs import Job, Launcher, Outcome
from lmzoo.compare.plan import Cell, Comparison, require_different
from lmzoo.compare.results import Results, blank, header
from lmzoo.compare.surroundings import commit
from lmzoo.errors import UsageError, first_line
from lmzoo.report.words import plural


def compare(
    request: Request, identity: dict[str, Any], folder: Path, launcher: Launcher
) -> int:
    """Rehearse every variant, train and measure every cell, show the table.

    Returns:
        The exit code: 1 if a cell failed, 130 if interrupted.

    Raises:
        UsageError: something that cannot be trained, before anything is written.
    """
    comparison = sized(request.comparison)
    known = _rehearsed(comparison)
    document = header(comparison, ["lmzoo", *sys.argv[1:]])
    first = known[comparison.variants()[0].label]
    document.update(text=first.text, floors=first.floors, texts=_texts(known))
    with _opened(folder, identity):
        if comparison.trials:
            out = [label for label, one in known.items() if one.excluded]
            comparison, found = tuned(comparison, folder, launcher, out)
            document["tuned"] = found.plain()
        return _train(comparison, folder, launcher, document, known, request.timing)


def _train(
    comparison: Comparison,
    folder: Path,
    launcher: Launcher,
    document: dict[str, Any],
    known: dict[str, Rehearsed],
    timing: bool,
) -> int:
    """Train and measure the cells that are missing, and show all of them."""
    cells, records = _needed(comparison, known), []
    for cell in cells:
        one = known[cell.variant.label]
        record = blank(cell, one.text, _tokenizer(one.identity), one.mark)
        if one.excluded:
            record.update(status="excluded", reason=one.excluded)
        records.append(record)
    results = Results(folder, document, records)  # refuses a text that changed
    results.write()
    if comparison.budget[0] == "seconds":
        timekeeping.again([c for c in cells if c.name in results.cells], results)
    _announce(folder, results.count("waiting"), results)
    try:
        with Board(results) as board:
            done = _collector(results, board, comparison)
            _launch(comparison, launcher, results, done)
        if timing:
            _time(results, comparison.threads)
    except KeyboardInterrupt:
        done = results.count("done")
        print(
            f"interrupted: {done} of {plural(len(cells), 'cell')} done; the same "
            f"command goes on with the rest"
        )
        return 130
    show({**results.header, "cells": list(results.cells.values())}, folder)
    report.write(folder)
    return 1 if results.count("failed") else 0


def _launch(
    comparison: Comparison,
    launcher: Launcher,
    results: Results,
    done: Callable[[Outcome], None],
) -> None:
    """Train the cells that are waiting."""

    def run(cells: list[Cell]) -> None:
        jobs = [_job(comparison, cell, results.folder) for cell in cells]
        if jobs:
            launcher.run(jobs, done)

    cells = [cell for cell in comparison.cells() if cell.name in results.cells]
    if comparison.budget[0] == "seconds":
        timekeeping.keep(cells, results, run)
    else:
        run([cell for cell in cells if results[cell.name]["status"] == "waiting"])


def _time(results: Results, threads: int) -> None:
    """Time against length of what was trained; no cell runs beside it any more."""
    sizes = {"vocab_size": results.header["text"]["tokenizer"]["vocab_size"]}
    print("timing the models against length", file=sys.stderr)
    found, without = growth.timed(
        results.cells, results.folder, threads=threads, **sizes
    )
    for line in without:
        print(line, file=sys.stderr)
    results.header["timing"] = found
    results.write()


def _rehearsed(comparison: Comparison) -> dict[str, Rehearsed]:
    """Label -> what is known of each variant, all of them different runs."""
    known: dict[str, Rehearsed] = {}
    for variant in comparison.variants():
        known[variant.label] = rehearse(comparison, variant)
        if said := known[variant.label].excluded:
            print(f"{variant.label} is excluded: {said}", file=sys.stderr)
    require_different({label: one.identity for label, one in known.items()})
    return known


def _texts(known: dict[str, Rehearsed]) -> list[dict[str, Any]]:
    """Every text and way to cut it that is measured on, with what counting reaches."""
    found = {}
    for one in known.values():
        tokenizer = _tokenizer(one.identity)
        row = {"text": one.text, "tokenizer": tokenizer, "floors": one.floors}
        found.setdefault((one.text["val_text_sha256"], tokenizer), row)
    return list(found.values())


def _needed(comparison: Comparison, known: dict[str, Rehearsed]) -> list[Cell]:
    """Every cell but repetitions of a count, which no seed changes."""
    first = comparison.seeds[0]
    return [
        cell
        for cell in comparison.cells()
        if cell.seed == first or known[cell.variant.label].mark != "counting"
    ]


def _collector(
    results: Results, board: Board, comparison: Comparison
) -> Callable[[Outcome], None]:
    """What happens when a cell ends: it is measured, and everything is written."""
    torch.set_num_threads(comparison.threads)  # as cells: same sums, no more neighbours

    def done(outcome: Outcome) -> None:
        """Measure the cell, or note why it failed, and write everything."""
        cell = results[outcome.name]
        if outcome.code:
            cell.update(status="failed", reason=outcome.reason)
        else:
            try:
                found = collect(results.folder / cell["run"])
                cell.update(found, status="done", reason="", commit=commit())
                if comparison.budget[0] == "seconds":
                    seconds = comparison.budget[1]  # less than the whole if searched
                    cell["deviation"] = timekeeping.deviation(cell, seconds)
            except UsageError as error:
                cell.update(status="failed", reason=str(error))
            except Exception as error:  # a plugin's model; the other cells go on
                said = f"{type(error).__name__}: {first_line(error)}"
                cell.update(status="failed", reason=f"measuring it failed: {said}")
        results.write()
        board.ended(outcome.name)

    return done


def _job(comparison: Comparison, cell: Cell, folder: Path) -> Job:
    return Job(
        name=cell.name,
        argv=cell.argv(folder, comparison.plugins),
        folder=folder / cell.run,
        threads=comparison.threads,
    )


@contextlib.contextmanager
def _opened(folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    """The folder, made, and locked until the end."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except OSError as error:
        if isinstance(error, filelock.Timeout):
            raise UsageError(
                f"{folder}: another process runs this comparison; wait for it"
            ) from error
        raise UsageError(f"--out {folder}: {error.strerror or error}") from error
    try:
        record = {"format": 1, "identity": identity}
        file = folder / RECORD
        if not file.is_file() or json.loads(file.read_text("utf-8")) != record:
            files.write_json(file, record)
        yield
    finally:
        lock.release()


def _announce(folder: Path, waiting: int, results: Results) -> None:
    done, excluded = results.count("done"), results.count("excluded")
    more = f", {done} done" if done else ""
    more += f", {excluded} excluded" if excluded else ""
    print(f"{folder}: {plural(waiting, 'cell')} to train{more}", file=sys.stderr)


def _tokenizer(identity: dict[str, Any]) -> str:
    """Its kind, as bpe:512 where a size was given; a file's by its name."""
    kind = Path(str(identity.get("data.tokenizer", ""))).name
    size = identity.get("data.tokenizer_size")
    return f"{kind}:{size}" if size else kind
