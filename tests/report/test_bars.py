"""Bars and lines: every mark in its place, no label over another."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from lmzoo.report.bars import bars
from lmzoo.report.charts import Curve
from lmzoo.report.lines import lines
from lmzoo.report.svg import text_width

NAMES = [chr(33 + i) for i in range(80)]
BOX = "{http://www.w3.org/2000/svg}rect"
TEXT = "{http://www.w3.org/2000/svg}text"


def boxes(svg: str) -> list[dict[str, float]]:
    """The bars, without the white ground and the legend."""
    found = [dict(box.attrib) for box in ET.fromstring(svg).iter(BOX)]
    numbers = [
        {key: float(box[key]) for key in ("x", "y", "width", "height")}
        for box in found
        if box["fill"] != "#ffffff"
    ]
    return [box for box in numbers if (box["width"], box["height"]) != (13, 13)]


def meetings(svg: str) -> list[tuple[str, str]]:
    """Pairs of words that lie over one another."""
    found = []
    for text in ET.fromstring(svg).iter(TEXT):
        size, words = float(text.attrib["font-size"]), text.text or ""
        wide = 0.9 * text_width(words, size)  # the estimate is an upper one
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        x -= {"start": 0, "middle": wide / 2, "end": wide}[text.attrib["text-anchor"]]
        found.append((x, y - 0.7 * size, x + wide, y, words))
    return [
        (a[4], b[4])
        for i, a in enumerate(found)
        for b in found[:i]
        if min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
    ]


@pytest.mark.parametrize("count", [1, 5, 40, 41, 80])
@pytest.mark.parametrize("series", [1, 3])
def test_every_height_is_a_bar_and_every_name_can_be_read(
    count: int, series: int
) -> None:
    heights = [100 / (i + 1) for i in range(count)]
    given = {f"corpus {i}": heights for i in range(series)}
    svg = bars(NAMES[:count], given, "Characters", "% of the text")

    assert len(boxes(svg)) == count * series
    assert meetings(svg) == []
    drawn = [text.text for text in ET.fromstring(svg).iter(TEXT)]
    assert drawn.count(NAMES[count - 1]) == 1
    sizes = re.findall(r'font-size="([\d.]+)"', svg)
    assert min(map(float, sizes)) >= 12
    if series > 1:
        assert all(name in drawn for name in given)


def test_heights_are_true_in_each_row() -> None:
    svg = bars(NAMES[:60], {"a": [60.0 - i for i in range(60)]}, "t", "y")
    found = boxes(svg)
    assert found[0]["height"] / found[14]["height"] == pytest.approx(60 / 46, rel=0.01)
    assert found[0]["y"] < found[14]["y"] < found[30]["y"]  # the second row lies below
    assert "times finer" in svg
    level = bars(NAMES[:60], {"a": [1.0] * 60}, "t", "y")
    assert "times finer" not in level
    assert len({box["height"] for box in boxes(level)}) == 1


def test_rows_can_keep_to_one_scale() -> None:
    heights = [*[60.0] * 30, *[6.0] * 30]
    svg = bars(
        NAMES[:60], {"a": heights}, "t", "y", counted="positions", one_scale=True
    )
    found = boxes(svg)
    assert found[0]["height"] / found[59]["height"] == pytest.approx(10, rel=0.01)
    assert "times finer" not in svg
    assert "positions 31 to 60" in svg


def test_long_names_shrink_and_nothing_is_drawn_for_zero() -> None:
    svg = bars(["U+0301"] * 40, {"a": [0.0] * 40}, "t", "y")
    assert meetings(svg) == []
    assert {box["height"] for box in boxes(svg)} == {0.0}


def test_the_meetings_are_noticed() -> None:
    close = (
        '<svg xmlns="http://www.w3.org/2000/svg">'
        '<text x="0" y="9" font-size="15" text-anchor="start">one</text>'
        '<text x="9" y="9" font-size="15" text-anchor="start">two</text></svg>'
    )
    assert meetings(close) == [("two", "one")]


def test_words_are_escaped_and_mistakes_refused() -> None:
    svg = bars(["<", "&"], {"<b>": [1, 2], "c": [2, 1]}, "a & b", "y")
    assert "&lt;b&gt;" in svg
    ET.fromstring(svg)
    with pytest.raises(ValueError, match="expected 2 heights"):
        bars(["a", "b"], {"one": [1.0]}, "t", "y")
    with pytest.raises(ValueError, match="needs a category"):
        bars([], {}, "t", "y")


def test_lines_leave_out_what_is_not_known() -> None:
    curves = [
        Curve("known", [1, 2, 3], [0.5, math.nan, 0.1], style=1),
        Curve("never", [1, 2, 3], [math.nan] * 3),
        Curve("banded", [1, 2], [0.2, 0.3], [0.1, 0.2], [0.3, 0.4], style=2),
    ]
    svg = lines(curves, "t", "x", "y", marks={"rule": 0.25, "none": math.nan})
    assert svg.count("<polyline") == 2
    assert svg.count("<circle") == 4
    assert svg.count("<polygon") == 1
    assert "nan" not in svg
    assert "never" not in svg
    assert "rule" in svg
    assert meetings(svg) == []
    with pytest.raises(ValueError, match="no curve"):
        lines(curves[1:2], "t", "x", "y")


def test_one_point_is_a_chart_too() -> None:
    svg = lines([Curve("a", [5], [1.0])], "t", "x", "y")
    assert svg.count("<circle") == 1
    ET.fromstring(svg)
