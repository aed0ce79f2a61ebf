"""``lmzoo models`` and ``lmzoo check``; ``new`` is tested with the plugins."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmzoo.registry import models
from tests.cli.runner import lmzoo

LEAKS = '''
import torch.nn.functional as F
from torch import nn

from lmzoo import LanguageModel, register_model


@register_model("leaks")
class Leaks(LanguageModel):
    """Looks one token ahead."""

    def __init__(self, vocab_size: int, context_length: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 64)
        self.head = nn.Linear(64, vocab_size)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens):
        x = self.embedding(tokens)
        ahead = F.pad(x, (0, 0, 0, 1))[:, 1:]
        return self.head(ahead)
'''


@pytest.fixture
def leaks(tmp_path: Path) -> Iterator[Path]:
    """The plugin file above."""
    path = tmp_path / "leaks.py"
    path.write_text(LEAKS)
    yield path
    models.forget("leaks")


def test_models_lists_every_member_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "_files", {})  # whatever other tests have loaded
    result = lmzoo("models")
    lines = result.out.splitlines()

    assert result.code == 0
    assert [line.split()[0] for line in lines] == list(models.entries()[0])
    assert all(re.fullmatch(r"[a-z0-9-]+ +\S.+\S +lmzoo", line) for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_models_page_has_its_options_presets_and_recipe() -> None:
    page = lmzoo("models palm").out
    cls = models.load("palm")
    options = set(inspect.signature(cls).parameters) - {"vocab_size"}
    shown = re.findall(r"^  --model\.(\w+)", page, re.M)

    assert set(shown) == options
    assert len(shown) == len(options)
    assert "--model.mlp swiglu\n      swiglu, gelu or relu_squared." in page
    assert all(f"\n  {name}: " in page for name in cls.presets)
    assert all(f"  --{key} {value}" in page for key, value in cls.recipe.items())
    assert max(map(len, page.splitlines())) <= 88
    assert lmzoo("fit --model.help palm").out == page


@pytest.mark.parametrize(
    ("line", "there", "never"),
    [
        ("--optimizer.help muon", "--optimizer.ns_steps 5", "hidden"),
        ("--optimizer.help torch.optim.SGD", "--optimizer.momentum 0", "params"),
        ("--lr_scheduler.help wsd", "--lr_scheduler.decay_share", "total_steps"),
        ("--data.help text", "--data.batch_size ", "--data.context_length"),
    ],
)
def test_what_a_class_can_be_told(line: str, there: str, never: str) -> None:
    result = lmzoo(f"fit {line}")
    options = [row for row in result.out.splitlines() if row.startswith("  --")]

    assert result.code == 0
    assert any(row.startswith(f"  {there}") for row in options)
    assert not any(never in row for row in options)


def test_options_that_are_passed_on_are_those_of_the_class_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passing.py").write_text(
        "import torch\n\n\nclass Passing(torch.optim.SGD):\n"
        "    def __init__(self, params, flavour=1, **options):\n"
        "        super().__init__(params, **options)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    page = lmzoo("fit --optimizer.help passing.Passing").out

    assert "--optimizer.flavour 1" in page
    assert "--optimizer.momentum 0" in page
    assert "--optimizer.options" not in page
    wrong = lmzoo("fit --optimizer passing.Passing --optimizer.flavor 2")
    assert "did you mean --optimizer.flavour?" in wrong.err


def test_every_members_page_explains_every_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "_files", {})  # whatever other tests have loaded
    for name in models.entries()[0]:
        rows = lmzoo(["models", name]).out.partition("\n\n")[2].splitlines()
        for row, after in zip(rows, [*rows[1:], ""], strict=True):
            if row.startswith("  --model."):
                assert after.startswith("      "), f"{name}: {row.strip()}"


def test_models_as_json() -> None:
    rows = json.loads(lmzoo("models --json").out)

    assert {"name", "summary", "source", "target"} == set(rows[0])
    assert "gpt" in [row["name"] for row in rows]


@pytest.mark.parametrize("command", ["models", "check", "new"])
def test_help_and_mistakes(command: str) -> None:
    shown, wrong = lmzoo(f"{command} --help"), lmzoo(f"{command} --nope")

    assert (shown.code, wrong.code) == (0, 2)
    assert shown.out.startswith(f"usage: lmzoo {command}")
    assert wrong.err.startswith("error: ")
    assert wrong.err.endswith(f"see lmzoo {command} --help\n")


def test_check_of_a_law_abiding_model() -> None:
    result = lmzoo("check gpt")

    assert result.code == 0, result.out
    assert "causality" in result.out


def test_check_of_a_model_that_leaks(leaks) -> None:
    result = lmzoo(f"check leaks --plugin {leaks}")

    assert result.code == 1
    assert re.search(r"causality +broken", result.out, re.IGNORECASE)


def test_check_of_an_exhibit_that_breaks_what_it_says() -> None:
    result = lmzoo("check conv-noncausal")

    assert result.code == 0, result.out
    assert re.search(r"causality +broken", result.out, re.IGNORECASE)


def test_check_of_a_wrong_name_does_no_work() -> None:
    result = lmzoo("check gpt gtp")

    assert result.code == 2
    assert result.out == ""
    assert "did you mean 'gpt'" in result.err
