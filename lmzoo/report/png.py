"""Our own SVG figures as PNG, drawn by matplotlib (extra ``plots``).

Only the marks that the figures of lmzoo are made of are known; another one is an error,
never a gap in the picture.
"""

import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from typing import Any

from lmzoo.errors import UsageError
from lmzoo.report.svg import text_width

FAMILY = ("Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")
WORD = re.compile(r"[A-Za-z]|-?[0-9.]+(?:e-?[0-9]+)?")
ROTATED = re.compile(r"rotate\((-?[0-9.]+)[ ,]+(-?[0-9.]+)[ ,]+(-?[0-9.]+)\)")
ANCHOR = {"start": "left", "middle": "center", "end": "right"}
Mark = ET.Element
Points = list[tuple[float, float]]


def png(svg: str, scale: float = 2.0) -> bytes:
    """A figure as the bytes of a PNG file.

    Args:
        svg: made by lmzoo, not just any SVG.
        scale: pixels to a unit of the figure.

    Raises:
        UsageError: matplotlib is not installed.
        ValueError: a mark, path command or transformation that lmzoo does not draw.
    """
    return _Sheet(svg).pixels(scale)


class _Sheet:
    """One unit of the figure is one point of matplotlib: sizes need no conversion."""

    def __init__(self, svg: str) -> None:
        if "<!" in svg:  # no document type, so no entity: there is nothing to expand
            raise ValueError("a figure of lmzoo declares nothing, this one has a '<!'")
        root = ET.fromstring(svg)
        x, y, width, height = map(float, root.attrib["viewBox"].split())
        self.figure = _figure(width / 72, height / 72)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(x, x + width)
        self.axes.set_ylim(y + height, y)
        self.family = _family()
        self.texts: list[tuple[Any, float]] = []  # and how wide each may be
        for order, mark in enumerate(root):
            self._draw(mark, order)

    def pixels(self, scale: float) -> bytes:
        """The PNG file."""
        file = io.BytesIO()
        with warnings.catch_warnings():  # a symbol that no font here has is a box
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
            self._fit(scale)
            self.figure.savefig(file, format="png", dpi=72 * scale)
        return file.getvalue()

    def _fit(self, scale: float) -> None:
        """Fonts differ: no text becomes wider than was planned for."""
        self.figure.set_dpi(72 * scale)
        for text, widest in self.texts:
            box = text.get_window_extent()
            wide = max(box.width, box.height) / scale
            if wide > widest:
                text.set_fontsize(text.get_fontsize() * widest / wide)

    def _draw(self, mark: Mark, order: int) -> None:
        name = mark.tag.rpartition("}")[2]
        if name in ("title", "desc"):
            return
        if name == "g":
            raise ValueError("<g>: figures of lmzoo have no groups")
        if name not in MARKS:
            raise ValueError(f"<{name}>: no mark of a figure of lmzoo")
        if "transform" in mark.attrib and name != "text":
            raise ValueError(f"<{name} transform>: only text is turned")
        MARKS[name](self, mark, order)

    def rect(self, mark: Mark, order: int) -> None:
        """A rectangle, its corners round or not."""
        from matplotlib import patches  # the extra plots

        x, y, width, height = _numbers(mark, "x", "y", "width", "height")
        (radius,) = _numbers(mark, "rx")
        if radius:
            style = patches.BoxStyle("round", pad=0, rounding_size=radius)
            shape: Any = patches.FancyBboxPatch((x, y), width, height, boxstyle=style)
        else:
            shape = patches.Rectangle((x, y), width, height)
        self._add(shape, mark, order)

    def circle(self, mark: Mark, order: int) -> None:
        """A circle."""
        from matplotlib import patches  # the extra plots

        x, y, radius = _numbers(mark, "cx", "cy", "r")
        self._add(patches.Circle((x, y), radius), mark, order)

    def polygon(self, mark: Mark, order: int) -> None:
        """A closed line."""
        self._path([_points(mark)], mark, order, closed=True)

    def polyline(self, mark: Mark, order: int) -> None:
        """An open line."""
        self._path([_points(mark)], mark, order)

    def line(self, mark: Mark, order: int) -> None:
        """A straight line."""
        x1, y1, x2, y2 = _numbers(mark, "x1", "y1", "x2", "y2")
        self._path([[(x1, y1), (x2, y2)]], mark, order)

    def path(self, mark: Mark, order: int) -> None:
        """Lines along commands."""
        self._path(_strokes(mark.attrib["d"]), mark, order)

    def text(self, mark: Mark, order: int) -> None:
        """Words at a point, turned or not."""
        x, y = _numbers(mark, "x", "y")
        size, bold = float(mark.get("font-size", 16)), _bold(mark)
        content = "".join(mark.itertext())
        angle = 0.0
        if turned := mark.get("transform"):
            found = ROTATED.fullmatch(turned)
            if not found or (float(found[2]), float(found[3])) != (x, y):
                raise ValueError(f"transform {turned!r}: only a turn about the place")
            angle = -float(found[1])
        drawn = self.axes.text(
            x,
            y,
            content,
            fontsize=size,
            color=mark.get("fill", "#000000"),
            alpha=_opacity(mark, "fill"),
            family=self.family,
            weight="bold" if bold else "normal",
            ha=ANCHOR[mark.get("text-anchor", "start")],
            va="baseline",
            rotation=angle,
            rotation_mode="anchor",
            zorder=order,
            parse_math=False,
        )
        self.texts.append((drawn, max(text_width(content, size, bold), size)))

    def _path(
        self, strokes: list[Points], mark: Mark, order: int, closed: bool = False
    ) -> None:
        # the extra plots
        from matplotlib import patches, path

        ends: Any = [path.Path.CLOSEPOLY] if closed else []
        vertices: Points = []
        codes: list[Any] = []
        for stroke in strokes:
            vertices += stroke + [stroke[0]] * closed
            codes += [path.Path.MOVETO] + [path.Path.LINETO] * (len(stroke) - 1) + ends
        self._add(patches.PathPatch(path.Path(vertices, codes)), mark, order)

    def _add(self, patch: Any, mark: Mark, order: int) -> None:
        """Colours, widths and dashes as the attributes say; what is absent is SVG's."""
        from matplotlib.colors import to_rgba  # the extra plots

        fill, stroke = mark.get("fill", "#000000"), mark.get("stroke", "none")
        (width,) = _numbers(mark, "stroke-width", default=1.0)
        patch.set_facecolor(to_rgba(fill, 0 if fill == "none" else _opacity(mark)))
        edge = 0 if stroke == "none" else _opacity(mark, "stroke")
        patch.set_edgecolor(to_rgba(stroke, edge))
        patch.set_linewidth(0 if stroke == "none" else width)
        patch.set_joinstyle(mark.get("stroke-linejoin", "miter"))
        cap = mark.get("stroke-linecap", "butt")
        patch.set_capstyle("projecting" if cap == "square" else cap)
        if dashes := mark.get("stroke-dasharray", "").replace(",", " ").split():
            # matplotlib counts dashes in widths of the line, SVG in units
            patch.set_linestyle((0, [float(dash) / width for dash in dashes]))
        patch.set_zorder(order)
        self.axes.add_patch(patch)


