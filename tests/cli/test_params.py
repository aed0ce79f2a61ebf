"""``lmzoo params``: the table, the figure, JSON, and every mistake in one line."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmzoo.registry import models
from tests.cli.runner import Result, fit, lmzoo
from tests.zoo import BUILTINS

TRANSCRIPT = """\
gpt: context_length 1,024, d_model 768, num_layers 12, num_heads 12, d_head 64,
dropout 0.1, bias True, tie_embeddings True, head_bias False, vocabulary 50,257

component            parameters   share      fp32      bf16
token embedding      38,597,376   31.0%  154.4 MB   77.2 MB
position embedding      786,432    0.6%    3.1 MB    1.6 MB
attention q           7,087,104    5.7%   28.3 MB   14.2 MB
attention k           7,087,104    5.7%   28.3 MB   14.2 MB
attention v           7,087,104    5.7%   28.3 MB   14.2 MB
attention o           7,087,104    5.7%   28.3 MB   14.2 MB
MLP                  56,669,184   45.5%  226.7 MB  113.3 MB
norms                    38,400    0.0%  153.6 kB   76.8 kB
head (shared)                 0    0.0%       0 B       0 B
total               124,439,808  100.0%  497.8 MB  248.9 MB

shared            38,597,376 of the head are the token embedding's
trainable         124,439,808 of 124,439,808
optimizer state   995.5 MB (AdamW, two fp32 numbers for each trainable
                  parameter)
"""
PLUGIN = '''
import torch
from torch import nn

from lmzoo import LanguageModel, register_model


@register_model("mine")
class Mine(LanguageModel):
    """One matrix, and a number of its own."""

    def __init__(self, vocab_size: int, context_length: int = 16, d: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, tokens):
        x = self.scale * self.embedding(tokens)
        return x @ self.embedding.weight.T
'''
MISTAKES = [
    ("", "give RUN or --model NAME: neither was given"),
    ("somewhere --model gpt", "both were given"),
    ("nowhere", "nowhere: no such run folder or checkpoint file"),
    ("--model gtp", "did you mean 'gpt'"),
    ("--model gpt --model.d_modle 8", "did you mean --model.d_model?"),
    ("--model gpt --model.d_model x", "--model.d_model: expected int, given x"),
    ("--model gpt --model.d_model", "--model.d_model needs a value"),
    ("--model gpt --model.num_heads 3", "a multiple of 3, given 128"),
    ("--model gpt --model.num_layers 0", "num_layers must be a positive integer"),
    ("--model gpt --model.dropout 2", "dropout must be in [0, 1), given 2.0"),
    ("--model gpt --model.preset gpt3", "no preset 'gpt3'; its presets: openai-gpt"),
    ("--model lstm --model.preset gpt2", "LSTM has no preset 'gpt2'"),
    ("--model heaviside --model.setting no", "expected one of"),
    ("--model gpt --model.vocab_size 9", "--model.vocab_size: give --vocab_size"),
    ("--model gpt --vocab_size 0", "vocab_size must be a positive integer, given 0"),
    ("--model gpt --vocab_size x", "expected int, given x"),
    ("--model gpt --length 0", "--length 0: give 1 token or more"),
    ("--model gpt --length 65", "--length 65: the model sees at most 64 tokens"),
    ("--model gpt --lenght 5", "unknown option --lenght; did you mean --length?"),
    ("--model gpt --diagram .", "--diagram . is a folder"),
    ("--model gpt --diagram /dev/null/a.svg", "cannot write /dev/null/a.svg: "),
    ("--model gpt --model.d_head x", "--model.d_head: expected int, given x"),
    ("--model gpt --plugin none.py", "no such Python file"),
]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The plugin file above."""
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    yield path
    models.forget("mine")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def params(line: str) -> Result:
    """Run ``lmzoo params``, and require success."""
    result = lmzoo(f"params {line}")
    assert result.code == 0, result.err
    return result


def found(line: str) -> dict:
    return json.loads(params(f"{line} --json").out)


def test_the_table_of_gpt2() -> None:
    shown = params("--model gpt --model.preset gpt2").out
    lines = [line.rstrip() for line in shown.splitlines()]

    assert lines[: TRANSCRIPT.count("\n")] == TRANSCRIPT.splitlines()
    assert "854,438,400 training, 284,812,800 inference, at 1,024 tokens" in shown
    assert "75.5 MB in fp32, 37.8 MB in bf16 for one sequence" in shown
    assert "124,439,808 parameters, equal" in shown


