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
    some,
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
        if row in found.lossy:
            continue
        kind = "best" if row is found.best else ""
        order = (found.corpora.index(row.corpus), row.figure.mean)
        lines.append((order, _quality_row(found, row, letter), kind))
    for i, corpus in enumerate(found.corpora):
        where = f", {corpus}" if len(found.corpora) > 1 else ""
        for name, figures in found.floor_rows(corpus).items():
            value = pick(figures, found.unit)
            if value is not None:
                row = _floor_row(found, f"{name}{where}", figures)
                lines.append(((i, value), row, "floor"))
    lines.sort(key=lambda line: line[0])
    lines += [((), _quality_row(found, row, letter), "") for row in found.lossy]
    for row in found.shown:
        lines.append(((), _quality_row(found, row, letter), "mark"))
    unit = "bits/char" if found.unit == "bits_per_char" else "bits/byte"
    other = "bits/byte" if found.unit == "bits_per_char" else "bits/char"
    heads = ["rank", "model", unit, "context", "seeds", "nats/token", "perplexity"]
    heads += [other, "accuracy", "test " + unit, "unknown"]
    elsewhere = others(found)
    if elsewhere:
        heads.append(f"{unit}, {elsewhere[0] if len(elsewhere) == 1 else 'otherwise'}")
    rows = [cells[: len(heads)] for _, cells, _ in lines]
    tested = heads.index("test " + unit)
    if all(row[tested] == NONE for row in rows):
        heads.pop(tested)
        rows = [[*row[:tested], *row[tested + 1 :]] for row in rows]
    kinds = {i: kind for i, (_, _, kind) in enumerate(lines) if kind}
    return Table(heads, rows, "", (0, 1, 3), kinds)


def _quality_row(found: Comparison, row: Row, letter: Mapping[str, str]) -> list[str]:
    ways = distinct(
        (context(cell), cell.get("protocol") or "not stated") for cell in row.cells
    )
    shown = [_seen(length, text, letter[text]) for length, text in ways]
    second = "bits_per_byte" if found.unit == "bits_per_char" else "bits_per_char"
    elsewhere = decimals(row.mean("other", found.unit))
    if len(others(found)) > 1 and elsewhere != NONE:
        own = [cell["other"] for cell in row.cells if cell.get("other")]
        elsewhere += f", {brief(own[0].get('protocol') or '')}"
    return [
        row.rank,
        f"{row.label} ({row.remark})" if row.remark else row.label,
        with_interval(row.figure),
        "; ".join(shown),
        _seeds(row),
        decimals(row.mean("best", "nll")),
        decimals(row.mean("best", "perplexity"), 2),
        decimals(row.mean("best", second)),
        percent(row.mean("best", "accuracy")),
        decimals(row.mean("test", found.unit)),
        unknown(row.unknown),
        elsewhere,
    ]


def _seeds(row: Row) -> str:
    """``3``; ``2 of 3`` where one is missing; a count has none."""
    if counted(row):
        return "deterministic"
    asked = len(row.cells) + len(row.missing)
    return f"{len(row.cells)} of {asked}" if row.missing else f"{asked}"


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
        NONE,
    ]


def unknown(share: float) -> str:
    """Share of unknown tokens: ``0``, ``8.1 %``, ``< 0.1 %``."""
    if not share:
        return "0"
    return percent(share) if share >= 0.0005 else "< 0.1 %"


Figure = Callable[[Row], str]


def cost(found: Comparison) -> Table:
    """What each row took: size, speed, work, memory, time."""
    floors = {corpus: found.counted_floor(corpus) for corpus in found.corpora}
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
        "MFU": lambda row: percent(row.mean("mfu")),
        "peak memory": lambda row: size(row.mean("peak_memory")),
        "state": lambda row: size(row.mean("state_bytes")),
    }
    if any("deviation" in cell for cell in found.cells):
        columns["off budget"] = deviations
    if names := distinct(floor[0] for floor in floors.values() if floor):
        name = names[0] if len(names) == 1 else "the text's lowest"
        columns[f"s to {name} floor"] = lambda row: (
            times(row, floor[1])
            if (floor := floors[row.corpus]) and row not in found.lossy
            else NONE
        )
    rows = [
        [row.label, *(column(row) for column in columns.values())]
        for row in [*found.rows, *found.exhibits]
    ]
    return Table(["model", *columns], rows)


def deviations(row: Row) -> str:
    """By what share its runs missed a budget of seconds: the least and the most."""
    shares = [100 * share for share in row.values("deviation")]
    told = [f"{signed(share, 1)} %" for share in (min(shares), max(shares))] \
        if shares else [NONE]  # fmt: skip
    return " to ".join(dict.fromkeys(told))


def without_flops(found: Comparison) -> list[str]:
    """Why rows have no FLOPs, in a sentence for each reason."""
    rows = [*found.rows, *found.exhibits]
    none = [row for row in rows if row.mean("training_flops") is None]
    reasons = {
        "counted in one pass, no step is trained": [r for r in none if counted(r)],
        "the model does not say what a token costs (flops_per_token)": [
            row for row in none if not counted(row)
        ],
    }
    return [
        f"{NONE} under training FLOPs, {some([row.label for row in rows])}: {reason}."
        for reason, rows in reasons.items()
        if rows
    ]


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
    timed = [row for row in found.rows if row.mean("seconds") is not None]
    rows = [row for row in timed if row.coded == timed[0].coded]
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
