"""Time against sequence length as an SVG figure: both axes logarithmic."""

import math
from collections.abc import Mapping
from itertools import chain, pairwise

from lmzoo.compare.timing import Timing
from lmzoo.report.svg import INK, LINES, SOFT, Sheet

# Okabe & Ito 2008, told apart with any colour vision
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#5b6775",
    "#8c564b",
)
DASHES = ("", "6 3", "2 3")  # one for each time that the colours are gone through
PANELS = (("forward", "forward"), ("backward", "forward + backward"))
WIDTH, HEIGHT, LEFT, TOP, BETWEEN = 300, 300, 64, 62, 206
LABEL, STEP = 12, 15  # size of a label, and the least distance of two


def draw(timings: Mapping[str, Timing], title: str) -> str:
    """An SVG document: a panel for each pass, a line for each model.

    The marks are medians, the bars quartiles; each line ends in its model and exponent.
    """
    sheet = Sheet()
    sheet.text(LEFT, 24, title, 15, INK, "start", bold=True)
    for number, (name, heading) in enumerate(PANELS):
        left = LEFT + number * (WIDTH + BETWEEN)
        sheet.text(left, TOP - 12, heading, 13, INK, "start")
        _Panel(sheet, timings, name, left).draw()
    width = LEFT + 2 * WIDTH + BETWEEN + 140
    return sheet.document(title, width, 0, TOP + HEIGHT + 52)


class _Panel:
    """One pair of axes: where a length and a time stand, and what is drawn there."""

    def __init__(
        self, sheet: Sheet, timings: Mapping[str, Timing], name: str, left: float
    ) -> None:
        self.sheet, self.timings, self.name, self.left = sheet, timings, name, left
        self.lengths = sorted({n for t in timings.values() for n in t["lengths"]})
        drawn = [
            seconds
            for t in timings.values()
            for seconds in chain(t[name], *t[f"{name}_spread"])
        ]
        self.low = math.floor(math.log10(min(drawn)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(drawn))))

    def x(self, length: float) -> float:
        low, high = math.log(self.lengths[0]), math.log(self.lengths[-1])
        share = (math.log(length) - low) / (high - low) if high > low else 0.5
        return self.left + 10 + share * (WIDTH - 20)

    def y(self, seconds: float) -> float:
        share = (math.log10(seconds) - self.low) / (self.high - self.low)
        return TOP + HEIGHT - share * HEIGHT

    def draw(self) -> None:
        """Axes, lines, and the labels at their ends."""
        self._axes()
        ends = []
        for number, (label, timing) in enumerate(self.timings.items()):
            colour = COLOURS[number % len(COLOURS)]
            self._line(timing, colour, DASHES[number // len(COLOURS) % len(DASHES)])
            exponent = timing[
                "exponent" if self.name == "backward" else "exponent_forward"
            ]
            grows = "" if math.isnan(exponent) else f"  n^{exponent:.2f}"
            ends.append((self.y(timing[self.name][-1]), f"{label}{grows}", colour))
        for height, (_, text, colour) in zip(
            _apart([y for y, _, _ in sorted(ends)]), sorted(ends), strict=True
        ):
            x = self.left + WIDTH + 8
            self.sheet.text(x, height + 4, text, LABEL, colour, "start", bold=True)

    def _axes(self) -> None:
        bottom, right = TOP + HEIGHT, self.left + WIDTH
        for power in range(self.low, self.high + 1):
            height = self.y(10.0**power)
            self._stroke(f"M{self.left},{height:.1f} H{right}", "#d5dae0")
            self.sheet.text(
                self.left - 6, height + 4, _duration(power), 11, SOFT, "end"
            )
        for length in self.lengths:
            x = self.x(length)
            self._stroke(f"M{x:.1f},{bottom} v5", LINES)
            self.sheet.text(x, bottom + 18, f"{length:,}", 11, SOFT)
        middle = self.left + WIDTH / 2
        self.sheet.text(middle, bottom + 38, "tokens in a sequence", 12, SOFT)

    def _line(self, timing: Timing, colour: str, dash: str) -> None:
        points = [
            (self.x(length), self.y(seconds))
            for length, seconds in zip(
                timing["lengths"], timing[self.name], strict=True
            )
        ]
        path = " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._stroke(f"M{path}", colour, 2, dash)
        for (x, y), (low, high) in zip(
            points, timing[f"{self.name}_spread"], strict=True
        ):
            self._stroke(f"M{x:.1f},{self.y(low):.1f} V{self.y(high):.1f}", colour, 1.2)
            self.sheet.over.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            )

    def _stroke(self, path: str, colour: str, width: float = 1, dash: str = "") -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.sheet.over.append(
            f'<path d="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}"{dashed}/>'
        )


def _apart(heights: list[float]) -> list[float]:
    """Increasing heights, moved as little as keeps them ``STEP`` apart in the panel."""
    moved = list(heights)
    for _ in range(100):
        pushed = False
        for i, (above, below) in enumerate(pairwise(moved)):
            if (short := STEP - (below - above)) > 0.1:
                moved[i], moved[i + 1] = above - short / 2, below + short / 2
                pushed = True
        if not pushed:
            break
    return moved


def _duration(power: int) -> str:
    for unit, size in (("s", 0), ("ms", -3), ("µs", -6), ("ns", -9)):
        if power >= size:
            return f"{10 ** (power - size):,} {unit}"
    return f"1e{power} s"
