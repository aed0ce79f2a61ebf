"""An architecture as an SVG figure: tokens at the bottom, logits at the top.

Drawn from what one traced pass shows, so it holds for any model. Plain SVG, no scripts,
no fonts of its own; every text is escaped.
"""

from collections.abc import Sequence

from lmzoo.analysis.anatomy.architecture import (
    Architecture,
    Box,
    Item,
    Join,
    Pair,
    Stack,
    architecture,
    facts,
)
from lmzoo.analysis.anatomy.parts import TIMES
from lmzoo.analysis.anatomy.trace import Step
from lmzoo.models.base import LanguageModel
from lmzoo.report.svg import LINES, SOFT, Sheet, fit, wrap

WIDTH, CENTRE = 760, 350
BOX, HALF, BESIDE = 300, 220, 20  # widths of a box, of one of a pair, between a pair
TITLE, LINE = 22, 16  # heights of a title and of a line of a box
MIDDLES = CENTRE - (BESIDE + HALF) / 2, CENTRE + (BESIDE + HALF) / 2
GAP, RADIUS, PAD = 36, 10, 48  # between items; of an addition; around a stack
LANE = 20  # between lines that pass by on the left
FILL = {
    "embedding": "#fde8c9",
    "norm": "#eef0f3",
    "attention": "#d3e3f8",
    "mlp": "#d9efdb",
    "recurrent": "#e6dcf5",
    "convolution": "#cfedec",
    "head": "#f9d8d8",
    "operation": "#ffffff",
    "other": "#f3ead9",
}


def draw(model: LanguageModel, name: str) -> str:
    """The figure of ``model``, called ``name``, as the text of an SVG file."""
    return _Figure(name, model).figure(architecture(model))


