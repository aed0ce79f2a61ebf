"""A tiny study from end to end: it writes a report, goes on, and repeats nothing."""

import json
import re
import sys
from pathlib import Path

import pytest

from lmzoo.registry import probes
from tests.cli.runner import Result, lmzoo

HERE = Path(__file__).parent
RECIPE = """
corpora: {{bells: {0}/bells.txt, math: {0}/math.txt}}
models: [gpt]
fit:
  model: {{num_layers: 1, num_heads: 2, d_model: 16, context_length: 16}}
  data: {{batch_size: 4}}
  trainer: {{max_steps: 20}}
  checkpoints: {{every_n_steps: 10}}
  samples: {{length: 8}}
early: 10
prompts:
  - {{prompt: "the x^2 is", target: b, home: [math]}}
  - {{prompt: "the bells", target: "%", home: [shakespeare, bells]}}
options:
  samples: {{num_samples: {1}, max_new_tokens: 30}}
  outputs: {{max_new_tokens: 30}}
  curve: {{max_tokens: 500}}
  matrix: {{max_tokens: 500}}
  fewshot: {{at: "0,2,4", seeds: 1, max_tokens: 500, length: 10}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("study")
    (made / "bells.txt").write_text("the bells ring over a town by the sea\n" * 300)
    (made / "math.txt").write_text(
        "the sum of x^2 over a set is bounded by x^3\n" * 300
    )
    write(made, 2)
    return made


def write(folder: Path, samples: int) -> None:
    (folder / "tiny.yaml").write_text(RECIPE.format(folder, samples))


def study(folder: Path, more: str = "") -> Result:
    line = f"study {folder / 'tiny.yaml'} --out {folder / 'study'} {more}"
    result = lmzoo(line)
    assert result.code == 0, result.err
    return result


@pytest.fixture(scope="module")
def first(folder: Path) -> Result:
    return study(folder)


def counts(result: Result) -> tuple[int, int]:
    found = re.search(r"(\d+) steps done, (\d+) kept", result.out)
    assert found, result.out
    return int(found[1]), int(found[2])


def test_every_section_is_in_the_report(first: Result, folder: Path) -> None:
    page = (folder / "study" / "report.html").read_text()
    numbers = re.findall(r"<h2>([IVX]+)\. ", page)

    assert numbers == ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"]
    assert "Beside the lab" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="', page)
    assert counts(first)[1] == 0


def test_markdown_has_its_pictures(first: Result, folder: Path) -> None:
    text = (folder / "study" / "report.md").read_text()
    named = re.findall(r"\]\((report/[^)]+)\)", text)

    assert len(named) > 10
    for name in named:
        assert (folder / "study" / name).read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_done_is_said_and_stops_nothing(
    first: Result, folder: Path
) -> None:
    assert "attribution-gpt-bells-2" in first.err
    page = (folder / "study" / "report.html").read_text()
    assert "not possible" in page
    assert (
        folder / "study" / "findings" / "attribution-gpt-bells-1-after.json"
    ).is_file()


def test_again_it_does_nothing(first: Result, folder: Path) -> None:
    again = study(folder)

    assert counts(again) == (0, counts(first)[0])
    assert "trained gpt-bells" in again.out
    assert "kept" in again.out


def test_a_changed_option_runs_its_probe_again(first: Result, folder: Path) -> None:
    write(folder, 3)
    try:
        done, kept = counts(study(folder))
    finally:
        write(folder, 2)
    assert (done, kept) == (2, counts(first)[0] - 2)
    assert counts(study(folder)) == (2, counts(first)[0] - 2)


def test_a_damaged_finding_is_made_again(first: Result, folder: Path) -> None:
    study(folder)
    file = folder / "study" / "findings" / "matrix.json"
    file.write_text(file.read_text()[:-20])

    assert counts(study(folder))[0] == 1
    assert json.loads(file.read_text())["finding"]["name"]


def test_a_probe_of_ones_own_is_a_section(first: Result, folder: Path) -> None:
    try:
        study(folder, f"--extra-probe {HERE / 'probe.py'}")
        page = (folder / "study" / "report.html").read_text()
    finally:
        probes.forget("steps-kept")
    assert "XI. Further probes" in page
    assert "checkpoints." in page


def test_without_matplotlib_a_line_says_so(
    first: Result, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = study(folder)

    assert "pip install lmzoo[plots]" in result.err
    assert "in report.html" in (folder / "study" / "report.md").read_text()


def test_another_training_needs_another_folder(first: Result, folder: Path) -> None:
    file = folder / "other.yaml"
    file.write_text(RECIPE.format(folder, 2).replace("max_steps: 20", "max_steps: 30"))
    result = lmzoo(f"study {file} --out {folder / 'study'}")

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
def test_mistakes_are_one_line(folder: Path, line: str, says: str) -> None:
    result = lmzoo(f"study {line.format(folder / 'tiny.yaml')}")

    assert result.code == 2
    assert says in result.err
    assert result.err.count("\n") == 1
