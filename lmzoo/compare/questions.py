"""Three questions that a comparison answers on the way, each by a measured table.

Which cut of the text is best; which figure to rank by; when to stop.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmzoo.compare.reading import Cell, Comparison, Row, distinct, level, pick
from lmzoo.compare.tables import unknown
from lmzoo.report.table import Table
from lmzoo.report.words import (
    NONE,
    count,
    decimals,
    percent,
    seconds,
    signed,
    with_interval,
)

PATIENCE, SHARE, AMOUNT = 5, 0.05, 0.05  # checks, of the reference, nats per token
FIXED = 1_000  # steps
EXAMPLES = 5
MOST = 1_500  # checkpoints whose pairs are counted


# ---- word, character or subword ------------------------------------------------------


def tokenizers(found: Comparison) -> Table | None:
    """Every model under every tokenizer, in bits per byte."""
    if len(found.tokenizers) < 2:
        return None
    rows, kinds = [], {}
    ordered = sorted(
        found.rows, key=lambda row: (row.model, row in found.lossy, row.figure.mean)
    )
    for row in ordered:
        if row is next(r for r in ordered if r.model == row.model):
            kinds[len(rows)] = "best"
        rows.append(
            [
                row.model,
                row.tokenizer,
                unknown(row.unknown),
                with_interval(row.figure),
                row.rank or NONE,
                decimals(row.mean("best", "nll")),
                decimals(row.mean("best", "perplexity"), 2),
                percent(row.mean("best", "accuracy")),
                count(row.mean("parameters")),
            ]
        )
    heads = ["model", "tokenizer", "unknown", "bits/byte", "rank", "nats/token"]
    return Table(
        [*heads, "perplexity", "accuracy", "parameters"], rows, "", (0, 1), kinds
    )


# ---- which figure misranks -----------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One checkpoint under three figures."""

    name: str
    tokenizer: str
    corpus: str
    bits: float
    accuracy: float
    perplexity: float


def checkpoints(found: Comparison) -> list[Point]:
    """Best, last and every check of the curve that knows its accuracy."""
    points = []
    for row in found.rows:
        for cell in [] if row in found.lossy else row.cells:
            every = [cell.get("best") or {}, cell.get("last") or {}]
            seen = {one.get("step") for one in every}
            every += [p for p in cell.get("curve") or [] if p.get("step") not in seen]
            for one in {one.get("step"): one for one in every}.values():
                point = _point(cell, one, found.unit)
                points += [point] if point else []
    return points


def _point(cell: Cell, one: Any, unit: str) -> Point | None:
    bits, accuracy = level(cell, one, unit), pick(one, "accuracy")
    perplexity = pick(one, "perplexity")
    if perplexity is None and (nll := pick(one, "nll")) is not None and nll < 700:
        perplexity = float(np.exp(nll))
    if bits is None or accuracy is None or perplexity is None:
        return None
    name = f"{cell['name']} at step {one.get('step')}"
    where = str(cell.get("tokenizer")), str(cell.get("corpus"))
    return Point(name, *where, bits, accuracy, perplexity)


