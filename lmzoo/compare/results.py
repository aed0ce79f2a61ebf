"""results.json and results.csv: all that a comparison found, for people and programs.

Both are written anew, atomically, after every finished cell.
"""

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

from lmzoo import files, runs
from lmzoo.compare import timekeeping
from lmzoo.compare.plan import Cell, Comparison
from lmzoo.compare.surroundings import commit, machine
from lmzoo.errors import UsageError, first_line
from lmzoo.training.checkpoints import versions

FORMAT = 1
SAME = "its curve is that of {}, value for value: this axis changed nothing"
FIGURES = ("nll", "perplexity", "bits_per_char", "bits_per_byte", "accuracy")
COLUMNS = (
    "name",
    "label",
    "model",
    "seed",
    "corpus",
    "tokenizer",
    "oov_share",
    "status",
    "mark",
    "parameters",
    "parameters_without_embeddings",
    "state_bytes",
    "flops_per_token",
    "training_flops",
    "tokens",
    "steps",
    "seconds",
    "deviation",
    "tokens_per_second",
    "mfu",
    "hfu",
    "peak_memory",
    "context_length",
    "protocol",
    "stopped",
    "reason",
    "note",
    "run",
    "commit",
)


class Results:
    """The records of all cells, and what they have in common.

    Args:
        folder: of the comparison; what an earlier sitting finished is read from it.
        header: all of results.json but its cells.
        cells: one record each, status "waiting" or "excluded".
    """

    def __init__(
        self, folder: Path, header: dict[str, Any], cells: list[dict[str, Any]]
    ) -> None:
        self.folder, self.header = folder, header
        self.cells = {cell["name"]: cell for cell in cells}
        for cell in cells:
            _require_same_text(folder / cell["run"], cell)
        for before in _earlier(folder):
            cell = self.cells.get(before["name"], {})
            if cell.get("status") == "waiting" and before["status"] == "done":
                manifest = runs.read_manifest(folder / before["run"])
                if manifest.get("status") == "finished":
                    cell.update(before)

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.cells[name]

    def count(self, status: str) -> int:
        """Cells in a state."""
        return sum(cell["status"] == status for cell in self.cells.values())

    def write(self) -> None:
        """Both files, each in one piece or not at all."""
        cells = list(self.cells.values())
        flag_twins(cells)
        flag_overtime(cells)
        files.write_json(self.folder / "results.json", {**self.header, "cells": cells})
        text = as_csv(cells, list(self.header["axes"]))
        files.write_atomically(self.folder / "results.csv", text.encode())


def blank(cell: Cell, text: dict[str, Any], tokenizer: str, mark: str) -> dict:
    """The record of a cell that has not run."""
    variant = cell.variant
    return {
        "name": cell.name,
        "label": variant.label,
        "model": variant.model,
        "seed": cell.seed,
        "axes": dict(variant.axes),
        "corpus": text["name"],
        "text": identified(text),
        "tokenizer": tokenizer,
        "oov_share": text["splits"]["val"]["oov_share"],
        "status": "waiting",
        "reason": "",
        "mark": mark,
        "note": "",
        "run": cell.run,
    }


def identified(text: dict[str, Any]) -> dict[str, Any]:
    """Which text a cell is trained and measured on, of its description."""
    keys = ("sha256", "tokens_sha256", "val_text_sha256")
    part = text["splits"]["val"]
    return {
        **{key: text[key] for key in keys},
        "val_characters": part["characters"],
        "val_bytes": part["bytes"],
    }


def flag_twins(cells: list[dict[str, Any]]) -> None:
    """Note where two cells of a model differ in an axis and not in their curves.

    The seed is the same, so a curve that is equal in every digit says that the axis
    changed nothing.
    """
    done = [cell for cell in cells if cell["status"] == "done"]
    for one, other in itertools.combinations(done, 2):
        same = all(one[key] == other[key] for key in ("model", "seed"))
        if same and one["axes"] != other["axes"] and _losses(one) == _losses(other):
            one["note"] = SAME.format(other["name"])
            other["note"] = SAME.format(one["name"])


def flag_overtime(cells: list[dict[str, Any]]) -> None:
    """Note where a cell trained for another time than the budget said, twice."""
    for cell in cells:
        if timekeeping.missed(cell) and not cell["note"]:
            cell["note"] = (
                f"trained for {cell['seconds']:.1f} s, {cell['deviation']:+.0%} of its "
                f"budget, and so not ranked: what else ran on the machine changed"
            )


def _losses(cell: dict[str, Any]) -> list[tuple[int, float]]:
    points = [(p["step"], p["nll"]) for p in cell["train_curve"] + cell["curve"]]
    return [*points, *enumerate(cell["blocks"])]


def as_csv(cells: list[dict[str, Any]], axes: list[str]) -> str:
    """One row a cell: its scalars, its axes, the figures of best, last and test."""
    parts = ("best", "last", "test")
    figures = [f"{part}.{name}" for part in parts for name in FIGURES]
    columns = [*COLUMNS[:7], *axes, *COLUMNS[7:9], "best.step", *figures, *COLUMNS[9:]]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        row = {**cell, **cell["axes"]}
        for part in parts:
            for name, value in (cell.get(part) or {}).items():
                row[f"{part}.{name}"] = value
        writer.writerow(row)
    return text.getvalue()


def header(comparison: Comparison, command: list[str]) -> dict[str, Any]:
    """What all cells share, but their text and floors."""
    kind, value = comparison.budget
    return {
        "format": FORMAT,
        "command": command,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
        "budget": {"kind": kind, "value": value},
        "threads": comparison.threads,
        "parallel": comparison.parallel,
        "launcher": comparison.launcher,
        "early_stopping": "as asked" if comparison.stops_early else "off",
        "match": {"params": comparison.match} if comparison.match else None,
        "tuned": None,
        "seeds": list(comparison.seeds),
        "axes": comparison.axes,
    }


def _require_same_text(run: Path, cell: dict[str, Any]) -> None:
    """What a cell was trained on is what the others will be trained on."""
    before = (runs.read_manifest(run).get("data") or {}).get("tokens_sha256")
    if before not in (None, cell["text"]["tokens_sha256"]):
        raise UsageError(
            f"the text changed since {cell['name']} was trained on it: its figures "
            f"would stand beside those of another text; choose another --out"
        )


def _earlier(folder: Path) -> list[dict[str, Any]]:
    file = folder / "results.json"
    if not file.is_file():
        return []
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        cells = before["cells"] if before["format"] == FORMAT else []
        if not all({"name", "status", "run"} <= set(cell) for cell in cells):
            raise ValueError("a cell has no name")
        return cells
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} cannot be read ({first_line(error)}); remove it: the runs "
            f"are kept, and are read again"
        ) from error
