"""Tables of how a comparison was made: grids, searches, what is missing."""

import re
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from lmzoo.compare.reading import Cell, Comparison, Row, distinct, off_budget, pick
from lmzoo.report.spread import spread
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, count, decimals, size, some, with_interval

SHA = re.compile(r"\b[0-9a-f]{40}\b")


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
    names = distinct(row.model for row in found.rows)
    groups = [[row for row in found.rows if row.model == name] for name in names]
    return [group for group in groups if any(row.axes for row in group)]


def _grid(
    found: Comparison,
    rows: list[Row],
    axes: Mapping[str, list[Any]],
    down: str,
    across: str,
) -> Table:
    columns, lines, kinds = axes[across] if across else [None], [], {}
    lowest = _lowest(rows)
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
            if not across and lowest in same:
                kinds[i] = "best"
        lines.append(line)
    heads = [f"{_last(across)} {other}" for other in columns] if across else []
    heads = heads or [found.unit_words]
    more = [_last(key) for key in axes if key not in (down, across)]
    caption = f"{rows[0].model}: {found.unit_words}" + (
        f", mean over {', '.join(more)}" if more else ""
    )
    if lowest:
        where = ", ".join(f"{_last(key)} {v}" for key, v in lowest.axes.items())
        caption += f"; lowest mean {decimals(lowest.figure.mean)} at {where}"
    return Table([_last(down), *heads], lines, caption, (0,), kinds)


def _lowest(rows: list[Row]) -> Row | None:
    """The row with the lowest mean; None where they did not code the same."""
    alike = len({row.coded for row in rows}) == 1
    return min(rows, key=lambda row: row.figure.mean) if alike else None


def _averaged(rows: list[Row]) -> str:
    if not rows:
        return NONE
    if len(rows) == 1:
        return with_interval(rows[0].figure)
    if _lowest(rows) is None:  # a mean over texts is of nothing
        return NONE
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
        if cell.get("status") != "done"
        or pick(cell, "best", found.unit) is None
        or off_budget(cell)
    ]
    return Table(["run", "status", "reason"], rows, "", (0, 1, 2)) if rows else None


def _reason(found: Comparison, cell: Cell) -> str:
    if cell.get("reason"):
        return str(cell["reason"])
    if off_budget(cell):
        return str(cell.get("note") or "outside the tolerance of the budget")
    return "" if cell.get("status") != "done" else f"no finite {found.unit_words}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return NONE if value is None else str(value)


def measured(found: Comparison) -> Table:
    """How it was measured."""
    results, rows = found.results, []
    machine = results.get("machine") or {}
    command = " ".join(str(word) for word in results.get("command") or [])
    parallel = results.get("parallel") or 1
    beside = "one at a time" if parallel == 1 else f"{parallel} side by side"
    rows = [
        ["command", command],
        ["budget of each run", found.budget()],
        ["threads", f"{results.get('threads')} each, {beside}, "
         f"{results.get('launcher') or 'local'} launcher"],
        ["machine", _machine(machine)],
        *_texts(found),
        ["tokenizer", ", ".join(map(str, found.tokenizers))],
        ["seeds", ", ".join(str(s) for s in distinct(c["seed"] for c in found.cells))],
        ["commit", ", ".join(commits(found)) or "not known"],
        ["versions", ", ".join(
            f"{k} {v}" for k, v in (results.get("versions") or {}).items())],
    ]  # fmt: skip
    return Table(["", ""], rows, "", (0, 1))


def _texts(found: Comparison) -> list[list[str]]:
    """Two lines for each text: its parts and its hash."""
    rows = []
    for one in {one["corpus"]: one for one in found.texts()}.values():
        parts = [
            f"{name} {count(pick(part, 'characters'))} characters"
            for name, part in (one["text"].get("splits") or {}).items()
        ]
        rows.append(["text", f"{one['corpus']}: {', '.join(parts)}"])
        rows.append(["text SHA-256", str(one["text"].get("sha256") or NONE)])
    return rows


def commits(found: Comparison) -> list[str]:
    """Of lmzoo, when each run was measured; the comparison's own where none says.

    In twelve digits, which name one among millions.
    """
    told = distinct(cell["commit"] for cell in found.cells if cell.get("commit"))
    whole = found.results.get("commit")
    named = [str(one) for one in told] or ([str(whole)] if whole else [])
    return [SHA.sub(lambda found: found[0][:12], one) for one in named]


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
