"""Recipes: what they train, and what they refuse."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lmzoo.errors import UsageError
from lmzoo.study.recipe import Recipe, read
from lmzoo.study.steps import home_prompt

PLAIN: dict[str, Any] = {
    "corpora": ["kjv", "pydoc"],
    "models": ["gpt", "lstm"],
    "fit": {"model": {"d_model": 16}, "trainer": {"max_steps": 20}},
    "overrides": {"lstm": {"model": {"d_hidden": 8}}},
    "prompts": [{"prompt": "Once", "target": "a", "home": ["shakespeare", "pydoc"]}],
}


def recipe(**changes: Any) -> Recipe:
    return read({**PLAIN, **changes}, "some/quick.yaml")


def test_every_model_meets_every_corpus() -> None:
    found = recipe()

    assert list(found.runs()) == ["gpt-kjv", "gpt-pydoc", "lstm-kjv", "lstm-pydoc"]
    words = found.arguments("lstm-pydoc")
    assert words[:2] == ["--model=lstm", "--data.corpus=pydoc"]
    assert "--model.d_model=16" in words
    assert "--model.d_hidden=8" in words
    assert "--model.d_hidden=8" not in found.arguments("gpt-pydoc")
    assert found.name == "quick"


def test_other_texts_take_the_places(tmp_path: Path) -> None:
    file = tmp_path / "hardy.txt"
    file.write_text("text")
    found = recipe().with_corpora(f"math={file},kjv")

    assert found.corpora == {"math": str(file), "kjv": "kjv"}
    assert f"--data.path={file}" in found.arguments("gpt-math")
    assert found.digest() != recipe().digest()


def test_a_path_without_a_name_is_called_by_its_stem(tmp_path: Path) -> None:
    file = tmp_path / "texts" / "hardy.v2.txt"
    file.parent.mkdir()
    file.write_text("text")
    found = recipe(corpora=["kjv"]).with_corpora(f"{file},kjv")

    assert found.corpora == {"hardy": str(file), "kjv": "kjv"}
    assert list(found.runs()) == ["gpt-hardy", "gpt-kjv", "lstm-hardy", "lstm-kjv"]
    assert recipe(corpora=[str(file)]).corpora == {"hardy": str(file)}


def test_another_text_in_the_same_file_is_another_study(tmp_path: Path) -> None:
    file = tmp_path / "hardy.txt"
    file.write_text("text")
    found = recipe().with_corpora(f"math={file},kjv")
    before = found.digest()
    assert found.digest() == before
    assert list(found.texts()) == ["math"]

    file.write_text("another text")
    assert found.digest() != before


def test_what_is_trained_decides_the_folder() -> None:
    assert recipe().digest() == recipe(options={"samples": {"seed": 3}}).digest()
    assert recipe().digest() != recipe(seed=3).digest()


def test_a_run_has_the_prompt_of_its_domain() -> None:
    prompts = [{"prompt": "f(x)", "target": "x"}, *PLAIN["prompts"]]
    found = recipe(prompts=prompts)

    assert getattr(home_prompt(found, "gpt-pydoc"), "text", "") == "Once"
    assert getattr(home_prompt(found, "gpt-kjv"), "text", "") == "f(x)"
    assert home_prompt(dataclasses.replace(found, prompts=()), "gpt-kjv") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"corpus": "kjv"}, "unknown key 'corpus'"),
        ({"corpora": []}, "corpora: give a list"),
        ({"models": "gpt"}, "models: give a list"),
        ({"early": "late"}, "whole numbers"),
        ({"fit": {"data": {"corpus": "kjv"}}}, "what the study itself decides"),
        ({"fit": [1]}, "fit: expected a mapping"),
        ({"prompts": [{"prompt": "a"}]}, "prompt, target and home"),
        ({"prompts": {"prompt": "a"}}, "prompts: expected a list"),
        (
            {"prompts": [{"prompt": "a", "target": "b", "home": "math"}]},
            r"give a list of corpora, as \[math\]",
        ),
        ({"overrides": {"lstm": 3}}, "overrides: lstm: expected a mapping"),
        (
            {"overrides": {"lstn": {"model": {"d_model": 8}}}},
            "overrides: lstn is not among models; did you mean 'lstm'",
        ),
        ({"options": {"softmax": 3}}, "options: softmax: expected a mapping"),
        ({"corpora": {"a/b": "kjv"}}, "'a/b' is no name for a corpus"),
        ({"corpora": ["texts/*.txt"]}, "is no name for a corpus"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        recipe(**changes)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("math=", "give names"),
        ("=x", "give names"),
        ("kjv,kjv", "named twice"),
        ("math=/no/such/file.txt", "no such file"),
        ("a/math.txt,b/math.txt", "math is named twice; give name=PATH"),
        ("x/y=kjv", "'x/y' is no name for a corpus"),
    ],
)
def test_corpora_that_cannot_be_meant(typed: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        recipe().with_corpora(typed)
