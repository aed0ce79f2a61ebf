"""A budget in seconds, kept: one number of steps for all seeds of a variant.

The first seed's cell takes its steps from fit's rehearsal of a few seconds. What all of
it then took is a better measurement: further than ``TOLERANCE`` from the budget, it is
trained again with its steps rescaled by it. The other seeds take as many steps; one of
them that was disturbed is trained again as it was, so that all seeds of a model train
equally long. Disturbed even then, the machine itself has become slower or quicker: the
last attempt rescales the steps. What is outside after ``ATTEMPTS`` is marked, and not
ranked; the same command, in a quieter moment, tries it again.

The clock is the wall's, without start-up and evaluation. Nothing but the folder is
needed to go on after an interruption: earlier attempts are kept in ``OUTSIDE``.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from lmzoo import runs
from lmzoo.compare.plan import BUDGETS, Cell
from lmzoo.training.budget import TOLERANCE

OUTSIDE = "outside"  # below the comparison: attempts that missed the budget
ATTEMPTS = 3  # of a cell in one sitting
STEPS, SECONDS = BUDGETS["steps"], BUDGETS["seconds"]

Record = dict[str, Any]


class Records(Protocol):
    """``results.Results``."""

    folder: Path

    def __getitem__(self, name: str) -> Record: ...

    def write(self) -> None:
        """Keep them."""


def deviation(record: Record, seconds: float) -> float | None:
    """By what share of its budget a cell trained longer, or shorter (below 0).

    None where no such budget binds: counting, or stopping early as was asked for.
    """
    done = record["status"] == "done" and record["mark"] != "counting"
    if not done or not record["stopped"].startswith("all "):
        return None
    return record["seconds"] / seconds - 1


def missed(record: Record) -> bool:
    """Whether a cell is outside the tolerance."""
    return abs(record.get("deviation") or 0) > TOLERANCE


def again(cells: Sequence[Cell], records: Records) -> None:
    """Let what missed its budget in an earlier sitting be trained again."""
    for cell in cells:
        if missed(records[cell.name]):
            for old in _attempts(cell, records):
                shutil.rmtree(old)
            _put_aside(cell, records)


def _attempts(cell: Cell, records: Records) -> list[Path]:
    """Where its earlier attempts lie, the first of them first."""
    places = [records.folder / OUTSIDE / cell.name]
    places += [Path(f"{places[0]}.{i}") for i in range(2, ATTEMPTS)]
    return [place for place in places if place.exists()]


def _put_aside(cell: Cell, records: Records) -> None:
    """Keep an attempt out of the way."""
    records[cell.name].update(status="waiting", deviation=None, note="")
    records.write()  # before the folder goes
    aside, number = records.folder / OUTSIDE / cell.name, len(_attempts(cell, records))
    aside.parent.mkdir(exist_ok=True)
    place = Path(f"{aside}.{number + 1}") if number else aside
    (records.folder / cell.run).rename(place)


def keep(
    cells: Sequence[Cell], records: Records, run: Callable[[list[Cell]], None]
) -> None:
    """Run cells under a budget in seconds: first seeds, then the others.

    Args:
        cells: all of the comparison.
        records: of them, by name; those with the status "waiting" are run.
        run: trains cells, and measures them into their records.
    """
    seed = cells[0].seed
    leaders = {c.variant.label: c for c in cells if c.seed == seed}

    def train(group: list[Cell]) -> None:
        run(
            [
                _with_steps(cell, _steps(records, cell, leaders[cell.variant.label]))
                for cell in group
                if records[cell.name]["status"] == "waiting"
            ]
        )

    for group in (list(leaders.values()), [c for c in cells if c.seed != seed]):
        train(group)
        for attempt in range(1, ATTEMPTS):
            for cell in group:
                before = len(_attempts(cell, records))
                if missed(records[cell.name]) and before < attempt:
                    _put_aside(cell, records)
            train(group)


def _steps(records: Records, cell: Cell, leader: Cell) -> int | None:
    """Of a cell; None: its own rehearsal decides."""
    run = records.folder / cell.run
    if begun := runs.read_manifest(run):  # goes on as it began
        own = SECONDS in begun.get("identity", {})
        return None if own else int(begun["max_steps"])
    attempts = _attempts(cell, records)
    if attempts and (cell == leader or len(attempts) == ATTEMPTS - 1):
        return _rescaled(attempts[-1], cell)
    if cell == leader:
        return None
    record = records[leader.name]
    if record["status"] != "done" or record["mark"] == "counting":
        return None
    run = records.folder / leader.run
    if missed(record):
        return _rescaled(run, cell)
    return int(runs.read_manifest(run)["max_steps"])


def _rescaled(attempt: Path, cell: Cell) -> int:
    """The steps that fill the budget, by the time that an attempt took."""
    summary = json.loads((attempt / "summary.json").read_text(encoding="utf-8"))
    budget = cell.variant.options[SECONDS]
    return max(1, round(summary["steps"] * budget / summary["seconds"]))


def _with_steps(cell: Cell, steps: int | None) -> Cell:
    if steps is None:
        return cell
    options = {k: v for k, v in cell.variant.options.items() if k != SECONDS}
    variant = replace(cell.variant, options={**options, STEPS: steps})
    return replace(cell, variant=variant)
