"""The loss on target and source while a model goes on: one chart a pair."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmzoo.report.charts import HEIGHT, PALETTE, WIDTH, Chart, Curve, colour
from lmzoo.report.places import SIZE
from lmzoo.report.svg import fit, text_width


def curves(
    pair: tuple[str, str],
    groups: Mapping[tuple[tuple[str, str], int | None], Sequence[dict[str, Any]]],
    at: Sequence[int],
) -> str:
    """Target solid, source dashed; a colour for each start, one for new weights.

    Args:
        pair: source and target.
        groups: the seeds of each pair and start.
        at: steps that were measured.
    """
    source, target = pair
    lines: list[Curve] = []
    starts = [start for p, start in groups if p == pair]
    for style, start in enumerate(starts):
        results = groups[pair, start]
        if start is None:
            lines.append(_curve(f"{target}, new weights", results, at, "target", style))
            continue
        begun = f" from {start:,}" if len(starts) > 2 else ""
        dashed = style + len(PALETTE)
        lines.append(_curve(f"{target}{begun}", results, at, "target", style))
        lines.append(_curve(f"{source}{begun}", results, at, "source", dashed))
    wide = min(max(text_width(line.label, SIZE) for line in lines) + 34, 250)
    chart = Chart(WIDTH + wide - 80, HEIGHT, wide)
    values = [v for line in lines for v in (*line.y, *line.low, *line.high)]
    pad = 0.05 * (max(values) - min(values)) or 0.05
    top = max(values) + pad
    chart.scales((0, max(at)), (min(values) - pad, top))
    chart.axes(
        f"From {source} to {target}",
        f"steps on {target}",
        "held-out loss, nats per token; dashed: the source",
    )
    ends = []
    for line in lines:
        x, y = chart.draw(line, top)
        for a, b in zip(line.x, line.y, strict=True):
            chart.dot(chart.x(a), chart.y(b), colour(line.style), 3.2, "#ffffff")
        ends.append((fit(line.label, SIZE, wide - 30), x, y, colour(line.style)))
    chart.end_labels(ends)
    return chart.finish(f"Held-out loss from {source} to {target}")


def _curve(
    label: str,
    results: Sequence[dict[str, Any]],
    at: Sequence[int],
    text: str,
    style: int,
) -> Curve:
    """Mean over seeds, and the lowest and highest of them."""
    table = [
        [one["steps"][str(step)][text]["nats_per_token"] for one in results]
        for step in at
    ]
    low, high = ([one(row) for row in table] for one in (min, max))
    mean = [sum(row) / len(row) for row in table]
    several = len(results) > 1
    return Curve(
        label, at, mean, low if several else (), high if several else (), style
    )