MARKS = {
    name: getattr(_Sheet, name)
    for name in ("rect", "line", "polyline", "polygon", "circle", "path", "text")
}


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # the extra plots
        from matplotlib.figure import Figure  # the same
    except ImportError as error:
        raise UsageError(
            "PNG needs matplotlib: pip install lmzoo[plots]; SVG needs nothing"
        ) from error
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _family() -> list[str]:
    """Those of the figure's fonts that are here; matplotlib brings the last one."""
    from matplotlib.font_manager import fontManager  # the extra plots

    here = {font.name for font in fontManager.ttflist}
    return [name for name in FAMILY if name in here]


def _numbers(mark: Mark, *keys: str, default: float = 0.0) -> list[float]:
    found = [float(mark.get(key, default)) for key in keys]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"<{mark.tag}>: a place that is no number")
    return found


def _points(mark: Mark) -> Points:
    numbers = [float(n) for n in mark.attrib["points"].replace(",", " ").split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _bold(mark: Mark) -> bool:
    return mark.get("font-weight", "") in ("600", "700", "bold")


def _opacity(mark: Mark, of: str = "fill") -> float:
    return float(mark.get("opacity", 1)) * float(mark.get(f"{of}-opacity", 1))


def _strokes(path: str) -> list[Points]:
    """Lines of a path of M, L, H, V and their relatives l, h, v."""
    words, strokes, x, y = WORD.findall(path), [], 0.0, 0.0
    command = ""
    while words:
        if words[0].isalpha():
            command = words.pop(0)
        if command not in "MLHVlhv" or not command:
            raise ValueError(f"path {path!r}: {command or words[0]!r} is not drawn")
        if command in "HVhv":
            number = float(words.pop(0))
            start = (0.0 if command.isupper() else x), (0.0 if command.isupper() else y)
            x, y = (start[0] + number, y) if command in "Hh" else (x, start[1] + number)
        else:
            start = (x, y) if command == "l" else (0.0, 0.0)
            x, y = start[0] + float(words.pop(0)), start[1] + float(words.pop(0))
        if command == "M":
            strokes.append([(x, y)])
        else:
            strokes[-1].append((x, y))
    return strokes
