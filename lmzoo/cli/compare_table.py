"""What ``lmzoo compare`` shows: a live line for each cell, and the table at the end."""

import csv
import json
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lmzoo.compare.results import Results

STYLES = {"done": "green", "failed": "red", "excluded": "yellow", "running": "bold"}
ROWS = 24  # of the live table; the finished ones make room first


class Board:
    """Shows where the cells stand: live in a terminal, else a line for each that ends.

    Args:
        results: read, never changed.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.console = Console(highlight=False)
        self._begun = time.time()
        self._seen: dict[str, float] = {}  # when a running cell was first looked at
        self._live: Live | None = None

    def __enter__(self) -> "Board":
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self.render,
                console=self.console,
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def ended(self, name: str) -> None:
        """Say how a cell ended, where nothing is live."""
        if self._live is not None:
            return
        cell, results = self.results[name], self.results
        over = sum(results.count(status) for status in ("done", "failed"))
        total = len(results.cells) - results.count("excluded")
        if cell["status"] == "done":
            said = (
                f"{_number(cell['best']['bits_per_char'])} bits/char, "
                f"{cell['steps']:,} steps in {cell['seconds']:.1f} s"
            )
        else:
            said = f"{cell['status']}: {cell['reason']}"
        print(f"[{over}/{total}] {name}  {said}", flush=True)

    def render(self) -> Group:
        """The live table."""
        table = Table(box=None, pad_edge=False)
        for title in ("cell", "", "progress", "step", "bits/char", "seconds"):
            right = title in ("step", "bits/char", "seconds")
            table.add_column(title, justify="right" if right else "left", no_wrap=True)
        rows = [self._row(cell) for cell in self.results.cells.values()]
        hidden = max(0, len(rows) - ROWS)
        for row in [r for r in rows if r[1] == "done"][:hidden]:
            rows.remove(row)
        for row in rows[:ROWS]:
            table.add_row(row[0], Text(row[1], STYLES.get(row[1], "dim")), *row[2:])
        left = len(self.results.cells) - min(len(rows), ROWS)
        over = f"{self.results.count('done')} of {len(self.results.cells)} cells done"
        more = f", {left} not shown" if left else ""
        return Group(table, Text(over + more, "dim"))

    def _row(self, cell: dict[str, Any]) -> list[str]:
        if cell["status"] == "done":
            best = _number(cell["best"]["bits_per_char"])
            return [
                cell["name"],
                "done",
                _bar(1),
                f"{cell['steps']:,}",
                best,
                f"{cell['seconds']:.0f}",
            ]
        folder = self.results.folder / cell["run"]
        log = folder / "log.txt"
        if cell["status"] != "waiting" or not _newer(log, self._begun):
            return [cell["name"], cell["status"], "", "", "", ""]
        since = self._seen.setdefault(cell["name"], time.monotonic())
        step, bits = _reached(folder / "metrics.csv")
        total = _planned(folder / "manifest.json")
        return [
            cell["name"],
            "running",
            _bar(min(1.0, step / total) if total else 0),
            f"{step:,}",
            _number(bits),
            f"{time.monotonic() - since:.0f}",
        ]


def show(document: dict[str, Any], folder: Path) -> None:
    """The result: a line for each label, in the order asked for; nothing is ranked."""
    console = Console(highlight=False)
    cells = document["cells"]
    labels = list(dict.fromkeys(cell["label"] for cell in cells))
    texts = {(cell["corpus"], cell["tokenizer"]) for cell in cells}
    unit = "bits_per_byte" if len(texts) > 1 else "bits_per_char"
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in (
        unit.replace("_per_", "/"),
        "of seeds",
        "nats/token",
        "accuracy",
        "parameters",
        "tokens/s",
        "steps",
        "seconds",
        "memory",
        "context",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    protocols: list[str] = []
    for label in labels:
        group = [cell for cell in cells if cell["label"] == label]
        table.add_row(*_summary_row(label, group, unit, protocols))
    for name, row in document["floors"].items():
        figures = [_number(row.get(unit)), "", _number(row.get("nll"))]
        table.add_row(*(Text(cell, "dim") for cell in (f"floor: {name}", *figures)))
    console.print(table, soft_wrap=not console.is_terminal)
    for number, protocol in enumerate(protocols, 1):
        console.print(f"context {number}  {protocol}", soft_wrap=True, markup=False)
    _remarks(console, document, cells)
    console.print(f"results    {folder}/results.json, results.csv", soft_wrap=True)
    console.print(f"next       tensorboard --logdir {folder}", soft_wrap=True)


def _summary_row(
    label: str, group: list[dict[str, Any]], unit: str, protocols: list[str]
) -> list[str]:
    done = [cell for cell in group if cell["status"] == "done"]
    marked = f"{label} ({group[0]['mark']})" if group[0]["mark"] else label
    if not done:
        return [marked, group[0]["status"]]
    values = [cell["best"][unit] for cell in done if cell["best"][unit] is not None]
    first = done[0]
    if first["protocol"] not in protocols:
        protocols.append(first["protocol"])
    spread = f"{min(values):.3f}-{max(values):.3f}" if len(values) > 1 else ""
    missing = f" {len(done)} of {len(group)}" if len(done) < len(group) else ""

    def mean(*keys: str) -> float:
        found = [cell[keys[0]] for cell in done]
        return statistics.fmean(
            value[keys[1]] if keys[1:] else value for value in found
        )

    return [
        marked,
        _number(statistics.fmean(values) if values else None),
        spread + missing,
        _number(mean("best", "nll")),
        f"{mean('best', 'accuracy'):.1%}",
        f"{first['parameters']:,}",
        f"{mean('tokens_per_second'):,.0f}" if first["tokens"] else "",
        f"{mean('steps'):,.0f}",
        f"{mean('seconds'):.1f}",
        f"{mean('peak_memory') / 2**20:.0f} MiB" if first["peak_memory"] else "",
        str(protocols.index(first["protocol"]) + 1),
    ]


def _remarks(
    console: Console, document: dict[str, Any], cells: list[dict[str, Any]]
) -> None:
    kind, value = document["budget"]["kind"], document["budget"]["value"]
    console.print(
        f"budget     {value:,} {kind} a cell, early stopping "
        f"{document['early_stopping']}; {document['parallel']} at a time, threads of "
        f"each: {document['threads']}",
        soft_wrap=True,
    )
    said = {}
    for cell in cells:
        if cell["status"] in ("failed", "excluded"):
            excluded = cell["status"] == "excluded"
            who = cell["label"] if excluded else cell["name"]
            said[f"{who} {cell['status']}: {cell['reason']}"] = "red"
        elif cell["note"]:
            said[f"{cell['name']}: {cell['note']}"] = "yellow"
    for line, style in said.items():
        console.print(Text(line, style), soft_wrap=True)


def _bar(share: float) -> str:
    full = round(share * 20)
    return "━" * full + "·" * (20 - full)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"


def _newer(file: Path, moment: float) -> bool:
    try:
        return file.stat().st_mtime >= moment - 1
    except OSError:
        return False


def _reached(file: Path) -> tuple[int, float | None]:
    """The last step of a metrics.csv, and the last bits per character."""
    step, bits = 0, None
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                step = int(row["step"])
                if row.get("val/bits_per_char"):
                    bits = float(row["val/bits_per_char"])
    except (OSError, ValueError, TypeError, KeyError):  # being written just now
        pass
    return step, bits


def _planned(file: Path) -> int:
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["max_steps"])
    except (OSError, ValueError, KeyError):
        return 0
