"""A tiny study from end to end: it writes a report, goes on, and repeats nothing."""

import json
import re
import sys
from pathlib import Path

import pytest

from lmzoo.registry import probes
from tests.cli.runner import Result, lmzoo
from tests.study.conftest import RECIPE, Tiny

HERE = Path(__file__).parent


def test_every_section_is_in_the_report(first: Result, tiny: Tiny) -> None:
    page = (tiny.place / "report.html").read_text()
    numbers = re.findall(r"<h2[^>]*>([IVX]+)\. ", page)

    assert numbers == ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"]
    assert "Beside the lab" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="[^#]', page)
    assert tiny.counts(first)[1] == 0


def test_markdown_has_its_pictures(first: Result, tiny: Tiny) -> None:
    text = (tiny.place / "report.md").read_text()
    named = re.findall(r"\]\((report/[^)]+)\)", text)

    assert len(named) > 10
    for name in named:
        assert (tiny.place / name).read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_done_is_said_and_stops_nothing(
    first: Result, tiny: Tiny
) -> None:
    assert "attribution-gpt-bells-2" in first.err
    page = (tiny.place / "report.html").read_text()
    assert "not possible" in page
    assert (tiny.place / "findings" / "attribution-gpt-bells-1-after.json").is_file()


def test_again_it_does_nothing(first: Result, tiny: Tiny) -> None:
    again = tiny.study()

    assert tiny.counts(again) == (0, tiny.counts(first)[0])
    assert "trained gpt-bells" in again.out
    assert "kept" in again.out


def test_a_changed_option_runs_its_probe_again(first: Result, tiny: Tiny) -> None:
    tiny.write(3)
    try:
        done, kept = tiny.counts(tiny.study())
    finally:
        tiny.write(2)
    assert (done, kept) == (2, tiny.counts(first)[0] - 2)
    assert tiny.counts(tiny.study()) == (2, tiny.counts(first)[0] - 2)


def test_a_damaged_finding_is_made_again(first: Result, tiny: Tiny) -> None:
    tiny.study()
    file = tiny.place / "findings" / "matrix.json"
    file.write_text(file.read_text()[:-20])

    assert tiny.counts(tiny.study())[0] == 1
    assert json.loads(file.read_text())["finding"]["name"]


def test_a_probe_of_ones_own_is_a_section(first: Result, tiny: Tiny) -> None:
    try:
        tiny.study(f"--extra-probe {HERE / 'probe.py'}")
        page = (tiny.place / "report.html").read_text()
    finally:
        probes.forget("steps-kept")
    assert "XI. Further probes" in page
    assert "checkpoints." in page


def test_without_matplotlib_a_line_says_so(
    first: Result, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = tiny.study()

    assert "pip install lmzoo[plots]" in result.err
    assert "in report.html" in (tiny.place / "report.md").read_text()


def test_another_training_needs_another_folder(first: Result, tiny: Tiny) -> None:
    file = tiny.folder / "other.yaml"
    file.write_text(
        RECIPE.format(tiny.folder, 2).replace("max_steps: 20", "max_steps: 30")
    )
    result = lmzoo(f"study {file} --out {tiny.place}")

    assert result.code == 2
    assert "trained otherwise" in result.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("missing.yaml", "missing.yaml"),
        ("{} --corpora math=", "give names"),
        ("{} --parallel 0", "give 1 or more"),
        ("{} --extra-probe none.py", "no such Python file"),
    ],
)
def test_mistakes_are_one_line(tiny: Tiny, line: str, says: str) -> None:
    result = lmzoo(f"study {line.format(tiny.folder / 'tiny.yaml')}")

    assert result.code == 2
    assert says in result.err
    assert result.err.count("\n") == 1
