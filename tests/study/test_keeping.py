"""What a study keeps, and what makes it look again."""

import os
import shutil
from collections import Counter
from functools import wraps
from pathlib import Path

import pytest

from lmzoo.analysis.history import History
from lmzoo.analysis.probes.curve import curve
from lmzoo.registry import probes
from tests.study.conftest import Tiny

PROBE = '''
import numpy as np

from lmzoo.registry import register_probe
from lmzoo.report.finding import Finding


@register_probe("one-word")
def one_word(runs: list[str]) -> Finding:
    """Say one word."""
    {0}
    return Finding("one-word", "One word", text=["{1}"], data={{"n": np.float32(2)}})
'''


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    return tmp_path / "word.py"


def with_probe(tiny: Tiny, probe: Path, body: str, word: str) -> tuple[str, str]:
    """Terminal and page of the study with a probe of one's own."""
    probe.write_text(PROBE.format(body, word))
    try:
        result = tiny.study(f"--extra-probe {probe}")
    finally:
        probes.forget("one-word")
    return result.out + result.err, (tiny.place / "report.html").read_text()


def test_an_edited_probe_is_asked_again(tiny: Tiny, probe: Path) -> None:
    told, page = with_probe(tiny, probe, "pass", "first")
    assert "1 steps done" in told  # numpy's numbers are numbers
    assert "<p>first</p>" in page
    told, page = with_probe(tiny, probe, "pass", "first")
    assert "0 steps done" in told
    told, page = with_probe(tiny, probe, "pass", "second")
    assert "1 steps done" in told
    assert "<p>second</p>" in page


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise ValueError('a fault\\nof two lines')", "ValueError: a fault of two"),
        ("return Finding('o', 'O', data={'a': {1, 2}})", "set {1, 2} cannot be"),
        ("return 3", "AttributeError"),
    ],
)
def test_a_probe_that_fails_is_a_line_and_the_report_is_written(
    tiny: Tiny, probe: Path, body: str, why: str
) -> None:
    before = (tiny.place / "report.md").stat().st_mtime_ns
    told, page = with_probe(tiny, probe, body, "never")

    assert "note: one-word: " in told
    assert why in told
    assert "one-word: not possible here" in page
    assert "X. Attribution" in page
    assert (tiny.place / "report.md").stat().st_mtime_ns > before


def test_a_fault_of_lmzoo_itself_is_not_hidden(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    @wraps(curve)
    def broken(*_: object, **__: object) -> None:
        raise ValueError("of lmzoo")

    monkeypatch.setattr("lmzoo.analysis.probes.curve.curve", broken)
    (tiny.place / "findings" / "curve-gpt-math.json").unlink()
    with pytest.raises(ValueError, match="of lmzoo"):
        tiny.study()


def test_a_changed_text_is_another_study(tiny: Tiny) -> None:
    file = tiny.folder / "bells.txt"
    text = file.read_text()
    file.write_text(text.replace("ring", "sing"))
    try:
        result = tiny.study(code=2)
    finally:
        file.write_text(text)
    assert "a file has changed since" in result.err
    assert tiny.study().code == 0


def test_a_moved_study_is_kept_whole(tiny: Tiny, tmp_path: Path) -> None:
    tiny.study()
    shutil.copytree(tiny.place, tmp_path / "moved")
    moved = Tiny(tiny.folder, tmp_path / "moved")

    assert tiny.counts(moved.study()) == (0, tiny.counts(tiny.study())[1])


def test_each_run_is_opened_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    begin = History.__init__

    def counted(self: History, path: str | os.PathLike[str]) -> None:
        opened[os.fspath(path)] += 1
        begin(self, path)

    shutil.rmtree(tiny.place / "findings")
    monkeypatch.setattr(History, "__init__", counted)
    result = tiny.study()

    assert " 0 kept" in result.out
    assert set(opened.values()) == {1}
    assert len(opened) == 2 + 2  # the runs, and what each was adapted to


def test_a_picture_is_drawn_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.study()
    pictures = tiny.place / "report"
    stale = pictures / "figure-0123456789abcdef.png"
    stale.write_bytes(b"of an earlier report")
    lost = sorted(pictures.glob("figure-*.png"))[-1]
    lost.unlink()
    drawn = []
    monkeypatch.setattr(
        "lmzoo.report.png.png", lambda svg: drawn.append(svg) or b"\x89PNG"
    )
    tiny.study()

    assert len(drawn) == 1
    assert lost.read_bytes() == b"\x89PNG"
    assert not stale.exists()
    lost.unlink()  # what is no picture must not stay
