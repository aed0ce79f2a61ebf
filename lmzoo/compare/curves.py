"""Lines of a report: loss against what was spent, by position; time by length."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lmzoo.compare.reading import Comparison, Row, level, pick, styles
from lmzoo.report.charts import FLOOR, HEIGHT, WIDTH, Chart, Curve, colour
from lmzoo.report.places import SIZE
from lmzoo.report.svg import text_width

POINTS = 80  # of a mean curve over seeds
MOST = 14  # lines in a figure: the best ones
AXES = {
    "steps": ("step", "optimizer steps"),
    "tokens": ("tokens", "tokens trained on"),
    "seconds": ("seconds", "training time, s"),
    "flops": ("flops", "training FLOPs"),
}


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
    title = f"Loss against {'FLOPs' if against == 'flops' else against}"
    marks = {k: v for k, v in found.floors().items() if best < v < top}
    return _lines(curves, title, x_label, found.unit_words, (best, top), marks)


def mean_curve(row: Row, key: str, style: int) -> Curve | None:
    """Mean over seeds, lowest and highest; None where a seed has no two checks.

    Seeds are averaged at equal shares of their own runs, so that the line ends at the
    mean of their ends, also where they took different times.
    """
    seeds = []
    for cell in row.cells:
        points = [
            (pick(point, key), level(cell, point, row.unit))
            for point in cell.get("curve") or []
        ]
        points = [(x, y) for x, y in points if x and y is not None]
        if len(points) > 1:
            seeds.append(np.asarray(sorted(points), dtype=np.float64))
    if not seeds or len(seeds) < len(row.cells):
        return None
    if len(seeds) == 1:
        places = seeds[0][None, :, 0]
    else:
        places = np.stack([np.geomspace(s[0, 0], s[-1, 0], POINTS) for s in seeds])
    xs = places.mean(0)
    table = np.stack(
        [np.interp(at, s[:, 0], s[:, 1]) for at, s in zip(places, seeds, strict=True)]
    )
    band = (
        (table.min(0).tolist(), table.max(0).tolist()) if len(seeds) > 1 else ([], [])
    )
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
    """Bits per token at each position of a fresh window, as far as any was trained."""
    look, curves = styles(found), []
    known = [
        (row, [c["position_nll"] for c in row.cells if c.get("position_nll")])
        for row in found.rows
    ]
    trained = [
        len(seed)
        for row, seeds in known
        for seed in seeds
        if row.cells[0].get("mark") != "counting"  # it has as long a window as you like
    ]
    for row, seeds in known:
        length = min([*map(len, seeds), max(trained, default=0)], default=0)
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
