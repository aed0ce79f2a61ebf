"""Heat maps as SVG: a cell for each pair of labels, light for little, dark for much."""

import math
from collections.abc import Sequence
from itertools import groupby

from lmzoo.report.charts import FAINT
from lmzoo.report.places import SIZE
from lmzoo.report.shades import Shade, Values, scale
from lmzoo.report.svg import INK, SOFT, Sheet, fit, text_width

WIDTH, LABELS = 660.0, 420.0  # of the sheet at least; of row labels at most
BESIDE = 224.0  # longer row labels widen the sheet rather than narrow the cells
TOP, GAP = 40.0, 26.0


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Values,
    *,
    x_label: str = "",
    y_label: str = "",
    legend: str = "",
    log: bool = False,
    top: float = 0.0,
) -> str:
    """An SVG document of one map.

    Args:
        title: the heading.
        rows: labels, one for each row; "" shows none.
        columns: labels, one for each column; where they would touch, some are left out.
        values: not negative; NaN where nothing is known.
        x_label: what the columns are.
        y_label: what the rows are.
        legend: what the colours are.
        log: colours by the logarithm; zero stays white.
        top: the value of the darkest colour; 0: the largest.
    """
    sheet, shade = Sheet(), Shade.over(values, log, top)
    left = 14 + min(LABELS, max((text_width(r, SIZE) for r in rows), default=0))
    wide, high = _cell(len(rows), columns, WIDTH - min(left, BESIDE) - 14)
    width = max(
        WIDTH, left + wide * len(columns) + 14, 1.04 * text_width(title, 17, True) + 12
    )
    under = TOP + (24 if y_label else 0)
    sheet.text(4, 20, title, 17, anchor="start", bold=True)
    sheet.text(4, 46, y_label, SIZE - 1, SOFT, anchor="start")
    cells(sheet, values, shade, left, under, wide, high)
    if wide >= 36 and len(rows) * len(columns) <= 240:
        _numbers(sheet, values, shade, left, under, wide, high)
    for i, row in enumerate(rows):
        middle = under + (i + 0.5) * high + 5
        sheet.text(
            left - 8, middle, fit(row, SIZE, LABELS), SIZE - 1, INK, anchor="end"
        )
    foot = under + high * len(rows)
    across(sheet, columns, left, foot + 18, wide, SIZE)
    sheet.text(left + wide * len(columns) / 2, foot + 52, x_label, SIZE - 1, SOFT)
    foot += 74 if x_label else 52
    scale(sheet, shade, values, legend, 14, foot)
    return sheet.document(title, round(width), 0, foot + 44)


def heat_grid(
    title: str,
    panels: Sequence[Sequence[tuple[str, Values]]],
    labels: Sequence[str],
    *,
    x_label: str = "",
    y_label: str = "",
    legend: str = "",
) -> str:
    """An SVG document of square maps in rows, on one scale and under the same labels.

    Args:
        title: the heading.
        panels: rows of (name, values).
        labels: of the rows and of the columns of each map.
        x_label: what the columns of a map are.
        y_label: what the rows of a map are.
        legend: what the colours are.
    """
    sheet, number = Sheet(), len(labels)
    every = [line for row in panels for _, values in row for line in values]
    shade = Shade.over(every)
    cell = min(24.0, max(3.0, 230 / number))
    side, named = cell * number, cell >= 9
    left, apart = 34.0 if named else 14.0, side + GAP
    small = min(SIZE - 2.0, cell + 1)
    sheet.text(4, 20, title, 17, anchor="start", bold=True)
    axes = f"down: {y_label}; across: {x_label}"
    sheet.text(4, 44, axes, SIZE - 1, SOFT, anchor="start")
    for i, row in enumerate(panels):
        head = 76 + i * (side + 40)
        for k, (name, values) in enumerate(row):
            x = left + k * apart
            sheet.text(x, head - 8, name, SIZE - 1, anchor="start", bold=True)
            cells(sheet, values, shade, x, head, cell, cell)
            if named and i + 1 == len(panels):
                across(sheet, labels, x, head + side + small + 2, cell, small)
        for t, label in enumerate(labels if named else ()):
            middle, size = head + (t + 0.5) * cell + small / 3, min(small, cell - 1)
            sheet.text(left - 6, middle, fit(label, size, 28), size, INK, "end")
    foot = 76 + len(panels) * (side + 40) - 4
    scale(sheet, shade, every, legend, 14, foot)
    most = max(len(row) for row in panels)
    width = max(WIDTH, left + most * apart, 1.04 * text_width(title, 17, True) + 12)
    return sheet.document(title, round(width), 0, foot + 44)


