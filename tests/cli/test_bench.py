"""``lmzoo bench``: the table, the figure, JSON, and every mistake in one line."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.cli.runner import lmzoo

QUICK = "--rounds 1 --batch 1 --base 2 --lengths 1,2,4 --threads 1 --vocab_size 9"
MISTAKES = [
    ("--models gtp", "did you mean 'gpt'"),
    ("--models gpt,,gru", "--models 'gpt,,gru': give names with commas"),
    ("--models gpt,gpt", "--models: gpt is given twice"),
    ("--models ngram", "ngram: a counting model has no backward pass"),
    ("--lengths 2,1", "--lengths '2,1': expected increasing multiples"),
    ("--lengths x", "--lengths 'x': expected increasing multiples"),
    ("--lengths 0,1", "--lengths '0,1': expected increasing multiples"),
    ("--base 0", "--base 0: give 1 token or more"),
    ("--batch 0", "batch must be 1 or more, given 0"),
    ("--rounds 0", "rounds must be 1 or more, given 0"),
    ("--threads 0", "threads must be 1 or more, given 0"),
    ("--vocab_size 0", "given 0"),
    ("--vocab_size x", "expected int, given x"),
    ("--lenghts 1", "unknown option --lenghts; did you mean --lengths?"),
    ("--length 1", "unknown option --length; did you mean --lengths?"),
    ("--match.params 0", "--match.params 0: give a number above 0"),
    ("--match.params x", "--match.params x: give a number above 0"),
    ("--models gpt --match.params 20", "gpt cannot have 20 parameters"),
    ("--match.parms 9", "unknown option --match.parms; did you mean --match.params?"),
    ("--plot .", "--plot . is a folder"),
    ("gpt", "gpt"),
]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def test_a_row_for_each_model_and_a_column_for_each_length(tmp_path: Path) -> None:
    figure = tmp_path / "deep" / "times.svg"
    result = lmzoo(f"bench --models mlp,gpt,gru {QUICK} --plot {figure}")

    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "1 sequence a pass (2, 4, 8 tokens), 1 thread, fp32 on the CPU"
    heads = [line.split() for line in lines if line.endswith("tokens/s")]
    titles = [line.strip() for line in lines if line.strip().endswith(", ms")]
    assert titles == ["forward, ms", "forward + backward, ms"]
    assert [head[:-6] for head in heads] == [["parameters"]] * 2
    assert heads[0][-6:] == ["2", "4", "8", "±", "exponent", "tokens/s"]
    for model in ("mlp", "gpt", "gru"):
        rows = [line for line in lines if re.match(rf"{model} +\d", line)]
        assert len(rows) == 2
        assert all(len(row.split()) == 8 for row in rows)
    assert "a table of positions grows" in result.out
    assert " ".join(result.out.split()).count("the order to expect ") == 2
    assert f"plot: {figure}" in result.out
    assert ET.fromstring(figure.read_text(encoding="utf-8")).tag.endswith("svg")


def test_equal_parameters_are_found_and_said() -> None:
    line = f"bench --models conv,mlp,gpt,gru {QUICK} --match.params 20k"
    matched = lmzoo(line)
    found = json.loads(lmzoo(f"{line} --json").out)

    assert matched.code == 0, matched.err
    assert all(19_600 <= one["parameters"][0] <= 20_400 for one in found.values())
    for label, one in found.items():
        rows = re.findall(rf"^{label} +([\d,]+) ", matched.out, re.MULTILINE)
        assert rows == [f"{one['parameters'][0]:,}"] * 2
    assert " ".join(matched.out.split()).count("tokens, equal parameters, ") == 2


def test_what_cannot_be_sized_is_timed_and_marked() -> None:
    result = lmzoo(f"bench --models mlp,conv-noncausal {QUICK} --match.params 20k")

    assert result.code == 0, result.err
    assert "conv-noncausal is an exhibit" in result.err
    assert result.out.count("conv-noncausal (not matched) ") == 2


def test_json_is_plain() -> None:
    result = lmzoo("bench --models bare --rounds 1 --batch 1 --lengths 1 --json")

    assert result.code == 0, result.err
    found = json.loads(result.out)["bare"]
    assert found["lengths"] == [16]
    assert found["exponent"] is None  # one length shows no growth
    assert found["tokens_per_second"][0] > 0


@pytest.mark.parametrize(("line", "said"), MISTAKES)
def test_mistakes_are_one_line(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lmzoo(f"bench {line}")

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err
    assert not list(tmp_path.iterdir())
