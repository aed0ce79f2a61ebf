"""Charts as SVG: axes with ticks that a person would choose, labels beside the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmzoo.report.places import SIZE, Scale, spaced, tick_label
from lmzoo.report.svg import INK, SOFT, Sheet, text_width

# Okabe and Ito 2008, colours that no common colour blindness merges; yellow left out
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#B5679A", "#56B4E9", "#E69F00", "#333333")
DASHES = ("", "7 4", "2 3", "10 3 2 3")
WIDTH, HEIGHT = 660.0, 430.0
FLOOR = "#7b8794"
GRID, FAINT = "#e3e7eb", "#9aa5b1"
LINE = 18.0  # from one label to the next
LEFT, RIGHT_PAD, TOP, BOTTOM = 62.0, 14.0, 62.0, 58.0


def colour(index: int) -> str:
    """Of the index-th label, everywhere in a report."""
    return PALETTE[index % len(PALETTE)]


def dash(index: int) -> str:
    """Sets apart what shares a colour."""
    return DASHES[index // len(PALETTE) % len(DASHES)]


@dataclass(frozen=True)
class Curve:
    """One line: values over x, and the lowest and highest seed if there are several."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: int = 0


class Chart(Sheet):
    """A sheet with a plotting area and two scales."""

    def __init__(self, width: float, height: float, right: float) -> None:
        super().__init__()
        self.width, self.height = width, height
        self.left, self.right = LEFT, width - right - RIGHT_PAD
        self.top, self.bottom = TOP, height - BOTTOM
        self.x = self.y = Scale(0, 1, 0, 1)

    def scales(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        log_x: bool = False,
        log_y: bool = False,
        marks: tuple[float, ...] = (),
    ) -> None:
        """Fix what the axes span; ``marks`` are the ticks of x, if not round values."""
        self.x = Scale(*_span(x, log_x), self.left, self.right, log_x, marks)
        self.y = Scale(*_span(y, log_y), self.bottom, self.top, log_y)

    def axes(self, title: str, x_label: str, y_label: str) -> None:
        """Title, grid, ticks; the name of y stands over the axis, not beside it."""
        self.text(4, 20, title, 17, anchor="start", bold=True)
        self.text(4, 46, y_label, SIZE - 1, SOFT, anchor="start")
        middle = (self.left + self.right) / 2
        self.text(middle, self.height - 10, x_label, SIZE - 1, SOFT)
        self.x_axis()
        marks = self.y.ticks()
        for value in marks:
            y = self.y(value)
            self.rule(self.left, y, self.right, y, GRID)
            label = tick_label(value, 0 if self.y.log else _step(marks))
            self.text(self.left - 8, y + 5, label, SIZE - 1, SOFT, anchor="end")

    def x_axis(self) -> None:
        """The line at the foot, its ticks and their labels, none over another."""
        self.rule(self.left, self.bottom, self.right, self.bottom, FAINT)
        marks, free = self.x.ticks(), -math.inf
        for value in marks:
            x, label = (
                self.x(value),
                tick_label(value, 0 if self.x.log else _step(marks)),
            )
            self.rule(x, self.bottom, x, self.bottom + 5, FAINT)
            half = text_width(label, SIZE - 1) / 2
            if x - half > free:
                self.text(x, self.bottom + 21, label, SIZE - 1, SOFT)
                free = x + half + 6

    def rule(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        stroke: str,
        dashes: str = "",
        width: float = 1,
    ) -> None:
        """A straight line under the data."""
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.under.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{stroke}" stroke-width="{width:g}"{dashed}/>'
        )

    def draw(self, curve: Curve, top: float) -> tuple[float, float]:
        """A line and its band, cut where it comes from above; returns its end."""
        x, y = entering(curve.x, curve.y, top)
        points = [(self.x(a), self.y(b)) for a, b in zip(x, y, strict=True)]
        if curve.low and curve.high:
            keep = np.asarray(curve.x) >= x[0]
            edges = [
                [
                    (self.x(a), self.y(min(max(b, self.y.low), top)))
                    for a, b, k in zip(curve.x, edge, keep, strict=True)
                    if k
                ]
                for edge in (curve.low, curve.high)
            ]
            self.under.append(
                f'<polygon points="{_points(edges[0] + edges[1][::-1])}" '
                f'fill="{colour(curve.style)}" fill-opacity="0.18"/>'
            )
        dashes = dash(curve.style)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.over.append(
            f'<polyline points="{_points(points)}" fill="none" '
            f'stroke="{colour(curve.style)}" stroke-width="2.4" '
            f'stroke-linejoin="round"{dashed}/>'
        )
        return points[-1]

    def dot(self, x: float, y: float, fill: str, radius: float, edge: str) -> None:
        """A point of data, at a place on the sheet."""
        self.over.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" '
            f'stroke="{edge}" stroke-width="1.2"/>'
        )

    def end_labels(self, ends: Sequence[tuple[str, float, float, str]]) -> None:
        """Names (label, x, y, colour) right of the data, none over another."""
        places = spaced([y for _, _, y, _ in ends], LINE, self.top, self.bottom)
        for (label, x, y, stroke), place in zip(ends, places, strict=True):
            edge = self.right + 8
            self.rule(x + 2, y, edge, place, stroke, "1 3")
            self.rule(edge, place, edge + 12, place, stroke, width=3)
            self.text(edge + 17, place + 5, label, SIZE, INK, anchor="start")

    def finish(self, label: str) -> str:
        """The SVG."""
        return self.document(label, self.width, 0, self.height)


def entering(
    x: Sequence[float], y: Sequence[float], top: float
) -> tuple[list[float], list[float]]:
    """A line from where it last comes down through ``top``."""
    above = [i for i, value in enumerate(y) if value > top]
    if not above:
        return list(x), list(y)
    last = above[-1]
    if last + 1 == len(y):
        return [x[last]], [top]
    share = (y[last] - top) / (y[last] - y[last + 1])
    start = x[last] + share * (x[last + 1] - x[last])
    return [start, *x[last + 1 :]], [top, *y[last + 1 :]]


def _span(ends: tuple[float, float], log: bool) -> tuple[float, float]:
    """A range that is not a point."""
    low, high = ends
    if high > low:
        return low, high
    return (low / 2, high * 2) if log else (low - 0.5, high + 0.5)


def _step(marks: Sequence[float]) -> float:
    return marks[1] - marks[0] if len(marks) > 1 else 1.0


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