class _Figure(Sheet):
    """Draws upwards from y = 0; the finished figure is shifted into view."""

    def __init__(self, name: str, model: LanguageModel) -> None:
        super().__init__()
        self.name, self.model = name, model
        self.y = 0.0  # where the next item begins
        self.embedding_y = self.head_y = 0.0
        self.embedding_x = CENTRE - BOX / 2

    def figure(self, shown: Architecture) -> str:
        """The whole figure."""
        self._column(shown.items, "tokens")
        self.arrow(CENTRE, self.y, self.y - GAP + 6)
        self.text(CENTRE, self.y - GAP - 6, "logits", 15, bold=True)
        shape = self._shape(shown.items[-1]) if shown.items else ""
        if shape:
            self.text(CENTRE + 12, self.y - GAP / 2 + 5, shape, 12, SOFT, "start")
        if shown.tied:
            self._tie()
        top = self._heading(shown, self.y - GAP - 28)
        bottom = self._legend(shown, 46)
        return self.document(f"Architecture of {self.name}", WIDTH, top, bottom)

    # ---- a column of items -----------------------------------------------------------

    def _column(self, items: Sequence[Item], source: str = "") -> None:
        """Stack items on one another; ``source`` is written where they begin."""
        entry = self.y
        if source and not (items and isinstance(items[0], Pair)):
            self.text(CENTRE, entry + 18, source, 15, bold=True)
            self.text(CENTRE + 34, entry + 18, f"B {TIMES} T", 12, SOFT, "start")
        spans: list[tuple[float, float]] = []  # bottom and top of each item
        for i, item in enumerate(items):
            if i:
                self._connect(items[i - 1], item)
            elif not isinstance(item, Pair):
                self.arrow(CENTRE, entry, entry - GAP, not isinstance(item, Stack))
            elif not source:
                self._fork()
            self.y -= GAP
            bottom = self.y
            self._item(item, tokens=bool(source) and i == 0)
            spans.append((bottom, self.y))
        self._bypasses(items, spans, entry)

    def _item(self, item: Item, tokens: bool) -> None:
        if isinstance(item, Join):
            self._join()
        elif isinstance(item, Box):
            self._box(item, CENTRE - BOX / 2, BOX)
        elif isinstance(item, Pair):
            self._pair(item, tokens)
        else:
            self._stack(item)

    def _connect(self, below: Item, above: Item) -> None:
        shape = self._shape(below)
        feeds = any(_made_by(below, source) for source in _sources(above))
        if isinstance(below, Pair):
            target = self.y - GAP - (RADIUS if isinstance(above, Join) else 0)
            for x, box, anchor in zip(
                MIDDLES, (below.left, below.right), ("end", "start"), strict=True
            ):
                edge = CENTRE + (-RADIUS if x < CENTRE else RADIUS)
                if isinstance(above, Join):
                    self.path(f"M{x:.1f},{self.y:.1f} V{target:.1f} H{edge}", True)
                else:
                    self.arrow(x, self.y, self.y - GAP)
                aside = x + (-8 if anchor == "end" else 8)
                self.text(aside, self.y - 14, box.shape, 12, SOFT, anchor)
            return
        label_y = self.y - GAP / 2 + 5
        if isinstance(above, Pair):
            self._fork()
            label_y = self.y - 6
        elif feeds or not _sources(above):
            self.arrow(CENTRE, self.y, self.y - GAP, not isinstance(above, Stack))
        if shape:
            self.text(CENTRE + 12, label_y, shape, 12, SOFT, "start")

    def _fork(self) -> None:
        """One path into both parts of a pair."""
        for x in MIDDLES:
            self.path(f"M{CENTRE},{self.y:.1f} v-20 H{x} V{self.y - GAP:.1f}", True)

    def _bypasses(
        self, items: Sequence[Item], spans: list[tuple[float, float]], entry: float
    ) -> None:
        """Lines to an item from another than the one below it: residual streams."""
        side = CENTRE - _extent(items)
        used: list[tuple[float, float]] = []  # stretches that a lane is taken on
        for i, item in enumerate(items):
            if i == 0 or isinstance(item, Pair):
                continue
            for source in _sources(item):
                made = [k for k in range(i) if _made_by(items[k], source)]
                if made == [i - 1] or isinstance(items[i - 1], Pair):
                    continue
                start = (spans[made[-1]][1] if made else entry) - 8
                target = (spans[i][0] + spans[i][1]) / 2
                taken = sum(a > target and start > b for a, b in used)
                used.append((start, target))
                lane = side - LANE * (1 + taken)
                edge = CENTRE - (RADIUS if isinstance(item, Join) else BOX / 2)
                self.path(f"M{CENTRE},{start:.1f} H{lane} V{target:.1f} H{edge}", True)

    def _shape(self, item: Item) -> str:
        if isinstance(item, Stack):
            return self._shape(item.items[-1]) if item.items else ""
        return "" if isinstance(item, Pair) else item.shape

    # ---- one item --------------------------------------------------------------------

    def _box(self, box: Box, x: float, width: float) -> None:
        plain = box.kind == "operation"
        numbers = _numbers(box.parameters)
        if box.lines and not box.parameters and box.step:
            numbers += " of its own"
        lines = [] if plain else [*box.lines, numbers]
        height = 16 + TITLE + LINE * len(lines) - (8 if plain else 0)
        top = self.y - height
        dash = ' stroke-dasharray="4 3"' if plain else ""
        self.over.append(
            f'<rect class="box" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="7" fill="{FILL[box.kind]}" '
            f'stroke="{LINES}" stroke-width="1"{dash}/>'
        )
        size = 13 if plain else 15
        title = fit(box.title, size, width - 16, not plain)
        middle, y = x + width / 2, top + (20 if plain else 24)
        self.text(middle, y, title, size, bold=not plain)
        for i, line in enumerate(lines):
            self.text(
                middle, y + LINE * (i + 1) + 2, fit(line, 12, width - 16), 12, SOFT
            )
        if box.kind == "head":
            self.head_y = top + height / 2
        if box.kind == "embedding" and not self.embedding_y:
            self.embedding_y, self.embedding_x = top + height / 2, x
        self.y = top

    def _pair(self, pair: Pair, tokens: bool) -> None:
        bottom, tops = self.y, []
        for x, box, source in (
            (CENTRE - BESIDE / 2 - HALF, pair.left, "tokens"),
            (CENTRE + BESIDE / 2, pair.right, "positions"),
        ):
            self.y = bottom
            self._box(box, x, HALF)
            tops.append(self.y)
            if tokens:
                self.arrow(x + HALF / 2, bottom + GAP, bottom)
                self.text(x + HALF / 2, bottom + GAP + 18, source, 15, bold=True)
        self.y = min(tops)

    def _join(self) -> None:
        y = self.y - RADIUS
        self.over.append(
            f'<circle cx="{CENTRE}" cy="{y:.1f}" r="{RADIUS}" fill="#ffffff" '
            f'stroke="{LINES}" stroke-width="1.2"/>'
            f'<path d="M{CENTRE - 5},{y:.1f} h10 M{CENTRE},{y - 5:.1f} v10" '
            f'stroke="{LINES}" stroke-width="1.4"/>'
        )
        self.y -= 2 * RADIUS

    def _stack(self, stack: Stack) -> None:
        bottom = self.y
        self._column(stack.items)
        if stack.carries:
            self._loop(bottom - GAP, self.y)
        self.arrow(CENTRE, self.y, self.y - 22, head=False)
        self.y -= 22
        extent = _extent(stack.items) + PAD
        left, width = CENTRE - extent, 2 * extent
        self.under.append(
            f'<rect class="stack" x="{left}" y="{self.y:.1f}" width="{width}" '
            f'height="{bottom - self.y:.1f}" rx="12" fill="#fafbfc" '
            f'stroke="#9aa5b1" stroke-width="1.2"/>'
        )
        x, y = left + width + 14, (bottom + self.y) / 2
        self.text(x, y, f"{TIMES}\u2009{stack.times:,}", 22, anchor="start", bold=True)
        self.text(x, y + 20, f"{stack.parameters:,}", 12, SOFT, "start")
        self.text(x, y + 35, "parameters", 12, SOFT, "start")

    def _loop(self, bottom: float, top: float) -> None:
        """A recurrent layer's state goes back into it."""
        x, third = CENTRE + BOX / 2, (bottom - top) / 3
        self.path(f"M{x},{top + third:.1f} h24 V{bottom - third:.1f} h-24", arrow=True)

    def _tie(self) -> None:
        lane, x = 34, CENTRE - BOX / 2
        self.path(
            f"M{x},{self.head_y:.1f} H{lane} V{self.embedding_y:.1f} "
            f"H{self.embedding_x:.1f}",
            dashed=True,
        )
        y = (self.head_y + self.embedding_y) / 2
        self.over.append(
            f'<text x="{lane - 8}" y="{y:.1f}" font-size="12" fill="{SOFT}" '
            f'text-anchor="middle" transform="rotate(-90 {lane - 8} {y:.1f})">'
            f"one matrix (tied)</text>"
        )

    # ---- words around the figure -----------------------------------------------------

    def _heading(self, shown: Architecture, bottom: float) -> float:
        """Name and sizes above the figure; returns its top edge."""
        lines = wrap(facts(self.model), 12.5, WIDTH - 60, "  ·  ")
        y = bottom - 18 * (len(lines) - 1) - 10
        for i, line in enumerate(lines):
            self.text(30, y + 18 * i, fit(line, 12.5, WIDTH - 60), 12.5, SOFT, "start")
        title = fit(f"{self.name}: {_numbers(shown.parameters)}", 20, WIDTH - 60, True)
        self.text(30, y - 24, title, 20, anchor="start", bold=True)
        return y - 60

    def _legend(self, shown: Architecture, top: float) -> float:
        """What letters mean and what no box shows; returns the bottom edge."""
        limit = self.model.context_length
        length = "any number" if self.model.unbounded else f"up to {limit:,}"
        if self.model.window:
            length = f"any number, each prediction seeing {self.model.window:,}"
        lines = [f"B sequences of T tokens ({length}); sizes are those of the output"]
        if shown.outside:
            extra = ", ".join(f"{k} {n:,}" for k, n in shown.outside.items())
            lines.append(f"besides, in no box: {extra}")
        for i, line in enumerate(lines):
            text = fit(line, 12, WIDTH - 60)
            self.text(30, top + 18 * i, text, 12, SOFT, "start")
        return top + 18 * len(lines) + 6


def _extent(items: Sequence[Item]) -> float:
    """Half the width of a column."""
    pairs = any(isinstance(item, Pair) for item in items)
    return HALF + BESIDE / 2 if pairs else BOX / 2


def _numbers(parameters: int) -> str:
    if not parameters:
        return "no parameters"
    return f"{parameters:,} parameter{'' if parameters == 1 else 's'}"


def _sources(item: Item) -> list[Step | None]:
    if isinstance(item, Stack):
        return item.sources
    if isinstance(item, Pair):
        return item.left.step.sources if item.left.step else []
    return item.step.sources if item.step else []


def _made_by(item: Item, source: Step | None) -> bool:
    """Whether ``source`` is what ``item`` gives out."""
    while source is not None:
        if source is item.step:
            return True
        source = source.result
    return False
