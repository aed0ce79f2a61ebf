"""The whole exercise: a text cut in two, a model tuned on each, one report of three."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import lmzoo
from lmzoo.cli.finetune import read
from lmzoo.errors import UsageError
from tests.cli.runner import lmzoo as command
from tests.models.test_pretrained import source

__all__ = ["source"]  # the fixture: a small GPT-2 as transformers saves it
PHRASE = "the lazy dog"
FIT = {
    "data": {"batch_size": 4, "test_fraction": 0.0},
    "optimizer": {"lr": 0.01},
    "trainer": {"max_steps": 20, "val_check_interval": 10},
    "samples": {"length": 4},
}


@pytest.fixture
def recipe(tmp_path: Path, story: Path) -> Path:
    imported = tmp_path / "elsewhere.json"
    tokens, logprobs = ["the", " lazy dog"], [None, -3.0]
    imported.write_text(
        json.dumps({"name": "elsewhere", "tokens": tokens, "logprobs": logprobs})
    )
    file = tmp_path / "own.yaml"
    content = {
        "text": str(story),
        "split": {"by": "regex", "pattern": "fox"},
        "fit": FIT,
        "prompts": ["the quick"],
        "phrases": [{"text": PHRASE, "import": str(imported)}, "five dozen jugs"],
        "generation": {"max_new_tokens": 8},
    }
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_report_sets_three_models_side_by_side(
    recipe: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = f"finetune {recipe} --source {source} --out {out}"
    result = command(line)
    assert result.code == 0, result.err
    found = json.loads((out / "report.json").read_text())
    names = ["original", "matching model", "rest model"]
    assert [model["name"] for model in found["models"]] == names
    cells = {(c["model"], c["text"]): c["perplexity"] for c in found["validation"]}
    assert len(cells) == 6
    for corpus in ("matching", "rest"):  # tuned < original on its own; and < the other
        assert cells[f"{corpus} model", corpus] == min(
            value for (_, text), value in cells.items() if text == corpus
        )
    stated = json.loads((out / "rest" / "summary.json").read_text())
    figure = stated["best"]["metrics"]["perplexity"]
    assert cells["rest model", "rest"] == pytest.approx(figure, rel=1e-4)
    assert set(found["continuations"]["the quick"]) == set(names)
    scored = {m["name"]: m for m in found["phrases"][0]["models"]}
    assert list(scored) == [*names, "elsewhere"]
    assert scored["elsewhere"]["nats"] == 3.0
    alone = lmzoo.load(out / "matching").score(PHRASE)
    assert scored["matching model"]["nats"] == pytest.approx(alone.nats)
    assert len(found["phrases"][1]["models"]) == 3
    words = (out / "report.md").read_text()
    for said in ("in its training text", "all of it", "Likeliest next", "elsewhere"):
        assert said in words
    assert "had it in the training text" in found["observations"][-2]
    assert "<svg" not in words
    assert "</html>" in (out / "report.html").read_text()

    again = command(line)  # what is done is kept
    assert again.code == 0, again.err
    assert again.out.count("is finished") == 2
    assert json.loads((out / "report.json").read_text()) == found
    other = recipe.read_text().replace("fox", "box")
    recipe.write_text(other)
    refused = command(line)
    assert refused.code == 2
    assert "choose another --out" in refused.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"texts": "a"}, "'texts' is unknown"),
        ({"split": {"how": "long"}}, "not 'how'"),
        ({"fit": {"model": {"source": "x"}}}, "fit.model.source is decided here"),
        ({"fit": {"data": {"path": "x"}}}, "fit.data.path is decided here"),
    ],
)
def test_what_would_not_be_read_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(content, "own.yaml")
    assert read({"fit": FIT}, "own.yaml")["fit"]["trainer.max_steps"] == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phrases": [{"txt": "a"}]}, "a phrase is a text"),
        ({"phrases": [{"text": "a", "import": "nosuch.json"}]}, "nosuch.json"),
        ({"text": None}, "it names no text"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    change: dict[str, Any], said: str, recipe: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(recipe.read_text()) | change
    recipe.write_text(yaml.safe_dump(content))
    result = command(f"finetune {recipe} --source nowhere/. --out {tmp_path / 'out'}")
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "out").exists()
