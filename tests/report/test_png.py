"""Our SVG as PNG: every mark is drawn, nothing else is accepted."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from lmzoo.analysis.anatomy.diagram import draw
from lmzoo.compare.reading import Comparison
from lmzoo.errors import UsageError
from lmzoo.models.gpt import GPT
from lmzoo.models.recurrent import LSTM
from lmzoo.report import png as module
from lmzoo.report.png import png
from lmzoo.report.svg import Sheet
from tests.compare.synthetic import TRUTH, results, timing
from tests.compare.test_plots import every_figure

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 30">'


def pixels(data: bytes) -> np.ndarray:
    """(H, W, 3) of a PNG file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def ink(data: bytes) -> float:
    """Share of the picture that is not white."""
    return float((pixels(data).min(axis=2) < 250).mean())


def marks(inside: str, scale: float = 2.0) -> np.ndarray:
    return pixels(png(f"{HEAD}{inside}</svg>", scale))


@pytest.fixture(scope="module")
def figures() -> dict[str, str]:
    data = results()
    data["timing"] = timing(tuple(TRUTH))
    drawn = every_figure(Comparison(data))
    gpt = GPT(vocab_size=65, d_model=16, num_layers=2, num_heads=2, tie_embeddings=True)
    drawn["gpt"] = draw(gpt, "gpt")
    drawn["lstm"] = draw(LSTM(vocab_size=65, d_model=16), "lstm")
    return drawn


def test_every_figure_is_drawn_and_not_blank(figures: dict[str, str]) -> None:
    assert len(figures) == 14
    for name, svg in figures.items():
        assert 0.004 < ink(png(svg, 1.0)) < 0.6, name


def test_an_empty_figure_is_blank() -> None:
    assert ink(png(Sheet().document("nothing", 200, 0, 100))) == 0


def test_the_words_are_inside(figures: dict[str, str]) -> None:
    for name, svg in figures.items():
        sheet = module._Sheet(svg)
        sheet.pixels(1.0)
        box = sheet.figure.bbox
        for text, _ in sheet.texts:
            found = text.get_window_extent()
            assert found.x0 >= -1, (name, text.get_text())
            assert found.x1 <= box.x1 + 1, (name, text.get_text())
            assert found.y0 >= -1, (name, text.get_text())
            assert found.y1 <= box.y1 + 1, (name, text.get_text())
        assert sheet.texts


def test_words_that_leave_the_sheet_would_be_seen() -> None:
    sheet = module._Sheet(f'{HEAD}<text x="30" y="20">far too long</text></svg>')
    sheet.pixels(1.0)
    assert sheet.texts[0][0].get_window_extent().x1 > sheet.figure.bbox.x1


def test_marks_are_where_and_as_they_should_be() -> None:
    found = marks('<rect x="10" y="5" width="20" height="10" fill="#0072B2"/>')
    assert found.shape == (60, 80, 3)
    assert tuple(found[20, 40]) == (0x00, 0x72, 0xB2)
    assert tuple(found[40, 40]) == (255, 255, 255)
    half = marks(
        '<polygon points="0,0 40,0 40,30 0,30" fill="#000" fill-opacity="0.5"/>'
    )
    assert half[30, 40, 0] in (127, 128)
    path = '<path d="M5,15 H35 v5 h-30 L5,25" fill="none" stroke="#000" {}/>'
    whole, dashed = marks(path.format("")), marks(path.format('stroke-dasharray="2 2"'))
    assert 0.4 < (255 - dashed).sum() / (255 - whole).sum() < 0.65
    assert (marks('<circle cx="20" cy="15" r="5"/>')[30, 40] == 0).all()
    assert (
        marks('<line x1="0" y1="15" x2="40" y2="15" stroke="#000"/>')[30] < 200
    ).all()


def test_text_stands_on_its_anchor_and_dollars_are_no_formula() -> None:
    sides = {}
    for anchor in ("start", "middle", "end"):
        words = f'<text x="20" y="20" font-size="8" text-anchor="{anchor}">$a$</text>'
        columns = np.flatnonzero((marks(words).min(axis=2) < 128).any(axis=0))
        sides[anchor] = columns.min(), columns.max()
    assert sides["start"][0] >= 40
    assert sides["end"][1] <= 40
    assert sides["middle"][0] < 40 < sides["middle"][1]
    assert sides["start"][1] - sides["start"][0] > 20  # three symbols, not one


def test_a_symbol_that_no_font_has_is_no_warning() -> None:
    assert ink(png(f'{HEAD}<text x="5" y="20" font-size="9">𓀀␣↵</text></svg>')) > 0


@pytest.mark.parametrize(
    "inside",
    [
        '<ellipse cx="1" cy="1" rx="2" ry="3"/>',
        '<g><rect width="1" height="1"/></g>',
        '<path d="M0,0 C1,1 2,2 3,3"/>',
        '<path d="M0,0 a1,1 0 0 0 3,3"/>',
        '<rect width="1" height="1" transform="scale(2)"/>',
        '<text x="1" y="2" transform="scale(2)">a</text>',
        '<rect x="nan" y="0" width="1" height="1"/>',
        "<!-- hidden -->",
    ],
)
def test_what_lmzoo_does_not_draw_is_an_error(inside: str) -> None:
    with pytest.raises(ValueError):
        marks(inside)


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    with pytest.raises(ValueError, match="declares nothing"):
        png(f"{bomb}{HEAD}<text>&b;</text></svg>")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install lmzoo\[plots\]"):
        png(f"{HEAD}</svg>")
