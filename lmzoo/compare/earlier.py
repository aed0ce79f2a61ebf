"""Who is ahead before the budget is spent: a quarter and a half of it, from the curves.

A run is planned for its whole budget (warm-up, falling learning rate), so a point on
its way is not what a run planned for that much would reach; the sentences say so.
"""

from collections.abc import Mapping
from typing import Any

from lmzoo.compare.reading import Cell, Comparison, Row, level, pick, spent
from lmzoo.report.spread import Spread, spread
from lmzoo.report.words import decimals, with_interval

SHARES = {"a quarter": 0.25, "half": 0.5}
KEYS = {"seconds": "seconds", "steps": "step", "tokens": "tokens", "flops": "flops"}
PLANNED = (
    "These are points on the way of runs that were planned for the whole budget: a run "
    "planned for less may be better there."
)


def sentences(found: Comparison, rows: list[Row], where: str = "") -> list[str]:
    """Who is ahead at each share of the budget, and whether the lead changed hands.

    Args:
        found: the comparison.
        rows: what is compared with one another, the best first.
        where: on which text, if there are several.
    """
    said, leaders = [], []
    for words, share in SHARES.items():
        limit = budget_at(found, share)
        every = standings(rows, limit) if limit else []
        ranked = [one for one in every if one[0].mark != "counting"]
        if limit and len(ranked) > 1:
            leaders.append((words, ranked[0][0].label))
            at = f"At {words} of the budget ({spent(limit)}){where}"
            counted = _behind(every, ranked[0])
            said.append(f"{at} {_ahead(ranked[0], ranked[1])}{counted}.")
    if not said:
        return []
    before = [f"{label} at {words}" for words, label in leaders]
    last = next(row.label for row in rows if row.mark != "counting")
    if {label for _, label in leaders} != {last}:
        end = f"{last} at the end"
        said.append(f"The lowest mean changes hands: {', '.join(before)}, {end}.")
    return [*said, PLANNED]


def budget_at(found: Comparison, share: float) -> dict[str, Any] | None:
    """A share of what each cell trains for; None for no such budget."""
    budget = found.results.get("budget") or {}
    value, kind = pick(budget, "value"), budget.get("kind")
    if value is None or kind not in KEYS:
        return None
    value *= share * (1 - (pick(found.results.get("tuned") or {}, "share") or 0))
    return {"kind": kind, "value": int(value) if kind in ("steps", "tokens") else value}


def standings(rows: list[Row], limit: Mapping[str, Any]) -> list[tuple[Row, Spread]]:
    """Rows with what their best weights up to ``limit`` reach, the lowest mean first.

    A row of which some seed had no check by then is left out.
    """
    found = []
    for row in rows:
        values = [best_within(cell, row.unit, limit) for cell in row.cells]
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            counted = row.mark == "counting"
            found.append((row, row.figure if counted else spread(known)))
    return sorted(found, key=lambda one: one[1].mean)


def best_within(cell: Cell, unit: str, limit: Mapping[str, Any]) -> float | None:
    """The lowest check of a cell up to ``limit``; of a count its figure, once made."""
    key, most = KEYS[limit["kind"]], limit["value"]
    if cell.get("mark") == "counting":
        late = key == "seconds" and (pick(cell, "seconds") or 0) > most
        return None if late else pick(cell, "best", unit)
    checks = [
        level(cell, point, unit)
        for point in cell.get("curve") or []
        if 0 < (pick(point, key) or 0) <= most
    ]
    return min((one for one in checks if one is not None), default=None)


def _behind(every: list[tuple[Row, Spread]], first: tuple[Row, Spread]) -> str:
    """A count that nothing trained has reached yet."""
    row, figure = every[0]
    if row.mark != "counting" or figure.mean >= first[1].mean:
        return ""
    return f", behind {row.label}, which counts ({decimals(figure.mean)})"


def _ahead(first: tuple[Row, Spread], second: tuple[Row, Spread]) -> str:
    (one, mine), (other, its) = first, second
    gap = decimals(its.mean - mine.mean)
    told = f"{one.label} has the lowest mean of what is trained, {with_interval(mine)}"
    told += f", {gap} bits below {other.label}"
    if mine.interval is None or its.interval is None:
        return f"{told} (one seed: not shown to lead)"
    apart = mine.interval[1] < its.interval[0]
    return told if apart else f"{told} (the intervals overlap: not shown to lead)"
