"""``lmzoo inspect attribution | gradflow | attention``: files, and what is refused."""

import csv
import json
from pathlib import Path

import pytest

from tests.analysis.probes.zoo import trained
from tests.cli.runner import lmzoo

REFUSED = [
    # the line after `inspect`, and what the answer must say
    ("attribution gpt --prompt fox --target %", "'%' is not in the vocabulary"),
    ("attribution gpt --prompt fox --target do", "2 tokens (d, o); give one"),
    ("attribution gpt", "the prompt is empty; give --prompt"),
    ("attribution gpt --prompt fox --methods shap", "no method 'shap'; there are grad"),
    ("attribution gpt --prompt fox --methods grad_norm,", "no method ''"),
    ("attribution gpt --prompt fox --layer up --methods grad_cam", "no such layer"),
    (
        "attribution gpt --prompt fox --layer layers.1 --methods grad_cam",
        "exactly zero",
    ),
    ("attribution gpt --prompt fox --layer norm --methods grad_cam", "no such layer"),
    ("attribution gpt --prompt fox --checkpoints 15", "no checkpoint of step 15"),
    ("attribution gpt --prompt fox --baseline % --methods occlusion", "--baseline '%'"),
    ("attribution gpt --prompt fox --quantity probability", "quantity"),
    ("attribution gpt --prompt fox --against nowhere", "nowhere"),
    ("attribution nowhere --prompt fox", "nowhere"),
    ("attribution ngram --prompt fox", "counts and has no gradients; occlusion works"),
    ("gradflow gpt --position 24", "--position 24: the text has 24 steps"),
    ("gradflow gpt --position 3 --prompt fox", "the text has 2 steps"),
    ("gradflow gpt --position -1", "--position -1: give 0 or more"),
    ("gradflow gpt --windows 0", "--windows 0: give 1 or more"),
    ("gradflow gpt --length 99", "context is 24"),
    ("gradflow gpt --corpus nowhere", "nowhere"),
    ("gradflow ngram", "counts and has no gradients"),
    ("gradflow nowhere", "nowhere"),
    ("attention gpt", "the prompt is empty"),
    ("attention lstm --prompt fox", "LSTM has no attention"),
    ("attention ngram --prompt fox", "NGram has no attention"),
]


@pytest.mark.parametrize(("line", "expected"), REFUSED, ids=lambda v: v[:60])
def test_one_line_and_nothing_written(
    line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    probe, name, *rest = line.split()
    run = trained(name) if name != "nowhere" else name
    words = " ".join(["inspect", probe, run, *rest])
    result = lmzoo(f"{words} --out {tmp_path / 'out'}")
    assert result.code == 2, result.out
    assert expected in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert result.err.startswith("error: ")
    assert result.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "line",
    [
        "attribution gpt --prompt fox --target x",
        "attribution gpt --prompt %%",
        "attribution ngram --prompt fox --methods occlusion",
        "gradflow gpt --position 23",
        "attention gpt --prompt fox",
    ],
)
def test_the_controls_are_accepted(line: str, tmp_path: Path) -> None:
    probe, name, *rest = line.split()
    words = " ".join(["inspect", probe, trained(name), *rest])
    result = lmzoo(f"{words} --out {tmp_path / 'out'}")
    assert result.code == 0, result.err
    text = (tmp_path / "out" / f"{probe}.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    numbers = json.loads((tmp_path / "out" / f"{probe}.json").read_text())
    assert rows
    assert numbers["text"]
    assert list((tmp_path / "out").glob("*.svg"))


def test_results_stand_in_the_run() -> None:
    run = trained("ff")
    result = lmzoo(f"inspect attribution {run} --prompt fox --json")
    assert json.loads(result.out)["tokens"] == ["f", "o", "x"]
    assert (Path(run) / "inspect" / "attribution-heat.svg").is_file()
