"""Quality at a glance, and quality against cost: figures made from the rows."""

from collections.abc import Callable, Mapping

from lmzoo.compare.reading import Comparison, Row, pick, styles
from lmzoo.report.charts import FLOOR, HEIGHT, TOP, WIDTH, Chart, colour
from lmzoo.report.places import SIZE, Boxes
from lmzoo.report.svg import SOFT, text_width

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
    near = {
        k: v for k, v in found.floors().items() if low - 3 * pad < v < high + 3 * pad
    }
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
        left, foot = taken.place(x, y, row.label, inside)
        chart.text(left, foot, row.label, SIZE, anchor="start")
        end = min(max(x, left), left + text_width(row.label, SIZE)), foot - 5
        if abs(end[0] - x) + abs(end[1] - y) > 30:  # too far to be seen as its name
            chart.rule(x, y, *end, hue, "1 3")
    return chart.finish(title)


def quality_against_time(found: Comparison) -> str | None:
    """Against seconds to the best check; where all have the same, against speed."""
    spent = [
        s for r in found.rows if r.mark != "counting" and (s := seconds_to_best(r))
    ]
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
