"""How a run was trained: its curves and figures, from what it wrote down."""

import csv
import json
import math
from pathlib import Path
from typing import Any

from lmzoo.report.charts import Curve
from lmzoo.report.lines import lines
from lmzoo.report.words import count, decimals, percent

MOST = 400  # points of a curve
LOSSES = {"train/nll": "train", "val/nll": "validation"}
OTHERS = {"lr": "Learning rate", "grad_norm": "Gradient norm"}
Points = tuple[list[float], list[float]]


def charts(folder: Path) -> list[str]:
    """SVG of the losses, the learning rate and the gradient norm; those there are."""
    columns = _columns(folder / "metrics.csv")
    losses = [
        Curve(label, *columns[key], style=style)
        for style, (key, label) in enumerate(LOSSES.items())
        if key in columns
    ]
    drawn = []
    if losses:
        chart = lines(losses, "Loss", "optimizer steps", "nats", dots=False)
        drawn.append(chart)
    for key, label in OTHERS.items():
        if key in columns:
            last = f"{columns[key][1][-1]:.2g}"
            curve = Curve(last, *columns[key], style=2)
            drawn.append(lines([curve], label, "optimizer steps", "", dots=False))
    return drawn


def figures(folder: Path) -> list[tuple[str, str]]:
    """What the run's summary says, as names with values."""
    summary = _summary(folder / "summary.json")
    best = (summary.get("best") or {}).get("metrics") or {}
    rows = [
        ("steps", count(summary.get("steps"))),
        ("tokens", count(summary.get("tokens"))),
        ("training time", _minutes(summary.get("seconds"))),
        ("validation loss, nats", decimals(best.get("nll"))),
        ("perplexity", decimals(best.get("perplexity"))),
        ("bits per character", decimals(best.get("bits_per_char"))),
        ("validation accuracy", percent(best.get("accuracy"))),
        ("F1", decimals(best.get("f1"))),
        ("AUROC", decimals(best.get("auroc"))),
    ]
    floors = summary.get("floors") or {}
    known = [
        (f["bits_per_char"], name)
        for name, f in floors.items()
        if isinstance(f, dict) and f.get("bits_per_char")
    ]
    if known:
        bits, name = min(known)
        rows.append((f"lowest floor: {name}", decimals(bits)))
    return [(name, value) for name, value in rows if any(map(str.isdigit, value))]


def _columns(file: Path) -> dict[str, Points]:
    """(steps, values) of each column that has some."""
    found: dict[str, Points] = {}
    if not file.is_file():
        return found
    with file.open(encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            for key in (*LOSSES, *OTHERS):
                try:
                    step, value = float(row["step"]), float(row[key])
                except (KeyError, TypeError, ValueError):  # not logged here, or torn
                    continue
                if math.isfinite(value):
                    steps, values = found.setdefault(key, ([], []))
                    steps.append(step)
                    values.append(value)
    return {key: _thinned(*points) for key, points in found.items()}


def _thinned(steps: list[float], values: list[float]) -> Points:
    """Every n-th point, the last among them."""
    every = math.ceil(len(steps) / MOST)
    return steps[::-every][::-1], values[::-every][::-1]


def _summary(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a run that is not finished has none
        return {}
    return content if isinstance(content, dict) else {}


def _minutes(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return ""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} minutes"
