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

from lmzoo.compare.reading import Comparison, spent, text_of
from lmzoo.compare.results import Results
from lmzoo.compare.timekeeping import missed

STYLES = {"done": "green", "failed": "red", "excluded": "yellow", "running": "bold"}
WIDE = 160  # columns where no terminal sets a limit
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
            if missed(cell):
                said += f", {cell['deviation']:+.0%} of its budget"
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


QUALITY = ("of seeds", "nats/token", "accuracy", "context")
COST = ("parameters", "seconds", "tokens/s", "steps", "memory")


def show(document: dict[str, Any], folder: Path) -> None:
    """The result: a line for each label, in the order asked for; nothing is ranked."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    cells = document["cells"]
    texts = {(text_of(cell), cell["tokenizer"]) for cell in cells}
    unit = "bits_per_byte" if len(texts) > 1 else "bits_per_char"
    protocols = list(dict.fromkeys(c["protocol"] for c in cells if "protocol" in c))
    table = _result(document, unit, protocols, (*QUALITY, *COST))
    if console.measure(table).maximum > console.width:  # the rest is in results.csv
        table = _result(document, unit, protocols, (*QUALITY, *COST[:2]))
    console.print()
    console.print(table)
    for number, protocol in enumerate(protocols, 1):
        console.print(f"context {number}  {protocol}", soft_wrap=True, markup=False)
    _remarks(console, document, cells)
    console.print(f"report     {folder}/report.html, report.md", soft_wrap=True)
    console.print(f"results    {folder}/results.json, results.csv", soft_wrap=True)
    console.print(f"next       tensorboard --logdir {folder}", soft_wrap=True)


def _result(
    document: dict[str, Any], unit: str, protocols: list[str], titles: tuple[str, ...]
) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(unit.replace("_per_", "/"), justify="right", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for label in dict.fromkeys(cell["label"] for cell in document["cells"]):
        group = [cell for cell in document["cells"] if cell["label"] == label]
        mark = group[0]["mark"]
        named = f"{label} ({mark})" if mark else label
        done = [cell for cell in group if cell["status"] == "done"]
        if not done:
            table.add_row(named, Text(group[0]["status"], "dim"))
            continue
        figures = _figures(done, len(group), unit, protocols)
        cells = [figures[title] for title in titles]
        table.add_row(named, _number(_mean(done, "best", unit)), *cells)
    found = Comparison(document)
    for corpus in found.corpora:
        where = f", {corpus}" if len(found.corpora) > 1 else ""
        for name, row in found.floor_rows(corpus).items():
            nats = {"nats/token": _number(row.get("nll"))}
            cells = [_number(row.get(unit)), *(nats.get(title, "") for title in titles)]
            words = (f"floor: {name}{where}", *cells)
            table.add_row(*(Text(cell, "dim") for cell in words))
    return table


def _figures(
    done: list[dict[str, Any]], asked: int, unit: str, protocols: list[str]
) -> dict[str, str]:
    """The cells of one line, by their titles."""
    values = [cell["best"][unit] for cell in done if cell["best"][unit] is not None]
    spread = f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else ""
    spread = "deterministic" if done[0]["mark"] == "counting" else spread
    missing = f" ({len(done)} of {asked})" if len(done) < asked else ""
    accuracy, memory = _mean(done, "best", "accuracy"), _mean(done, "peak_memory")
    speed, trained = _mean(done, "tokens_per_second"), done[0]["tokens"]
    return {
        "of seeds": spread + missing,
        "nats/token": _number(_mean(done, "best", "nll")),
        "accuracy": "" if accuracy is None else f"{accuracy:.1%}",
        "context": str(protocols.index(done[0]["protocol"]) + 1),
        "parameters": f"{done[0]['parameters']:,}",
        "seconds": f"{_mean(done, 'seconds'):.1f}",
        "tokens/s": f"{speed:,.0f}" if speed and trained else "",
        "steps": f"{_mean(done, 'steps'):,.0f}",
        "memory": f"{memory / 2**20:.0f} MiB" if memory else "",
    }


def _mean(done: list[dict[str, Any]], *keys: str) -> float | None:
    """Mean over the seeds of a figure of the record, or of a part of it."""
    found = [cell[keys[0]][keys[1]] if keys[1:] else cell[keys[0]] for cell in done]
    return statistics.fmean(found) if None not in found else None


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
