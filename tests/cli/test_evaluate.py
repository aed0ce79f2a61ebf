"""``lmzoo eval``: accuracy printed and written, bad input in one line."""

import json
from pathlib import Path

import pytest

from tests.cli.runner import fit, lmzoo

TASK = Path(__file__).parent.parent.parent / "configs" / "tasks" / "spelling.jsonl"
PLUGIN = """
import torch
from lmzoo.models.base import LanguageModel
from lmzoo.registry import register_model

@register_model("tally")
class Tally(LanguageModel):
    def __init__(self, vocab_size: int, context_length: int = 16) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(vocab_size, vocab_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(tokens)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("eval")
    (made / "text.txt").write_text("the people saw a captain and the soldier\n" * 300)
    (made / "tally.py").write_text(PLUGIN)
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    text = f"--data.path {folder / 'text.txt'} --trainer.max_steps 5"
    fit(f"{text} --trainer.default_root_dir {folder / 'run'}")
    return folder / "run"


def test_it_prints_and_writes(run: Path) -> None:
    result = lmzoo(f"eval {run} --task {TASK} --shots 0,1")

    assert result.code == 0, result.err
    assert "asked   'And this is the'" in result.out
    assert "chance, which is 25.0 %" in result.out
    written = json.loads((run / "eval" / "eval-spelling.json").read_text())
    assert list(written["shots"]) == ["0", "1"]
    rows = (run / "eval" / "eval-spelling.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * written["items"]


@pytest.mark.parametrize("model", ["ngram", "lstm", "ff", "conv", "tally"])
def test_every_model_can_be_asked(folder: Path, model: str) -> None:
    plugin = f"--plugin {folder / 'tally.py'}" if model == "tally" else ""
    place = folder / model
    steps = "" if model == "ngram" else "--trainer.max_steps 2"
    made = lmzoo(
        f"fit {plugin} --model {model} --data.path {folder / 'text.txt'} {steps} "
        f"--trainer.default_root_dir {place}"
    )
    assert made.code == 0, made.err
    result = lmzoo(f"eval {place} {plugin} --task {TASK} --shots 1 --json")
    assert result.code == 0, result.err
    assert 0 <= json.loads(result.out)["shots"]["1"]["accuracy"] <= 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "--task: name a JSONL file"),
        ("--task {task} --shots one", "--shots one: give numbers"),
        ("--task {task} --shots -1", "--shots -1: give numbers"),
        ("--task {task} --shots 0,,1", "give numbers"),
        ("--task {task} --shots 57", "give 56 at most"),
        ("--task missing.jsonl", "missing.jsonl"),
        ("--task {task} --shoots 1", "see lmzoo eval --help"),
    ],
)
def test_mistakes_are_one_line(run: Path, line: str, says: str) -> None:
    result = lmzoo(f"eval {run} {line.format(task=TASK)}")

    assert result.code == 2
    assert says in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