def misranked(found: Comparison) -> list[Table]:
    """How often accuracy and perplexity put the worse model first, with examples."""
    points = checkpoints(found)
    if len(points) < 3:
        return []
    points = points[:: -(-len(points) // MOST)]
    bits, accuracy, perplexity = (
        np.asarray([getattr(p, name) for p in points])
        for name in ("bits", "accuracy", "perplexity")
    )
    one, other = np.triu_indices(len(points), 1)
    alike = {name: np.asarray([getattr(p, name) for p in points])
             for name in ("tokenizer", "corpus")}  # fmt: skip
    use = (alike["corpus"][one] == alike["corpus"][other]) & (bits[one] != bits[other])
    one, other = one[use], other[use]
    same = alike["tokenizer"][one] == alike["tokenizer"][other]
    gap = bits[one] - bits[other]
    wrong = {
        "accuracy": (accuracy[one] - accuracy[other]) * gap > 0,
        "perplexity": (perplexity[one] - perplexity[other]) * gap < 0,
    }
    groups = [same, ~same] if (~same).any() else [same]
    rows = [
        [name, *(_part(bad, group) for group in groups)] for name, bad in wrong.items()
    ]
    heads = ["figure", "pairs misranked, same tokenizer", "across tokenizers"]
    heads = heads[: 1 + len(groups)]
    caption = f"against {found.unit_words}, over {count(len(points))} checkpoints"
    tables = [Table(heads, rows, caption)]
    bad = np.flatnonzero(wrong["accuracy"])
    if len(bad):
        worst = bad[np.argsort(-np.abs(gap[bad]))[:EXAMPLES]]
        tables.append(_examples(found, points, one[worst], other[worst]))
    return tables


def _part(bad: Any, group: Any) -> str:
    total = int(group.sum())
    wrong = int((bad & group).sum())
    return (
        f"{count(wrong)} of {count(total)} ({percent(wrong / total)})"
        if total
        else NONE
    )


def _examples(found: Comparison, points: list[Point], one: Any, other: Any) -> Table:
    rows = []
    for i, j in zip(one.tolist(), other.tolist(), strict=True):
        better, worse = sorted((points[i], points[j]), key=lambda p: p.bits)
        rows.append(
            [
                better.name,
                worse.name,
                f"{decimals(better.bits)} / {decimals(worse.bits)}",
                f"{percent(better.accuracy)} / {percent(worse.accuracy)}",
                f"{decimals(better.perplexity, 2)} / {decimals(worse.perplexity, 2)}",
            ]
        )
    heads = ["better", "worse, and put first by accuracy", found.unit_words, "accuracy"]
    return Table([*heads, "perplexity"], rows, "the pairs furthest apart", (0, 1))


# ---- when to stop --------------------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """Where a rule would have ended one run."""

    step: float
    seconds: float
    nll: float
    wasted: float
    ended: bool


def replay(cell: Cell, rule: dict[str, Any] | None) -> Stop | None:
    """Walk a finished curve with a rule of early stopping; None: fixed ``FIXED`` steps.

    Returns:
        The check it stops at (the last one where it never does), the lowest loss until
        then, and the seconds trained after that lowest loss. None: the curve is too
        short, or has no check near the fixed number of steps.
    """
    # heavy: brings Lightning, which a report needs for nothing else
    from lmzoo.training.early_stopping import EarlyStopping

    points = [
        (int(p["step"]), pick(p, "seconds") or 0.0, nll)
        for p in cell.get("curve") or []
        if (nll := pick(p, "nll")) is not None
    ]
    if len(points) < 2 or (rule is None and points[-1][0] < FIXED):
        return None
    stopper = None if rule is None else EarlyStopping(patience=PATIENCE, **rule)
    end, ended = len(points) - 1, False
    for i, (step, _, nll) in enumerate(points):
        if stopper.check(nll, step) if stopper else step >= FIXED:
            end, ended = i, True
            break
    done = points[: end + 1]
    step, clock, _ = done[-1]
    _, at, lowest = min(done, key=lambda point: point[2])
    return Stop(step, clock, lowest, clock - at, ended)


RULES: dict[str, dict[str, Any] | None] = {
    f"fixed {FIXED:,} steps": None,
    f"absolute, {AMOUNT} nats": {"min_delta": AMOUNT},
    f"relative, {SHARE:.0%}".replace("%", " %"): {"min_relative_improvement": SHARE},
    "any new minimum": {},
}


def stopping(found: Comparison) -> Table | None:
    """Each rule replayed over every curve, mean over seeds."""
    rows = []
    for row in found.rows:
        for name, rule in RULES.items():
            rows += [line] if (line := _stopped(row, name, rule)) else []
    if not any(row[2][0].isdigit() for row in rows):  # nothing would have stopped
        return None
    heads = ["model", "rule", "stopped at step", "after s", "best nats/token"]
    return Table([*heads, "lost to the whole run", "s without gain"], rows, "", (0, 1))


def _stopped(row: Row, name: str, rule: dict[str, Any] | None) -> list[str] | None:
    pairs = [(cell, stop) for cell in row.cells if (stop := replay(cell, rule))]
    if not pairs:
        return None
    stops = [stop for _, stop in pairs]
    whole = [
        min(nll for p in cell["curve"] if (nll := pick(p, "nll")) is not None)
        for cell, _ in pairs
    ]
    lost = [stop.nll - low for stop, low in zip(stops, whole, strict=True)]
    ended = sum(stop.ended for stop in stops)
    step = count(_mean([stop.step for stop in stops]))
    if ended < len(stops):
        step = f"not within {step}" if not ended else f"{step} ({ended}/{len(stops)})"
    return [
        row.label,
        name,
        step,
        seconds(_mean([stop.seconds for stop in stops])),
        decimals(_mean([stop.nll for stop in stops])),
        signed(_mean(lost)),
        seconds(_mean([stop.wasted for stop in stops])),
    ]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def protocols_of_stopping(found: Comparison) -> list[str]:
    """What the table of stopping rules rests on."""
    steps = distinct(
        int(b["step"]) - int(a["step"])
        for row in found.rows
        for cell in row.cells
        for a, b in list(zip(cell.get("curve") or [], (cell.get("curve") or [])[1:],
                             strict=False))[:1]
    )  # fmt: skip
    every = f"{min(steps):,} to {max(steps):,}" if len(steps) > 1 else f"{steps[0]:,}"
    return [
        "The rules were replayed over the finished curves, with a patience of "
        f"{PATIENCE} checks, one every {every} steps. The learning rate followed "
        "the schedule of the whole run; a run planned to stop earlier would have "
        "cooled down earlier."
    ]
