"""Figures: well-formed, nothing outside the axes, no label over another."""

import re
import xml.etree.ElementTree as ET
from statistics import fmean

import pytest

from lmzoo.compare import curves, plots
from lmzoo.compare.reading import Comparison
from lmzoo.report.charts import BOTTOM, LEFT, TOP
from lmzoo.report.svg import text_width
from tests.compare.synthetic import TRUTH, results, timing

NAME = "{http://www.w3.org/2000/svg}"


def every_figure(found: Comparison) -> dict[str, str]:
    figures = {"intervals": plots.intervals(found)}
    figures |= {key: curves.loss(found, key) for key in curves.AXES}
    figures |= {f"against {key}": plots.scatter(found, key) for key in plots.COSTS}
    figures |= {which: curves.timing(found, which) for which in ("forward", "backward")}
    figures["time"] = plots.quality_against_time(found)
    figures["positions"] = curves.positions(found)
    return {name: svg for name, svg in figures.items() if svg}


@pytest.fixture(scope="module")
def figures() -> dict[str, str]:
    data = results()
    data["timing"] = timing(tuple(TRUTH))
    return every_figure(Comparison(data))


@pytest.fixture(scope="module")
def crowded() -> dict[str, str]:
    """Many labels close together, and long ones."""
    axes = {"model.num_layers": [2, 3, 4, 5], "model.d_model": [128, 130, 132]}
    return every_figure(Comparison(results(("gpt",), axes=axes)))


def boxes(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Every text with its rectangle."""
    found = []
    for one in ET.fromstring(svg).iter(f"{NAME}text"):
        text, size = "".join(one.itertext()), float(one.get("font-size", "0"))
        wide = text_width(text, size, one.get("font-weight") == "600")
        x, y = float(one.get("x", "0")), float(one.get("y", "0"))
        x -= {"start": 0, "middle": wide / 2, "end": wide}[one.get("text-anchor", "")]
        found.append((text, x, y - 0.75 * size, x + wide, y + 0.2 * size))
    return found


def overlaps(svg: str) -> list[tuple[str, str]]:
    every = boxes(svg)
    return [
        (a[0], b[0])
        for i, a in enumerate(every)
        for b in every[i + 1 :]
        if min(a[3], b[3]) - max(a[1], b[1]) > 0.5
        and min(a[4], b[4]) - max(a[2], b[2]) > 0.5
    ]


def test_there_are_all_of_them(figures: dict[str, str]) -> None:
    assert len(figures) == 12


def test_they_are_xml_that_stands_alone(figures: dict[str, str]) -> None:
    for svg in figures.values():
        root = ET.fromstring(svg)
        assert root.tag == f"{NAME}svg"
        assert "nan" not in svg.split("<title>")[0]
        assert not re.search(r'="[^"]*\b(nan|inf)\b', svg)
        assert "href" not in svg


def test_labels_do_not_overlap(figures, crowded) -> None:
    for name, svg in [*figures.items(), *crowded.items()]:
        assert overlaps(svg) == [], name


def test_the_overlap_check_sees_one(figures: dict[str, str]) -> None:
    svg = figures["steps"].replace(">gpt<", ">a name so long that it must collide<", 1)
    first = boxes(svg)[0]
    twice = svg.replace("</svg>", _text(first[1] + 2, first[2] + 12) + "</svg>")
    assert overlaps(twice)


def _text(x: float, y: float) -> str:
    return f'<text x="{x}" y="{y}" font-size="15" text-anchor="start">over it</text>'


def test_words_stay_on_the_sheet(figures, crowded) -> None:
    for name, svg in [*figures.items(), *crowded.items()]:
        root = ET.fromstring(svg)
        width, height = float(root.get("width", 0)), float(root.get("height", 0))
        for text, x1, y1, x2, y2 in boxes(svg):
            assert x1 >= 0, (name, text)
            assert y1 >= 0, (name, text)
            assert x2 <= width + 1, (name, text)
            assert y2 <= height, (name, text)


@pytest.mark.parametrize("which", [*curves.AXES, "positions", "forward", "backward"])
def test_the_data_lie_inside_the_axes(figures: dict[str, str], which: str) -> None:
    root = ET.fromstring(figures[which])
    height, width = float(root.get("height", 0)), float(root.get("width", 0))
    tags = [*root.iter(f"{NAME}polyline"), *root.iter(f"{NAME}polygon")]
    assert len(list(root.iter(f"{NAME}polyline"))) >= 5
    for one in tags:
        for point in one.get("points", "").split():
            x, y = map(float, point.split(","))
            assert LEFT - 0.1 <= x <= width
            assert TOP - 0.1 <= y <= height - BOTTOM + 0.1


def test_points_lie_inside_the_axes(figures: dict[str, str]) -> None:
    for name in ("against parameters", "against speed"):
        root = ET.fromstring(figures[name])
        height, width = float(root.get("height", 0)), float(root.get("width", 0))
        dots = list(root.iter(f"{NAME}circle"))
        assert len(dots) >= 5
        for dot in dots:
            assert LEFT < float(dot.get("cx", 0)) < width
            assert TOP < float(dot.get("cy", 0)) < height - BOTTOM


def test_a_line_ends_where_its_data_end() -> None:
    found = Comparison(results(("gpt", "lstm")))
    curve = curves.mean_curve(found.rows[0], "step", 0)

    assert curve is not None
    assert curve.label == "lstm"
    ends = [cell["curve"][-1]["bits_per_char"] for cell in found.rows[0].cells]
    assert curve.y[-1] == pytest.approx(sum(ends) / 3)
    assert (curve.low[-1], curve.high[-1]) == pytest.approx((min(ends), max(ends)))


def test_one_seed_has_no_band() -> None:
    found = Comparison(results(("gpt",), seeds=(1,)))
    curve = curves.mean_curve(found.rows[0], "seconds", 0)

    assert curve is not None
    assert not curve.low
    assert "polygon" not in (curves.loss(found, "seconds") or "")


def test_what_is_not_known_is_not_drawn() -> None:
    data = results(("gpt",))
    for cell in data["cells"]:
        cell["position_nll"] = []
        for point in cell["curve"]:
            point["flops"] = None
    found = Comparison(data)

    assert curves.loss(found, "flops") is None
    assert curves.positions(found) is None
    assert curves.timing(found, "forward") is None
    assert curves.loss(found, "steps") is not None


def test_a_mean_curve_ends_at_the_mean_of_its_seeds() -> None:
    found = Comparison(results(("gpt",)))
    row = found.rows[0]
    for i, cell in enumerate(row.cells):  # one seed was quicker than the next
        for point in cell["curve"]:
            point["seconds"] = (point["seconds"] or 0.1) * (1 + i)
    curve = curves.mean_curve(row, "seconds", 0)
    assert curve is not None
    lasts = [cell["curve"][-1] for cell in row.cells]

    assert curve.x[-1] == pytest.approx(fmean(one["seconds"] for one in lasts))
    assert curve.y[-1] == pytest.approx(fmean(one["bits_per_char"] for one in lasts))

    row.cells[0]["curve"] = row.cells[0]["curve"][-1:]  # it says nothing of its course
    assert curves.mean_curve(row, "seconds", 0) is None
