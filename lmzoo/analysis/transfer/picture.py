"""A matrix of numbers as coloured cells, each with its value."""

from collections.abc import Mapping, Sequence

from lmzoo.report.svg import INK, SOFT, Sheet, fit, text_width

LOW, HIGH = (0xEA, 0xF3, 0xFB), (0x08, 0x45, 0x94)  # light to dark: more is worse
CELL, TALL, TOP, SIZE = 128.0, 64.0, 78.0, 17


def grid(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[str, str], float],
    marked: set[tuple[str, str]],
) -> str:
    """SVG: one cell for each (row, column), darker where the value is higher.

    Args:
        title: what the values are.
        rows: names, top down.
        columns: names, from the left.
        values: of every cell.
        marked: cells with a frame.
    """
    sheet = Sheet()
    left = min(260.0, max(text_width(row, 15) for row in rows) + 24)
    least, most = min(values.values()), max(values.values())
    sheet.text(4, 22, title, 17, anchor="start", bold=True)
    hint = "rows: models; columns: corpora; framed: the model's own corpus"
    sheet.text(4, 43, hint, 13, SOFT, anchor="start")
    for j, column in enumerate(columns):
        shown = fit(column, 15, CELL - 8)
        sheet.text(left + (j + 0.5) * CELL, TOP - 10, shown, 15)
    for i, row in enumerate(rows):
        y = TOP + i * TALL
        sheet.text(left - 12, y + TALL / 2 + 5, fit(row, 15, left - 16), 15, INK, "end")
        for j, column in enumerate(columns):
            value = values[row, column]
            share = (value - least) / (most - least) if most > least else 0.0
            x = left + j * CELL
            _cell(sheet, x, y, value, share)
            if (row, column) in marked:
                _frame(sheet, x, y)
    width = max(left + len(columns) * CELL + 8, text_width(title, 17, True) + 12,
                text_width(hint, 13) + 8)  # fmt: skip
    return sheet.document(title, width, 0, TOP + len(rows) * TALL + 8)


def _cell(sheet: Sheet, x: float, y: float, value: float, share: float) -> None:
    """A rectangle and its value, readable on its colour."""
    mixed = [round(a + (b - a) * share) for a, b in zip(LOW, HIGH, strict=True)]
    sheet.under.append(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{CELL:.1f}" height="{TALL:.1f}" '
        f'fill="#{bytes(mixed).hex()}" stroke="#ffffff" stroke-width="2"/>'
    )
    ink = "#ffffff" if share > 0.45 else INK
    sheet.text(x + CELL / 2, y + TALL / 2 + 6, f"{value:.3f}", SIZE, ink)


def _frame(sheet: Sheet, x: float, y: float) -> None:
    """Round a cell, inside it, so that neighbours do not cover it."""
    sheet.over.append(
        f'<rect x="{x + 3:.1f}" y="{y + 3:.1f}" width="{CELL - 6:.1f}" '
        f'height="{TALL - 6:.1f}" fill="none" stroke="#D55E00" stroke-width="4"/>'
    )
