"""The figures of a report, each an SVG made from the rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lmzoo.analysis.svg import SOFT, text_width
from lmzoo.compare.charts import SIZE, TOP, Boxes, Chart, Curve, colour
from lmzoo.compare.reading import Comparison, Row, level, pick

WIDTH, HEIGHT = 660.0, 430.0
POINTS = 80  # of a mean curve over seeds
MOST = 14  # lines in a figure: the best ones
FLOOR = "#7b8794"
AXES = {
    "steps": ("step", "optimizer steps"),
    "tokens": ("tokens", "tokens trained on"),
    "seconds": ("seconds", "training time, s"),
    "flops": ("flops", "training FLOPs"),
}


def styles(found: Comparison) -> dict[str, int]:
    """Label -> the style it has in every figure."""
    rows = sorted([*found.rows, *found.exhibits], key=lambda row: row.label)
    return {row.label: i for i, row in enumerate(rows)}


# ---- quality at a glance -------------------------------------------------------------


def intervals(found: Comparison) -> str:
    """One line a label: each seed, the mean, its interval; floors as uprights."""
    rows, look = found.rows, styles(found)
    wide = max(text_width(row.label, SIZE) for row in rows) + 78
    chart = Chart(WIDTH * 1.4, TOP + 58 + 30 * len(rows) + 24, 0)
    chart.left, chart.right = wide, chart.width - 30
    ends = [e for row in rows for e in (row.figure.interval or row.figure.values)]
    ends += [value for row in rows for value in row.figure.values]
    pad = 0.06 * (max(ends) - min(ends)) or 0.05
    low, high = min(ends) - pad, max(ends) + pad
    near = {k: v for k, v in found.floors().items() if low - 3 * pad < v < high + 3 * pad}
    low, high = min([low, *near.values()]), max([high, *near.values()])
    chart.scales((low, high), (0, 1))
    chart.text(4, 20, f"{_capital(found.unit_words)}: lower is better", 17, bold=True,
               anchor="start")  # fmt: skip
    chart.x_axis()
    chart.text((chart.left + chart.right) / 2, chart.height - 10,
               f"{found.unit_words}, validation part", SIZE - 1, SOFT)  # fmt: skip
    _uprights(chart, near)
    for i, row in enumerate(rows):
        y = chart.top + 22 + 30 * i
        hue = colour(look[row.label])
        chart.text(6, y + 5, row.rank, SIZE, SOFT, anchor="start")
        chart.text(chart.left - 14, y + 5, row.label, SIZE, anchor="end")
        if row.figure.interval:
            a, b = (chart.x(end) for end in row.figure.interval)
            chart.rule(a, y, b, y, hue, width=5)
        for value in row.figure.values:
            chart.dot(chart.x(value), y, "#ffffff", 4, hue)
        chart.dot(chart.x(row.figure.mean), y, hue, 5.5, "#ffffff")
    return chart.finish(f"{found.unit_words} of each model with its interval")


def _uprights(chart: Chart, floors: Mapping[str, float]) -> None:
    """Floors as dashed lines, their names above in as many lines as they need."""
    ends: list[float] = []
    for name, value in sorted(floors.items(), key=lambda one: one[1]):
        x, half = chart.x(value), text_width(name, SIZE - 2) / 2
        centre = min(max(x, chart.left + half), chart.width - half - 2)
        line = next((i for i, end in enumerate(ends) if end < centre - half - 6), None)
        if line is None:
            line = len(ends)
            ends.append(0.0)
        ends[line] = centre + half
        chart.rule(x, chart.top + 2, x, chart.bottom, FLOOR, "4 4")
        chart.text(centre, chart.top - 4 - 15 * line, name, SIZE - 2, SOFT)


# ---- loss against what was spent -----------------------------------------------------


def loss(found: Comparison, against: str) -> str | None:
    """Bits per unit over steps, tokens, seconds or FLOPs; None without such figures."""
    key, x_label = AXES[against]
    look, curves = styles(found), []
    for row in found.rows:
        curve = mean_curve(row, key, look[row.label])
        if curve is not None:
            curves.append(curve)
    if not curves:
        return None
    best = min(min(c.y) for c in curves)
    worst_end = max(c.y[-1] for c in curves)
    top = min(max(max(c.y) for c in curves), best + max(0.6, 2.2 * (worst_end - best)))
    title = f"Loss against {against if against != 'flops' else 'FLOPs'}"
    marks = {k: v for k, v in found.floors().items() if best < v < top}
    return _lines(curves, title, x_label, found.unit_words, (best, top), marks)


def mean_curve(row: Row, key: str, style: int) -> Curve | None:
    """Mean over seeds, lowest and highest, on the range that all seeds share."""
    seeds = []
    for cell in row.cells:
        points = [
            (pick(point, key), level(cell, point, row.unit))
            for point in cell.get("curve") or []
        ]
        points = [(x, y) for x, y in points if x and y is not None]
        if len(points) > 1:
            seeds.append(np.asarray(sorted(points), dtype=np.float64))
    if not seeds:
        return None
    low, high = max(s[0, 0] for s in seeds), min(s[-1, 0] for s in seeds)
    if low >= high:
        return None
    xs = np.exp(np.linspace(math.log(low), math.log(high), POINTS))
    xs[0], xs[-1] = low, high
    if len(seeds) == 1:
        xs = seeds[0][:, 0]
    table = np.stack([np.interp(xs, s[:, 0], s[:, 1]) for s in seeds])
    band = (table.min(0).tolist(), table.max(0).tolist()) if len(seeds) > 1 else ([], [])
    return Curve(row.label, xs.tolist(), table.mean(0).tolist(), *band, style)


def _lines(
    curves: Sequence[Curve],
    title: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float],
    marks: Mapping[str, float],
    log_y: bool = False,
    ticks: tuple[float, ...] = (),
) -> str:
    curves = sorted(curves, key=lambda c: c.y[-1])[:MOST]
    names = [*(c.label for c in curves), *marks]
    chart = Chart(WIDTH, HEIGHT, max(text_width(n, SIZE) for n in names) + 30)
    low, high = y_range
    if not log_y:
        low -= 0.04 * (high - low)
    xs = [x for c in curves for x in c.x]
    starts = [_first(c, high) for c in curves]
    chart.scales((min(starts), max(xs)), (low, high), True, log_y, ticks)
    chart.axes(title, x_label, y_label)
    ends = []
    for curve in curves:
        x, y = chart.draw(curve, high)
        ends.append((curve.label, x, y, colour(curve.style)))
    for name, value in marks.items():
        y = chart.y(value)
        chart.rule(chart.left, y, chart.right, y, FLOOR, "4 4")
        ends.append((name, chart.right, y, FLOOR))
    chart.end_labels(ends)
    return chart.finish(title)


def _first(curve: Curve, top: float) -> float:
    """Where a line enters the picture."""
    from_top = [x for x, y in zip(curve.x, curve.y, strict=True) if y <= top]
    before = [x for x in curve.x if from_top and x < from_top[0]]
    return before[-1] if before else curve.x[0]


# ---- who uses context, and what length costs -----------------------------------------


def positions(found: Comparison) -> str | None:
    """Bits per token at each position of a fresh window."""
    look, curves = styles(found), []
    for row in found.rows:
        seeds = [c["position_nll"] for c in row.cells if c.get("position_nll")]
        length = min(map(len, seeds), default=0)
        if length > 1:
            table = np.asarray([s[:length] for s in seeds], dtype=np.float64)
            y = (table.mean(0) / math.log(2)).tolist()
            curves.append(
                Curve(row.label, list(range(1, length + 1)), y, style=look[row.label])
            )
    if not curves:
        return None
    low, top = min(min(c.y) for c in curves), max(max(c.y) for c in curves)
    x_label = "position in a fresh window, tokens seen"
    title = "Who uses context: loss by position"
    marks = _doubled(curves)
    return _lines(curves, title, x_label, "bits per token", (low, top), {}, ticks=marks)


def timing(found: Comparison, which: str) -> str | None:
    """Time of ``forward`` or ``backward`` (the whole step) against length."""
    measured: Mapping[str, Any] = found.results.get("timing") or {}
    look, curves = styles(found), []
    for label, one in measured.items():
        points = [
            (float(x), 1000 * float(y))
            for x, y in zip(one["lengths"], one.get(which) or [], strict=False)
            if y
        ]
        if len(points) > 1:
            xs, ys = (list(side) for side in zip(*points, strict=True))
            style = look.get(label, len(look) + len(curves))
            curves.append(Curve(label, xs, ys, style=style))
    if not curves:
        return None
    low, top = min(min(c.y) for c in curves), max(max(c.y) for c in curves)
    title = "Forward" if which == "forward" else "Forward and backward"
    title += " time against length"
    x_label = "sequence length, tokens"
    span, marks = (low / 1.15, top * 1.15), _doubled(curves)
    return _lines(curves, title, x_label, "milliseconds", span, {}, True, marks)


def _doubled(curves: Sequence[Curve]) -> tuple[float, ...]:
    """From the first x by doubling to the last."""
    first = min(c.x[0] for c in curves)
    times = max(c.x[-1] for c in curves) / first
    return tuple(first * 2**k for k in range(int(math.log2(times) + 1e-9) + 1))


# ---- quality against cost ------------------------------------------------------------


def scatter(found: Comparison, against: str) -> str | None:
    """Quality against a cost of ``COSTS``; an upright is the range of the seeds."""
    title, x_label, value = COSTS[against]
    points = [(row, x) for row in found.rows if (x := value(row))]
    if len(points) < 2:
        return None
    chart, look, taken = Chart(WIDTH, HEIGHT, 10), styles(found), Boxes()
    xs = [x for _, x in points]
    ys = [y for row, _ in points for y in row.figure.values]
    log = max(xs) > 4 * min(xs)
    pad = 0.12 * (max(ys) - min(ys)) or 0.05
    wide = 1.3 if log else 1.0
    margin = 0 if log else 0.15 * (max(xs) - min(xs)) or 0.1 * max(xs)
    x_range = (min(xs) / wide - margin, max(xs) * wide + margin)
    chart.scales(x_range, (min(ys) - pad, max(ys) + pad), log_x=log)
    chart.axes(title, x_label, found.unit_words)
    spots = [(chart.x(x), chart.y(row.figure.mean)) for row, x in points]
    taken.taken += [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    inside = (chart.left, chart.top, chart.right + 10, chart.bottom)
    for (row, _), (x, y) in zip(points, spots, strict=True):
        hue = colour(look[row.label])
        low, high = min(row.figure.values), max(row.figure.values)
        chart.rule(x, chart.y(low), x, chart.y(high), hue, width=3)
        chart.dot(x, y, hue, 6, "#ffffff")
        chart.text(*taken.place(x, y, row.label, inside), row.label, SIZE, anchor="start")
    return chart.finish(title)


def quality_against_time(found: Comparison) -> str | None:
    """Against seconds to the best check; where all have the same, against speed."""
    spent = [s for r in found.rows if r.mark != "counting" and (s := seconds_to_best(r))]
    same = bool(spent) and max(spent) < 1.3 * min(spent)
    return scatter(found, "speed" if same else "seconds")


def seconds_to_best(row: Row) -> float | None:
    """Mean training seconds of the check with the best weights."""
    found = []
    for cell in row.cells:
        steps = {p.get("step"): pick(p, "seconds") for p in cell.get("curve") or []}
        best = steps.get((cell.get("best") or {}).get("step"))
        found.append(best or pick(cell, "seconds"))
    whole = [value for value in found if value]
    return sum(whole) / len(whole) if whole else None


COSTS: Mapping[str, tuple[str, str, Callable[[Row], float | None]]] = {
    "parameters": (
        "Quality against size",
        "parameters",
        lambda row: row.mean("parameters"),
    ),
    "seconds": (
        "Quality against time",
        "training time until the best check, s",
        seconds_to_best,
    ),
    "speed": (
        "Quality against speed",
        "training speed, tokens a second",
        lambda row: row.mean("tokens_per_second"),
    ),
}


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
