"""The tables of a report, as words: what HTML, Markdown and the terminal all show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from lmzoo.compare.paragraph import p_value
from lmzoo.compare.reading import Cell, Comparison, Row, distinct, pick
from lmzoo.compare.statistics import spread
from lmzoo.compare.words import (
    NONE,
    between,
    count,
    decimals,
    percent,
    seconds,
    short,
    signed,
    size,
    with_interval,
)

METRICS = ("nll", "perplexity", "bits_per_char", "bits_per_byte", "accuracy")


@dataclass
class Table:
    """Words in rows.

    Attributes:
        left: how many first columns are words, not numbers.
        kinds: row number -> "best", "floor" or "mark", for its looks.
    """

    heads: list[str]
    rows: list[list[str]]
    caption: str = ""
    left: int = 1
    kinds: dict[int, str] = field(default_factory=dict)


# ---- quality and cost ----------------------------------------------------------------


def letters(found: Comparison) -> dict[str, str]:
    """Protocol -> the letter that stands for it in the table."""
    return {text: "abcdefghijklmnopqrstuvwxyz"[i % 26] for i, text in enumerate(
        found.protocols())}  # fmt: skip


def brief(protocol: str) -> str:
    """A protocol in two words."""
    for start, words in (
        ("fresh", "fresh windows"),
        ("every target", "full window"),
        ("state carried", "carried state"),
    ):
        if protocol.startswith(start):
            return words
    return protocol if len(protocol) <= 20 else f"{protocol[:19]}…"


def quality(found: Comparison) -> Table:
    """Ranked rows with the floors among them, then exhibits."""
    letter, lines = letters(found), []
    for row in found.rows:
        kind = "best" if row is found.best else ""
        order = (found.corpora.index(row.corpus), row.figure.mean)
        lines.append((order, _quality_row(found, row, letter), kind))
    for name, figures in (found.results.get("floors") or {}).items():
        value = pick(figures, found.unit)
        if value is not None:
            lines.append(((0, value), _floor_row(found, name, figures), "floor"))
    lines.sort(key=lambda line: line[0])
    for row in found.exhibits:
        lines.append(((), _quality_row(found, row, letter), "mark"))
    unit = "bits/char" if found.unit == "bits_per_char" else "bits/byte"
    other = "bits/byte" if found.unit == "bits_per_char" else "bits/char"
    heads = ["rank", "model", "context", "protocol", "seeds", unit]
    heads += ["nats/token", "perplexity", other, "accuracy", "test " + unit]
    if any(cell.get("other") for cell in found.cells):
        heads.append("other protocol")
    rows = [cells[: len(heads)] for _, cells, _ in lines]
    kinds = {i: kind for i, (_, _, kind) in enumerate(lines) if kind}
    return Table(heads, rows, "", 4, kinds)


def _quality_row(found: Comparison, row: Row, letter: Mapping[str, str]) -> list[str]:
    lengths = distinct(cell.get("context_length") for cell in row.cells)
    protocols = distinct(cell.get("protocol") or "not stated" for cell in row.cells)
    shown = [f"{brief(text)} ({letter[text]})" for text in protocols]
    second = "bits_per_byte" if found.unit == "bits_per_char" else "bits_per_char"
    other = [cell["other"] for cell in row.cells if cell.get("other")]
    names = distinct(brief(one.get("protocol") or "") for one in other)
    elsewhere = row.mean("other", found.unit)
    return [
        row.rank,
        f"{row.label} ({row.mark})" if row.mark else row.label,
        ", ".join(f"{n} tokens" if n else "not stated" for n in lengths),
        "; ".join(shown),
        str(len(row.cells)),
        with_interval(row.figure),
        decimals(row.mean("best", "nll")),
        decimals(row.mean("best", "perplexity"), 2),
        decimals(row.mean("best", second)),
        percent(row.mean("best", "accuracy")),
        decimals(row.mean("test", found.unit)),
        f"{decimals(elsewhere)}, {', '.join(names)}" if other else NONE,
    ]


def _floor_row(found: Comparison, name: str, figures: Mapping[str, Any]) -> list[str]:
    second = "bits_per_byte" if found.unit == "bits_per_char" else "bits_per_char"
    kind = "compressor" if pick(figures, "nll") is None else "floor"
    return [
        "",
        f"{kind}: {name}",
        "",
        "",
        "",
        decimals(pick(figures, found.unit)),
        decimals(pick(figures, "nll")),
        decimals(pick(figures, "perplexity"), 2),
        decimals(pick(figures, second)),
        percent(pick(figures, "accuracy")),
        NONE,
        NONE,
    ]


Figure = Callable[[Row], str]


def cost(found: Comparison) -> Table:
    """What each row took: size, speed, work, memory, time."""
    floor = found.counted_floor()
    columns: dict[str, Figure] = {
        "parameters": lambda row: count(row.mean("parameters")),
        "without embeddings": lambda row: count(
            row.mean("parameters_without_embeddings")
        ),
        "tokens/s": lambda row: count(row.mean("tokens_per_second") or None),
        "steps": lambda row: count(row.mean("steps")),
        "tokens": lambda row: short(row.mean("tokens")),
        "training s": lambda row: seconds(row.mean("seconds")),
        "training FLOPs": lambda row: short(row.mean("training_flops")),
        "peak memory": lambda row: size(row.mean("peak_memory")),
        "state": lambda row: size(row.mean("state_bytes")),
    }
    if floor:
        columns[f"s to {floor[0]} floor"] = lambda row: times(row, floor[1])
    rows = [
        [row.label, *(column(row) for column in columns.values())]
        for row in [*found.rows, *found.exhibits]
    ]
    return Table(["model", *columns], rows)


def times(row: Row, target: float) -> str:
    """Mean seconds to a target; how many seeds reached it where not all did."""
    reached = row.seconds_to(target)
    if not reached:
        return NONE
    part = "" if len(reached) == len(row.cells) else f" ({len(reached)}/{len(row.cells)})"
    return f"{seconds(sum(reached) / len(reached))}{part}"


def races(found: Comparison) -> Table | None:
    """Seconds of each trained row to the best of every other."""
    rows = [row for row in found.rows if row.mean("seconds") is not None]
    if len(rows) < 2 or len(found.corpora) > 1:
        return None
    heads = [
        "seconds to the best of",
        *(f"{row.label} {decimals(row.figure.mean)}" for row in rows),
    ]
    lines = [
        [one.label]
        + ["" if one is other else times(one, other.figure.mean) for other in rows]
        for one in rows
    ]
    return Table(heads, lines)


def pairwise(found: Comparison) -> Table | None:
    """Every pair: difference, interval, probability, verdict."""
    if not found.pairs:
        return None
    order = {row.label: i for i, row in enumerate(found.rows)}
    rows = []
    for pair in sorted(found.pairs, key=lambda p: (order[p.one], order[p.other])):
        verdict = f"{pair.verdict} ({pair.note})" if pair.note else pair.verdict
        rows.append(
            [
                pair.one,
                pair.other,
                verdict,
                signed(pair.difference),
                between(pair.interval),
                p_value(pair.p).removeprefix("= ") if pair.interval else NONE,
                p_value(pair.adjusted).removeprefix("= ") if pair.interval else NONE,
                str(pair.seeds),
            ]
        )
    heads = ["model", "against", "verdict", "difference, bits", "95 % interval", "p"]
    return Table([*heads, "p, Holm", "seeds"], rows, left=3)


# ---- grids, sweeps, what is missing --------------------------------------------------


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
    lines, lowest = [], min(row.figure.mean for row in rows)
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
            if len(same) == 1 and same[0].figure.mean == lowest:
                kinds[i] = "best"
        lines.append(line)
    heads = [f"{_last(across)} {other}" for other in columns] if across else []
    heads = heads or [found.unit_words]
    more = [_last(key) for key in axes if key not in (down, across)]
    caption = f"{rows[0].model}: {found.unit_words}" + (
        f", mean over {', '.join(more)}" if more else ""
    )
    return Table([_last(down), *heads], lines, caption, 1, kinds)


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
        tables.append(Table(heads, rows, caption, 0, kinds))
    return tables


def unfinished(found: Comparison) -> Table | None:
    """Cells without a result, each with its reason."""
    rows = [
        [cell["name"], str(cell.get("status") or ""), _reason(found, cell)]
        for cell in found.cells
        if cell.get("status") != "done" or pick(cell, "best", found.unit) is None
    ]
    return Table(["run", "status", "reason"], rows, left=3) if rows else None


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
    return Table(["", ""], rows, left=2)


def _machine(machine: Mapping[str, Any]) -> str:
    cores = machine.get("cores")
    told = [str(machine.get("cpu") or "not known")]
    told += [f"{cores} cores"] if cores else []
    return ", ".join([*told, f"{size(pick(machine, 'memory'))} memory"])
