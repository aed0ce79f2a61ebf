"""Lines over one axis, each named at its end: how something goes with the steps."""

import math
from collections.abc import Mapping, Sequence

from lmzoo.report.charts import FLOOR, HEIGHT, WIDTH, Chart, Curve, colour
from lmzoo.report.places import SIZE
from lmzoo.report.svg import text_width


def lines(
    curves: Sequence[Curve],
    title: str,
    x_label: str,
    y_label: str,
    y: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
    dots: bool = True,
) -> str:
    """A chart of a few lines.

    Args:
        curves: one or more; ``style`` decides the colour.
        title: over the chart.
        x_label: under the axis.
        y_label: over the axis.
        y: what the axis spans; by default the data, with a little room.
        marks: name -> height of a dashed rule, for what the lines are held against.
        dots: mark each point, so that few points are not read as a smooth course.

    Raises:
        ValueError: no curve with a point.
    """
    curves = [_known(curve) for curve in curves]
    curves = [curve for curve in curves if curve.x]
    if not curves:
        raise ValueError("no curve has a point to draw")
    marks = {k: v for k, v in (marks or {}).items() if math.isfinite(v)}
    names = [*(curve.label for curve in curves), *marks]
    chart = Chart(WIDTH, HEIGHT, max(text_width(n, SIZE) for n in names) + 30)
    xs = [x for curve in curves for x in curve.x]
    chart.scales((min(xs), max(xs)), y or _room(curves, marks))
    chart.axes(title, x_label, y_label)
    ends = []
    for curve in curves:
        end = chart.draw(curve, chart.y.high)
        ends.append((curve.label, *end, colour(curve.style)))
        if dots:
            for a, b in zip(curve.x, curve.y, strict=True):
                if b <= chart.y.high:
                    chart.dot(chart.x(a), chart.y(b), colour(curve.style), 3, "#ffffff")
    for name, height in marks.items():
        place = chart.y(height)
        chart.rule(chart.left, place, chart.right, place, FLOOR, "4 4")
        ends.append((name, chart.right, place, FLOOR))
    chart.end_labels(ends)
    return chart.finish(title)


def _known(curve: Curve) -> Curve:
    """The points that are numbers; a band only where it is known everywhere."""
    keep = [i for i, value in enumerate(curve.y) if math.isfinite(value)]
    band = all(math.isfinite(v) for edge in (curve.low, curve.high) for v in edge)
    low, high = (
        [edge[i] for i in keep] if edge and band else []
        for edge in (curve.low, curve.high)
    )
    x, y = [curve.x[i] for i in keep], [curve.y[i] for i in keep]
    return Curve(curve.label, x, y, low, high, curve.style)


def _room(curves: Sequence[Curve], marks: Mapping[str, float]) -> tuple[float, float]:
    """All that is drawn, and a twentieth more; never below zero where nothing is."""
    found = [v for c in curves for edge in (c.y, c.low, c.high) for v in edge]
    found += marks.values()
    low, high = min(found), max(found)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return (max(0.0, low - pad) if low >= 0 else low - pad), high + pad
