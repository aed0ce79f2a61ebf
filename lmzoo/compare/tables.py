"""The tables of a report, as words: what HTML, Markdown and the terminal all show."""

from collections.abc import Callable, Mapping
from string import ascii_lowercase
from typing import Any

from lmzoo.compare.reading import Comparison, Row, context, distinct, pick
from lmzoo.compare.statistics import TIE
from lmzoo.report.table import Table
from lmzoo.report.words import (
    NONE,
    between,
    count,
    decimals,
    p_value,
    percent,
    seconds,
    short,
    signed,
    size,
    with_interval,
)

METRICS = ("nll", "perplexity", "bits_per_char", "bits_per_byte", "accuracy")


# ---- quality and cost ----------------------------------------------------------------


def letters(found: Comparison) -> dict[str, str]:
    """Protocol -> the letter that stands for it in the table."""
    return {text: ascii_lowercase[i % 26] for i, text in enumerate(found.protocols())}


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


def others(found: Comparison) -> list[str]:
    """In two words, the protocols of the second figures."""
    told = [cell["other"] for cell in found.cells if cell.get("other")]
    return distinct(brief(one.get("protocol") or "not stated") for one in told)


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
    heads = ["rank", "model", unit, "context", "seeds", "nats/token", "perplexity"]
    heads += [other, "accuracy", "test " + unit]
    elsewhere = others(found)
    if elsewhere:
        heads.append(f"{unit}, {elsewhere[0] if len(elsewhere) == 1 else 'otherwise'}")
    rows = [cells[: len(heads)] for _, cells, _ in lines]
    kinds = {i: kind for i, (_, _, kind) in enumerate(lines) if kind}
    return Table(heads, rows, "", (0, 1, 3), kinds)


def _quality_row(found: Comparison, row: Row, letter: Mapping[str, str]) -> list[str]:
    ways = distinct(
        (context(cell), cell.get("protocol") or "not stated") for cell in row.cells
    )
    shown = [_seen(length, text, letter[text]) for length, text in ways]
    second = "bits_per_byte" if found.unit == "bits_per_char" else "bits_per_char"
    asked = len(row.cells) + len(row.missing)
    elsewhere = decimals(row.mean("other", found.unit))
    if len(others(found)) > 1 and elsewhere != NONE:
        own = [cell["other"] for cell in row.cells if cell.get("other")]
        elsewhere += f", {brief(own[0].get('protocol') or '')}"
    return [
        row.rank,
        f"{row.label} ({row.mark})" if row.mark else row.label,
        with_interval(row.figure),
        "; ".join(shown),
        f"{len(row.cells)} of {asked}" if row.missing else str(asked),
        decimals(row.mean("best", "nll")),
        decimals(row.mean("best", "perplexity"), 2),
        decimals(row.mean("best", second)),
        percent(row.mean("best", "accuracy")),
        decimals(row.mean("test", found.unit)),
        elsewhere,
    ]


def _seen(length: str, protocol: str, letter: str) -> str:
    """``64, fresh windows (a)``."""
    words = brief(protocol)
    number = "" if length == words else f"{length.removesuffix(' tokens')}, "
    return f"{number}{words} ({letter})"


def _floor_row(found: Comparison, name: str, figures: Mapping[str, Any]) -> list[str]:
    second = "bits_per_byte" if found.unit == "bits_per_char" else "bits_per_char"
    kind = "compressor" if pick(figures, "nll") is None else "floor"
    return [
        "",
        f"{kind}: {name}",
        decimals(pick(figures, found.unit)),
        "",
        "",
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
        "steps": lambda row: NONE if counted(row) else count(row.mean("steps")),
        "tokens": lambda row: NONE if counted(row) else short(row.mean("tokens")),
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


def counted(row: Row) -> bool:
    """Its one pass over the text is no training step."""
    return row.mark == "counting"


def times(row: Row, target: float) -> str:
    """Mean seconds to a target; how many seeds reached it where not all did."""
    reached = row.seconds_to(target)
    if not reached:
        return NONE
    part = (
        "" if len(reached) == len(row.cells) else f" ({len(reached)}/{len(row.cells)})"
    )
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
    kinds = {i: "floor" for i, row in enumerate(rows) if row[2].startswith(TIE)}
    return Table([*heads, "p, Holm", "seeds"], rows, "", (0, 1, 2), kinds)
