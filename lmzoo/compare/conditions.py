"""Tables of how a comparison was made: grids, searches, what is missing."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from lmzoo.compare.reading import Cell, Comparison, Row, distinct, pick
from lmzoo.report.spread import spread
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, count, decimals, size, some, with_interval


def grids(found: Comparison) -> list[Table]:
    """One table for each pair of axes and each model; one axis alone is a column."""
    axes: Mapping[str, list[Any]] = found.results.get("axes") or {}
    pairs = list(combinations(axes, 2)) or [(key, "") for key in axes]
    return [
        _grid(found, rows, axes, down, across)
        for down, across in pairs
        for rows in _by_model(found)
    ]


def _by_model(found: Comparison) -> list[list[Row]]:
    keys = distinct((row.model, row.corpus, row.tokenizer) for row in found.rows)
    groups = [
        [row for row in found.rows if (row.model, row.corpus, row.tokenizer) == key]
        for key in keys
    ]
    return [group for group in groups if any(row.axes for row in group)]


def _grid(
    found: Comparison,
    rows: list[Row],
    axes: Mapping[str, list[Any]],
    down: str,
    across: str,
) -> Table:
    columns = axes[across] if across else [None]
    lines, lowest = [], min(rows, key=lambda row: row.figure.mean)
    kinds = {}
    for i, value in enumerate(axes[down]):
        line = [str(value)]
        for other in columns:
            same = [
                row
                for row in rows
                if row.axes.get(down) == value
                and (not across or row.axes.get(across) == other)
            ]
            line.append(_averaged(same))
            if not across and same and same[0].figure.mean == lowest.figure.mean:
                kinds[i] = "best"
        lines.append(line)
    heads = [f"{_last(across)} {other}" for other in columns] if across else []
    heads = heads or [found.unit_words]
    more = [_last(key) for key in axes if key not in (down, across)]
    caption = f"{rows[0].model}: {found.unit_words}" + (
        f", mean over {', '.join(more)}" if more else ""
    )
    where = ", ".join(f"{_last(key)} {value}" for key, value in lowest.axes.items())
    caption += f"; lowest mean {decimals(lowest.figure.mean)} at {where}"
    return Table([_last(down), *heads], lines, caption, (0,), kinds)


def _averaged(rows: list[Row]) -> str:
    if not rows:
        return NONE
    if len(rows) == 1:
        return with_interval(rows[0].figure)
    return decimals(spread([row.figure.mean for row in rows]).mean)


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def sweeps(found: Comparison) -> list[Table]:
    """Every trial of the search of learning rates, the chosen one marked."""
    tuned = found.results.get("tuned") or {}
    tables = []
    for model, trials in (tuned.get("sweeps") or {}).items():
        keys = distinct(key for trial in trials for key in trial)
        values = [pick(trial, "bits_per_char") for trial in trials]
        lowest = min((v for v in values if v is not None), default=None)
        rows = [[_plain(trial.get(key)) for key in keys] for trial in trials]
        kinds = {
            i: "best" for i, v in enumerate(values) if v is not None and v == lowest
        }
        chosen = (tuned.get("chosen") or {}).get(model) or {}
        told = ", ".join(f"{key} {_plain(value)}" for key, value in chosen.items())
        heads = [key.replace("_", " ") for key in keys]
        caption = f"{model}: {told} chosen" if told else model
        tables.append(Table(heads, rows, caption, (), kinds))
    return tables


def unfinished(found: Comparison) -> Table | None:
    """Cells without a result, each with its reason."""
    rows = [
        [cell["name"], str(cell.get("status") or ""), _reason(found, cell)]
        for cell in found.cells
        if cell.get("status") != "done" or pick(cell, "best", found.unit) is None
    ]
    return Table(["run", "status", "reason"], rows, "", (0, 1, 2)) if rows else None


def _reason(found: Comparison, cell: Cell) -> str:
    if cell.get("reason"):
        return str(cell["reason"])
    return "" if cell.get("status") != "done" else f"no finite {found.unit_words}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return NONE if value is None else str(value)


def measured(found: Comparison) -> Table:
    """How it was measured."""
    results, rows = found.results, []
    machine, text = results.get("machine") or {}, results.get("text") or {}
    command = " ".join(str(word) for word in results.get("command") or [])
    splits = text.get("splits") or {}
    parts = [
        f"{name} {count(pick(part, 'characters'))} characters"
        for name, part in splits.items()
    ]
    parallel = results.get("parallel") or 1
    beside = "one at a time" if parallel == 1 else f"{parallel} side by side"
    rows = [
        ["command", command],
        ["budget of each run", found.budget()],
        ["threads", f"{results.get('threads')} each, {beside}, "
         f"{results.get('launcher') or 'local'} launcher"],
        ["machine", _machine(machine)],
        ["text", f"{text.get('name')}: {', '.join(parts)}"],
        ["text SHA-256", str(text.get("sha256") or NONE)],
        ["tokenizer", ", ".join(map(str, found.tokenizers))],
        ["seeds", ", ".join(str(s) for s in distinct(c["seed"] for c in found.cells))],
        ["commit", str(results.get("commit") or "not known")],
        ["versions", ", ".join(
            f"{k} {v}" for k, v in (results.get("versions") or {}).items())],
    ]  # fmt: skip
    return Table(["", ""], rows, "", (0, 1))


def mixed_versions(found: Comparison) -> list[str]:
    """A caveat where the cells were not all trained with the same libraries."""
    groups: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.get("versions"):
            told = ", ".join(f"{k} {v}" for k, v in cell["versions"].items())
            groups.setdefault(told, []).append(cell["name"])
    if len(groups) < 2:
        return []
    words = [f"{told} for {some(names)}" for told, names in groups.items()]
    return [
        "The runs were not all made with the same libraries, which may round "
        f"differently and differ in speed: {'; '.join(words)}."
    ]


def _machine(machine: Mapping[str, Any]) -> str:
    cores = machine.get("cores")
    told = [str(machine.get("cpu") or "not known")]
    told += [f"{cores} cores"] if cores else []
    return ", ".join([*told, f"{size(pick(machine, 'memory'))} memory"])
