"""Where things go in a chart: scales, ticks, labels that do not cover one another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lmzoo.report.svg import text_width
from lmzoo.report.words import short

SIZE = 15  # of letters


@dataclass(frozen=True)
class Scale:
    """Values to places along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    marks: tuple[float, ...] = ()

    def __call__(self, value: float) -> float:
        """Where ``value`` lies."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """The given marks, or round values, inside the range."""
        if self.marks:
            return [mark for mark in self.marks if self.low <= mark <= self.high]
        return (
            log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)
        )


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Steps of 1, 2 or 5 times a power of ten, ``most`` of them at most."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = (power * m for m in (1, 2, 5, 10))
    step = next(s for s in steps if (high - low) / s <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; with 2 and 5 between them where few would lie in the range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside: list[float] = []
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        inside = [f * 10.0**p for p in powers for f in factors]
        inside = [t for t in inside if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            break
    if not inside:  # a range between two of them
        return ticks(low, high)
    every = math.ceil(len(inside) / 7)
    return inside[::every]


def tick_label(value: float, step: float = 0.0) -> str:
    """``0.5``, ``20``, ``5k``, ``2M``: as few letters as tell ticks apart."""
    if abs(value) >= 10_000 or (abs(value) >= 1000 and value % 100 == 0):
        return short(value).replace(" ", "")
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    return f"{value:.{places}f}" if step else f"{value:g}"


def spaced(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least ``gap`` apart, near where they were, inside the range if it fits.

    Groups that touch move together: each stands around the mean of its wishes.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1:
            before, last = groups[-2], groups[-1]
            if _start(places, last, gap, low, high) >= gap * len(before) + _start(
                places, before, gap, low, high
            ):
                break
            groups[-2:] = [before + last]
    found = [0.0] * len(places)
    for group in groups:
        start = _start(places, group, gap, low, high)
        for k, i in enumerate(group):
            found[i] = start + k * gap
    return found


def _start(
    places: Sequence[float], group: list[int], gap: float, low: float, high: float
) -> float:
    length = gap * (len(group) - 1)
    wish = sum(places[i] for i in group) / len(group) - length / 2
    return max(low, min(wish, high - length))


@dataclass
class Boxes:
    """Rectangles that are taken, for labels beside points."""

    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def overlap(self, box: tuple[float, float, float, float]) -> float:
        """Area that ``box`` shares with what is taken."""
        total = 0.0
        for other in self.taken:
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            total += max(0.0, width) * max(0.0, height)
        return total

    def place(
        self, x: float, y: float, text: str, inside: tuple[float, float, float, float]
    ) -> tuple[float, float]:
        """Left foot of a label near a point, where it covers least."""
        wide, options = text_width(text, SIZE), []
        for away in range(36):
            far = 9 + 10 * away
            options += [(x + far, y + 5), (x - far - wide, y + 5)]
            options += [(x - wide / 2, y - far - 2), (x - wide / 2, y + far + SIZE - 2)]
            options += [(x + far, y - far), (x - far - wide, y - far)]
            options += [(x + far, y + far), (x - far - wide, y + far)]
        boxes = [(a, b - SIZE, a + wide, b + 4) for a, b in options]

        def cost(box: tuple[float, float, float, float]) -> float:
            out = max(0.0, inside[0] - box[0]) + max(0.0, box[2] - inside[2])
            out += max(0.0, inside[1] - box[1]) + max(0.0, box[3] - inside[3])
            return 100 * out + self.overlap(box)

        costs = [cost(box) for box in boxes]
        pick = costs.index(min(costs))  # the nearest of the best
        self.taken.append(boxes[pick])
        return options[pick]
