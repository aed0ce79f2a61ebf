"""Values as colours: light for little, dark for much, white for nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmzoo.report.charts import FAINT
from lmzoo.report.places import SIZE, log_ticks, tick_label, ticks
from lmzoo.report.svg import SOFT, Sheet, text_width

# ColorBrewer's YlGnBu without its palest (Harrower & Brewer 2003): lightness falls all
# the way, so order is kept in grey and with any colour vision. White is left for zero.
ANCHORS = ("#d3eeb3", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58")
LEVELS = 64
UNKNOWN = "#e3e7eb"
LOWEST = 1e-6  # of the largest: where a logarithmic scale ends at the latest
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
Values = Sequence[Sequence[float]]
BAR = 180.0  # length of the scale


@dataclass(frozen=True)
class Shade:
    """Values to colours; zero is white, a value that is not known grey."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def over(cls, values: Values, log: bool = False, top: float = 0.0) -> "Shade":
        """From the smallest to the largest value, or from 0 to the largest."""
        some = [v for row in values for v in row if math.isfinite(v) and v > 0]
        high = top or max(some, default=1.0)
        low = min(max(min(some, default=high), LOWEST * high), high / 10)  # a decade
        return cls(low if log else 0.0, high, log)

    def level(self, value: float) -> float:
        """Where a value lies, in [0, 1]."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(min(max(share, 0.0), 1.0) * LEVELS) / LEVELS

    def __call__(self, value: float) -> str:
        """The colour of a value."""
        if not math.isfinite(value):
            return UNKNOWN
        return "#ffffff" if value == 0 else blend(self.level(value))


def blend(share: float) -> str:
    """The colour at ``share`` of the way from little to much."""
    place = share * (len(ANCHORS) - 1)
    first = min(int(place), len(ANCHORS) - 2)
    ends = [
        [int(ANCHORS[i][k : k + 2], 16) for k in (1, 3, 5)] for i in (first, first + 1)
    ]
    mixed = (a + (b - a) * (place - first) for a, b in zip(*ends, strict=True))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def scale(
    sheet: Sheet, shade: Shade, values: Values, legend: str, left: float, top: float
) -> None:
    """What the colours mean: a bar with ticks, and a box for zero if there is one."""
    for i in range(LEVELS):
        sheet.under.append(
            f'<rect x="{left + BAR * i / LEVELS:.2f}" y="{top:.1f}" '
            f'width="{BAR / LEVELS + 0.3:.2f}" height="14" '
            f'fill="{blend((i + 0.5) / LEVELS)}"/>'
        )
    marks = _marks(shade)
    step = marks[1] - marks[0] if len(marks) > 1 and not shade.log else 0.0
    free = -math.inf
    for value in marks:
        share = _share(shade, value)
        label = power(value) if shade.log else tick_label(value, step)
        x, half = left + BAR * share, text_width(label, SIZE - 2) / 2
        if x - half > free:
            sheet.text(max(x, left + half), top + 30, label, SIZE - 2, SOFT)
            free = max(x, left + half) + half + 6
    x = left + BAR + 16
    if shade.log and any(0 < value < shade.low for row in values for value in row):
        legend += f"; palest: {power(shade.low)} or less"
    if any(value == 0 for row in values for value in row):
        sheet.under.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="14" height="14" fill="#ffffff" '
            f'stroke="{FAINT}"/>'
        )
        sheet.text(x + 20, top + 12, "exactly 0", SIZE - 1, SOFT, anchor="start")
        x += 34 + text_width("exactly 0", SIZE - 1)
    sheet.text(x, top + 12, legend, SIZE - 1, SOFT, anchor="start")


def power(value: float) -> str:
    """``0.05`` and ``3×10⁻⁸``: a value of a logarithmic scale."""
    if 1e-3 <= value < 1e4:
        return f"{value:.3g}"
    digits, _, exponent = f"{value:.0e}".partition("e")
    raised = str(int(exponent)).translate(RAISED)
    return (
        f"10{raised}" if digits == "1" else f"{digits}\N{MULTIPLICATION SIGN}10{raised}"
    )


def _marks(shade: Shade) -> list[float]:
    if shade.log:
        return log_ticks(shade.low, shade.high)
    return ticks(shade.low, shade.high, 4)


def _share(shade: Shade, value: float) -> float:
    if shade.log:
        return math.log(value / shade.low) / math.log(shade.high / shade.low)
    return (value - shade.low) / (shade.high - shade.low)