@pytest.mark.parametrize("name", [n for n in BUILTINS if n != "pretrained"])
def test_every_member_has_a_table(name: str) -> None:
    shown = params(f"--model {name}").out

    assert "vocabulary 256 for want of a text; --vocab_size N sets it" in shown
    assert "equal" in shown
    assert "NOT" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_vocabulary_is_typed_or_the_presets_or_256() -> None:
    nano = "--model gpt --model.preset gpt-nano"

    assert found(nano)["arguments"]["vocab_size"] == 256
    assert found(f"{nano} --vocab_size 65")["arguments"]["vocab_size"] == 65
    xl = found("--model gpt --model.preset gpt2-xl")
    assert xl["arguments"]["vocab_size"] == 50_257
    assert xl["parameters"] == xl["closed_form"] == 1_557_611_200
    assert not xl["notes"]
    small = found("--model gpt --model.preset gpt2 --vocab_size 10")
    assert small["parameters"] == 124_439_808 - 50_247 * 768


def test_what_is_typed_wins_over_the_preset() -> None:
    shown = found("--model gpt --model.preset gpt2 --model.num_layers=1")

    assert shown["arguments"]["num_layers"] == 1
    assert shown["arguments"]["d_model"] == 768


def test_json_says_what_the_table_says() -> None:
    shown = found("--model lstm --model.d_hidden 8 --model.d_model 8 --vocab_size 5")

    rows = {row["name"]: row["parameters"] for row in shown["components"]}
    assert rows == {"token embedding": 40, "recurrent": 576, "head": 45}
    assert shown["bytes"] == {"fp32": 4 * 661, "bf16": 2 * 661}
    assert shown["optimizer_bytes"] == 8 * 661
    assert shown["state_bytes"] == {"fp32": 64, "bf16": 32}
    assert shown["flops_per_token"] == {"training": 6 * 552, "inference": 2 * 552}
    assert sum(r["share_percent"] for r in shown["components"]) == pytest.approx(100)


def test_flops_at_a_length() -> None:
    short, long = (found(f"--model gpt --length {n}") for n in (1, 64))

    training = [r["flops_per_token"]["training"] for r in (short, long)]
    assert training[1] - training[0] == 12 * 63 * 3 * 128


def test_a_run_is_counted_from_its_checkpoint(story: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(
        f"--data.path {story} --trainer.max_steps 2 --trainer.default_root_dir {folder}"
    )
    story.unlink()
    figure = tmp_path / "deep" / "run.svg"
    shown = found(f"{folder} --diagram {figure}")

    assert shown["model"] == "gpt"
    assert shown["arguments"]["d_model"] == 16
    assert shown["arguments"]["vocab_size"] == 29  # one for the unknown
    assert shown["parameters"] == shown["closed_form"]
    assert "checkpoints/step-000000002.ckpt" in shown["notes"][0]
    assert ET.fromstring(figure.read_text(encoding="utf-8")).tag.endswith("svg")
    for change in ("--model.d_model 8", "--vocab_size 9"):
        refused = lmzoo(f"params {folder} {change}")
        assert refused.code == 2
        assert f"{change.split()[0]} cannot be changed" in refused.err


def test_a_plugin_is_counted_and_drawn(plugin: Path, tmp_path: Path) -> None:
    figure = tmp_path / "mine.svg"
    shown = found(f"--model mine --model.d 3 --plugin {plugin} --diagram {figure}")

    rows = {row["name"]: row["parameters"] for row in shown["components"]}
    assert rows == {"token embedding": 768, "other: scale": 1}
    assert shown["closed_form"] is None
    assert shown["flops_per_token"]["training"] is None
    assert "scale 1" in figure.read_text(encoding="utf-8")


@pytest.mark.parametrize(("line", "said"), MISTAKES)
def test_mistakes_are_one_line(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lmzoo(f"params {line}")

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err
    assert not list(tmp_path.iterdir())


def test_help_names_the_options() -> None:
    shown = lmzoo("params --help")

    assert shown.code == 0
    for option in ("--model.KEY", "--vocab_size", "--length", "--diagram", "--json"):
        assert option in shown.out
