"""What ``lmzoo compare`` shows: a live line for each cell, and the table at the end."""

import csv
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lmzoo.compare import report
from lmzoo.compare.reading import spent
from lmzoo.compare.results import Results
from lmzoo.compare.timekeeping import missed
from lmzoo.report.words import plural

STYLES = {"done": "green", "failed": "red", "excluded": "yellow", "running": "bold"}
WIDE = 120  # columns where no terminal sets a limit
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
        self._took: dict[str, float] = {}  # wall time of those that ended since
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
        if name in self._seen:
            self._took[name] = time.monotonic() - self._seen[name]
        if self._live is not None:
            return
        cell, results = self.results[name], self.results
        over = sum(results.count(status) for status in ("done", "failed"))
        total = len(results.cells) - results.count("excluded")
        if cell["status"] == "done":
            said = (
                f"{_number(cell['best']['bits_per_char'])} bits/char, "
                f"{plural(cell['steps'], 'step')} in {cell['seconds']:.1f} s"
            )
            if missed(cell):
                said += f", {cell['deviation']:+.0%} of its budget"
        else:
            said = f"{cell['status']}: {cell['reason']}"
        print(f"[{over}/{total}] {name}  {said}", flush=True)

    def render(self) -> Group:
        """The live table."""
        table = Table(box=None, pad_edge=False)
        for title in ("cell", "", "progress", "step", "bits/char", "elapsed"):
            right = title in ("step", "bits/char", "elapsed")
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
        more += self._remaining()
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
                _elapsed(self._took.get(cell["name"])),
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
            _elapsed(time.monotonic() - since),
        ]

    def _remaining(self) -> str:
        """About how long the rest takes, by the mean of what has ended."""
        if not self._took:
            return ""
        each = sum(self._took.values()) / len(self._took)
        now = time.monotonic()
        begun = [now - t for name, t in self._seen.items() if name not in self._took]
        left = each * self.results.count("waiting") - sum(min(t, each) for t in begun)
        at_once = self.results.header.get("parallel") or 1
        return f", about {max(1, round(left / at_once / 60))} min left"


def show(document: dict[str, Any], folder: Path) -> None:
    """The result: who leads, a line for each label in order, and what to know of it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    console.print()
    console.print(report.summary_table(document, console))
    for protocol in report.protocols(document):
        console.print(f"context {protocol}", style="dim", soft_wrap=True, markup=False)
    console.print()
    for sentence in report.first_words(document):
        console.print(Text(sentence, "bold"))
    _remarks(console, document, document["cells"])
    console.print(f"report     {folder}/report.html, report.md", soft_wrap=True)
    console.print(f"results    {folder}/results.json, results.csv", soft_wrap=True)
    console.print(f"next       tensorboard --logdir {folder}", soft_wrap=True)


def _remarks(
    console: Console, document: dict[str, Any], cells: list[dict[str, Any]]
) -> None:
    local = document["launcher"] == "local"
    beside = f"{document['parallel']} at a time" if local else document["launcher"]
    tuned = document.get("tuned")
    search = f", {tuned['share']:.0%} of it to find a rate" if tuned else ""
    console.print(
        f"budget     {spent(document['budget'])} a cell{search}, early stopping "
        f"{document['early_stopping']}; {beside}, threads of each: "
        f"{document['threads']}",
        soft_wrap=True,
    )
    said = {}
    for cell in cells:
        if (share := cell["oov_share"]) and cell["status"] == "done":
            who = f"{cell['label']}: {share:.2%} of the validation tokens are unknown"
            said[f"{who}, and nobody spells them: its figures are too low"] = "yellow"
        if cell["status"] in ("failed", "excluded"):
            excluded = cell["status"] == "excluded"
            who = cell["label"] if excluded else cell["name"]
            said[f"{who} {cell['status']}: {cell['reason']}"] = "red"
        elif cell["note"]:
            said[f"{cell['name']}: {cell['note']}"] = "yellow"
    for line, style in said.items():
        console.print(Text(line, style), soft_wrap=True)


def _elapsed(seconds: float | None) -> str:
    """``1:05``; nothing for a cell of an earlier sitting."""
    return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


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
