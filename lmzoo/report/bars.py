"""Bar charts as SVG: one group of bars for each category, in rows that can be read."""

import math
from collections.abc import Mapping, Sequence

from lmzoo.report.charts import FAINT, GRID, Chart, colour
from lmzoo.report.places import SIZE, ticks
from lmzoo.report.svg import INK, SOFT, text_width

WIDE = 1000.0
IN_ROW, FEWEST = 40, 20  # categories, of one series and of several
ROW, GAP = 190.0, 74.0  # height of the bars, and from one row's foot to the next
HEAD = 62.0
SMALLEST = 11.0  # letters that can be read in a row


def bars(
    categories: Sequence[str],
    series: Mapping[str, Sequence[float]],
    title: str,
    y_label: str,
    styles: Sequence[int] = (),
    *,
    counted: str = "ranks",
    one_scale: bool = False,
) -> str:
    """Categories from left to right, in rows of 40 at most, of 20 for several series.

    Each row has a scale of its own where the frequent would flatten the rare; where
    there are several the scale is said over the row.

    Args:
        categories: short names, in their order.
        series: name -> a height for each category, 0 or more.
        title: over the chart.
        y_label: what the heights are.
        styles: of the series, for their colours; by default 0, 1, ...
        counted: what the numbers of the categories are.
        one_scale: whether all rows keep to one scale.

    Raises:
        ValueError: nothing to draw, or a series of another length.
    """
    if not categories or not series:
        raise ValueError("a bar chart needs a category and a series")
    if wrong := [n for n, heights in series.items() if len(heights) != len(categories)]:
        raise ValueError(f"{wrong[0]}: expected {len(categories)} heights")
    in_row = max(FEWEST, 2 * IN_ROW // (1 + len(series)))
    rows = math.ceil(len(categories) / in_row)
    per_row = math.ceil(len(categories) / rows)
    hues = list(styles) or list(range(len(series)))
    legend = _legend(list(series), hues)
    top = HEAD + legend[1]
    chart = Chart(WIDE, top + rows * (ROW + GAP) - 16, 0)
    chart.text(4, 20, title, 17, anchor="start", bold=True)
    for x, y, name, hue in legend[0]:
        chart.under.append(_box(x, y - 11, 13, 13, colour(hue)))
        chart.text(x + 19, y, name, SIZE, INK, anchor="start")
    highest = max((max(values) for values in series.values()), default=0.0)
    for row in range(rows):
        part = slice(row * per_row, (row + 1) * per_row)
        chart.top = top + row * (ROW + GAP)
        chart.bottom = chart.top + ROW
        heights = [list(values[part]) for values in series.values()]
        said = (
            y_label
            if rows == 1
            else f"{y_label}, {counted} {_numbers(part, len(categories))}"
        )
        own = highest if one_scale else max(map(max, heights), default=0.0)
        if row and own and highest > 1.5 * own:
            said += f" (the scale is {highest / own:.3g} times finer than the first's)"
        chart.text(4, chart.top - 14, said, SIZE - 1, SOFT, anchor="start")
        _row(chart, categories[part], heights, hues, per_row, own)
    return chart.finish(title)


def _row(
    chart: Chart,
    names: Sequence[str],
    heights: Sequence[Sequence[float]],
    hues: Sequence[int],
    places: int,
    highest: float,
) -> None:
    """Axis, bars and names of one row."""
    high = highest or 1.0
    chart.scales((0, places), (0, 1.06 * high))
    marks = ticks(0, 1.06 * high, 5)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    for mark in marks:
        y = chart.y(mark)
        chart.rule(chart.left, y, chart.right, y, GRID if mark else FAINT)
        chart.text(chart.left - 8, y + 5, f"{mark:.{digits}f}", SIZE - 1, SOFT, "end")
    slot = chart.x(1) - chart.x(0)
    wide = 0.82 * slot / len(heights)
    lower = 0
    for place, name in enumerate(names):
        left = chart.x(place) + 0.09 * slot
        for i, values in enumerate(heights):
            y = chart.y(values[place])
            box = _box(
                left + i * wide, y, 0.92 * wide, chart.bottom - y, colour(hues[i])
            )
            chart.under.append(box)
        size = _letters(name, slot)
        lower = 0 if size >= SMALLEST else 1 + lower % 2  # long ones get two lines
        size = _letters(name, 2 * slot) if lower else size
        foot = chart.bottom + 19 + 15 * lower
        chart.text(chart.x(place + 0.5), foot, name, size, INK)


def _letters(name: str, room: float) -> float:
    """The largest size of letters at which a name keeps to its room."""
    return min(SIZE + 1, round(0.98 * room / text_width(name, 1), 1))


def _legend(
    names: Sequence[str], hues: Sequence[int]
) -> tuple[list[tuple[float, float, str, int]], float]:
    """(x, y, name, style) of each, and the height that they take; one needs none."""
    if len(names) < 2:
        return [], 0.0
    found, x, y = [], 6.0, 44.0
    for name, hue in zip(names, hues, strict=True):
        wide = text_width(name, SIZE) + 42
        if x + wide > WIDE and x > 6:
            x, y = 6.0, y + 22
        found.append((x, y, name, hue))
        x += wide
    return found, y - 16


def _numbers(part: slice, count: int) -> str:
    return f"{part.start + 1} to {min(part.stop, count)}"


def _box(x: float, y: float, wide: float, high: float, fill: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" '
        f'fill="{fill}"/>'
    )