def cells(
    sheet: Sheet,
    values: Values,
    shade: Shade,
    left: float,
    top: float,
    wide: float,
    high: float,
) -> None:
    """The cells of a map and its frame; neighbours of one colour are one rectangle."""
    columns = max(len(row) for row in values)
    for i, row in enumerate(values):
        start = 0
        for fill, group in groupby(shade(value) for value in row):
            number = len(list(group))
            if fill != "#ffffff":
                x, width = left + start * wide, number * wide
                sheet.under.append(
                    f'<rect x="{x:.1f}" y="{top + i * high:.1f}" width="{width:.1f}" '
                    f'height="{high:.1f}" fill="{fill}" stroke="{fill}" '
                    f'stroke-width="0.3"/>'
                )
            start += number
    if wide >= 10 and high >= 10:
        for k in range(1, columns):
            _line(
                sheet, left + k * wide, top, left + k * wide, top + len(values) * high
            )
        for i in range(1, len(values)):
            y = top + i * high
            _line(sheet, left, y, left + columns * wide, y)
    sheet.under.append(
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{columns * wide:.1f}" '
        f'height="{len(values) * high:.1f}" fill="none" stroke="{FAINT}"/>'
    )


def across(
    sheet: Sheet,
    labels: Sequence[str],
    left: float,
    y: float,
    wide: float,
    size: float,
) -> None:
    """Labels under columns, those wider than a column in a second line.

    One that would touch the label before it is left out.
    """
    free = [-math.inf, -math.inf]
    for k, label in enumerate(labels):
        middle, half = left + (k + 0.5) * wide, text_width(label, size - 1) / 2
        line = int(2 * half > wide)
        if label and middle - half >= free[line]:
            sheet.text(middle, y + line * size, label, size - 1)
            free[line] = middle + half + (6 if line else 1)


def _cell(rows: int, columns: Sequence[str], room: float) -> tuple[float, float]:
    """Width and height of a cell: room for a label where there are few."""
    longest = max((text_width(label, SIZE) for label in columns), default=0)
    number = max(1, len(columns))
    wide = min(max(room / number, 4.0 if number > 40 else 16.0), 64.0)
    wide = max(wide, min(longest + 4, 90.0) if number <= 24 else 0.0)
    high = (
        34.0 if rows <= 12 else max(room / number if rows == number else 0, 340 / rows)
    )
    return wide, max(4.0, min(high, 34.0))


def _numbers(
    sheet: Sheet,
    values: Values,
    shade: Shade,
    left: float,
    top: float,
    wide: float,
    high: float,
) -> None:
    for i, row in enumerate(values):
        for k, value in enumerate(row):
            if not math.isfinite(value):
                continue
            dark = value > 0 and shade.level(value) > 0.42
            sheet.text(
                left + (k + 0.5) * wide,
                top + (i + 0.5) * high + 4.5,
                "0" if value == 0 else f"{value:.2g}" if shade.log else f"{value:.2f}",
                SIZE - 2,
                "#ffffff" if dark else INK,
            )


def _line(sheet: Sheet, x1: float, y1: float, x2: float, y2: float) -> None:
    sheet.under.append(
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="#ffffff" stroke-width="1"/>'
    )
