"""Heat maps: colours keep the order, labels fit, zero is not a colour of the scale."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from lmzoo.report.heat import heat_grid, heat_map
from lmzoo.report.shades import ANCHORS, Shade, blend, power
from lmzoo.report.svg import text_width


def lightness(colour: str) -> float:
    """CIE L* of ``#rrggbb``."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in channels]  # fmt: skip
    light = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * light ** (1 / 3) - 16


def words(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_darker_is_more_all_the_way() -> None:
    scale = [lightness(blend(i / 100)) for i in range(101)]
    assert all(b < a for a, b in pairwise(scale))
    assert scale[0] < 95  # told from the white of zero
    assert scale[0] - scale[-1] > 70
    assert blend(0) == ANCHORS[0]
    assert blend(1) == ANCHORS[-1]


def test_zero_unknown_and_the_ends() -> None:
    shade = Shade.over([[0.0, 1.0, 4.0, math.nan]])
    assert shade(0) == "#ffffff"
    assert shade(math.nan) not in (shade(0), blend(0), blend(1))
    assert shade(4) == blend(1)
    assert shade(1e-9) == blend(0) != shade(0)
    log = Shade.over([[0.0, 1e-3, 1.0]], log=True)
    assert log(math.sqrt(1e-3)) == blend(0.5)
    assert log(1e-12) == blend(0)
    for values in ([[0.0]], [[2.0]], [[math.nan]], [[0.3, 0.31]]):
        for logarithmic in (False, True):
            ElementTree.fromstring(
                heat_map("t", ["r"], list("abcd")[: len(values[0])], values,
                         log=logarithmic)
            )  # fmt: skip


def test_few_cells_show_their_values() -> None:
    few = heat_map("t", ["a"], ["x", "y"], [[0.25, 0.0]], legend="share")
    assert {"0.25", "0", "exactly 0", "share", "x", "y", "a"} <= set(words(few))
    many = heat_map("t", ["a"], list("x" * 30), [[0.25] * 30])
    assert "0.25" not in words(many)


def test_labels_do_not_touch() -> None:
    labels = [f"token{i}" for i in range(50)]
    svg = heat_map("t", ["r"], labels, [[1.0] * 50])
    found = re.findall(
        r'<text x="([\d.]+)"[^>]*font-size="(\d+)"[^>]*>(token\d+)<', svg
    )
    assert 2 <= len(found) < 50
    edges = [
        (float(x) - text_width(word, float(size)) / 2,
         float(x) + text_width(word, float(size)) / 2)
        for x, size, word in found
    ]  # fmt: skip
    assert all(right <= left for (_, right), (left, _) in pairwise(edges))


def test_a_label_longer_than_its_column_displaces_none() -> None:
    labels = ["<eod>", *"Inbiology,mitochondriaare"]
    svg = heat_map("t", ["r"], labels, [[1.0] * len(labels)])
    found = re.findall(r'<text x="[^"]*" y="([\d.]+)"[^>]*>([^<]+)<', svg)
    feet = {name: float(y) for y, name in found}
    assert set(labels[1:]) <= set(feet)
    assert feet["&lt;eod&gt;"] > feet["I"]


def test_neighbours_of_one_colour_are_one_rectangle() -> None:
    plain = heat_map("t", ["r"], list("abcd"), [[1.0, 1.0, 1.0, 1.0]])
    mixed = heat_map("t", ["r"], list("abcd"), [[1.0, 0.5, 1.0, 0.5]])
    assert mixed.count("<rect") == plain.count("<rect") + 3


def test_what_is_not_markup_is_escaped() -> None:
    svg = heat_map("a < b", ["<&>"], ["<"], [[1.0]])
    ElementTree.fromstring(svg)
    assert "&lt;&amp;&gt;" in svg


def test_a_grid_has_every_panel_on_one_scale() -> None:
    panels = [[("one", [[1.0, 0.0], [0.5, 0.5]]), ("two", [[0.1, 0.1], [0.1, 0.1]])]]
    svg = heat_grid("t", panels, ["a", "b"], x_label="to", y_label="from", legend="w")
    ElementTree.fromstring(svg)
    assert {"one", "two", "down: from; across: to"} <= set(words(svg))
    assert svg.count(f'fill="{blend(1)}"') == 1  # the largest of both


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.05, "0.05"), (1.0, "1"), (1e-5, "10⁻⁵"), (3e-8, "3×10⁻⁸"), (2e5, "2×10⁵")],
)
def test_powers(value: float, said: str) -> None:
    assert power(value) == said
