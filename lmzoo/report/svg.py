"""Marks of an SVG figure, and how wide its words are."""

from html import escape

INK, SOFT, LINES = "#1f2933", "#5b6775", "#46525f"
FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
NARROW, WIDE = "iljtfr .,:;'|()[]", "mwMW@%\N{MULTIPLICATION SIGN}\N{RIGHTWARDS ARROW}"


class Sheet:
    """Elements in the order they are painted: what lies under, then what lies over."""

    def __init__(self) -> None:
        self.under: list[str] = []
        self.over: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: str = INK,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """Words at a point, escaped."""
        weight = ' font-weight="600"' if bold else ""
        self.over.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}"{weight}>{escape(text)}</text>'
        )

    def arrow(self, x: float, start: float, end: float, head: bool = True) -> None:
        """A line straight up, its head at the end."""
        self.path(f"M{x:.1f},{start:.1f} V{end:.1f}", arrow=head)

    def path(self, path: str, arrow: bool = False, dashed: bool = False) -> None:
        """A line along M, H, V and h commands."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.over.append(
            f'<path d="{path}" fill="none" stroke="{LINES}" stroke-width="1.3"{dash}/>'
        )
        if arrow:
            self.over.append(_head(path))

    def document(self, label: str, width: float, top: float, bottom: float) -> str:
        """The file: what lies between two heights, on white."""
        height, label = bottom - top, escape(label, quote=True)
        body = "\n".join([*self.under, *self.over])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
            f'height="{height:.0f}" viewBox="0 {top:.0f} {width} {height:.0f}" '
            f'font-family="{FONT}" role="img" aria-label="{label}">\n'
            f"<title>{label}</title>\n"
            f'<rect x="0" y="{top:.0f}" width="{width}" height="{height:.0f}" '
            f'fill="#ffffff"/>\n{body}\n</svg>\n'
        )


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Upper estimate of a text's width, in the units of its font size."""
    narrow = sum(text.count(c) for c in NARROW)
    wide = sum(text.count(c) for c in WIDE)
    letters = 0.35 * narrow + 0.95 * wide + 0.62 * (len(text) - narrow - wide)
    return size * letters * (1.06 if bold else 1.0)


def fit(text: str, size: float, width: float, bold: bool = False) -> str:
    """``text``, cut with an ellipsis where it would be wider than ``width``."""
    if text_width(text, size, bold) <= width:
        return text
    while text and text_width(f"{text}…", size, bold) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def wrap(words: list[str], size: float, width: float, joint: str) -> list[str]:
    """Words in as few lines as hold them."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}{joint}{word}" if lines else ""
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _head(path: str) -> str:
    """An arrow head at the end of a path of M, H, V, h."""
    x = y = before_x = before_y = 0.0
    for word in path.split():
        before_x, before_y, mark, numbers = x, y, word[0], word[1:]
        if mark == "M":
            x, y = (float(n) for n in numbers.split(","))
        elif mark in "Vv":
            y = float(numbers) + (y if mark == "v" else 0)
        else:
            x = float(numbers) + (x if mark == "h" else 0)
    if x == before_x:
        down = 7 if y < before_y else -7
        points = f"{x},{y} {x - 4},{y + down} {x + 4},{y + down}"
    else:
        back = -7 if x > before_x else 7
        points = f"{x},{y} {x + back},{y - 4} {x + back},{y + 4}"
    return f'<polygon points="{points}" fill="{LINES}"/>'
