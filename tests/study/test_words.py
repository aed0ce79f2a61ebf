"""What the report says follows from the numbers."""

from pathlib import Path
from typing import Any

import pytest

from lmzoo.report.finding import Finding
from lmzoo.study import cache
from lmzoo.study.engine import Study
from lmzoo.study.entropy import domains
from lmzoo.study.lab import beside_the_lab
from lmzoo.study.recipe import read
from lmzoo.study.report import contents
from lmzoo.study.steps import Step
from tests.cli.runner import Result, lmzoo
from tests.study.conftest import Tiny


def cell(model: str, corpus: str, split: str, value: float) -> dict[str, Any]:
    return {
        "model": model,
        "corpus": corpus,
        "split": split,
        "nats_per_char": value,
        "own_corpus": model == corpus,
    }


def studied(*cells: dict[str, Any], models: tuple[str, ...] = ("gpt",)) -> Study:
    """A study that found a matrix and an architecture."""
    recipe = read({"corpora": ["kjv"], "models": list(models)}, "quick.yaml")
    built = {
        "arguments": {"num_layers": 2, "d_model": 64, "dropout": 0.0},
        "data": {"batch_size": 12},
        "training": {"optimizer.lr": 0.004, "trainer.max_steps": 600},
        "parameters": 112768,
    }
    found = [
        (
            Step("II", "architecture-gpt-kjv", "architecture", "x"),
            Finding("a", "A", data=built),
        ),
        (Step("VI", "matrix", "transfer-matrix", []), Finding("m", "M",
         text=["training text: low", "held-out text: high"],
         data={"cells": list(cells)})),
    ]  # fmt: skip
    return Study(recipe, Path("none"), found)


def test_in_sample_loss_stands_beside_the_lab_as_it_is() -> None:
    higher = cell("kjv", "kjv", "train", 2.53), cell("kjv", "kjv", "val", 2.31)
    notes = " ".join(beside_the_lab(studied(*higher)).notes)
    assert "in-sample, on training text, our diagonal is kjv 2.530" in notes
    assert "higher for that alone" not in notes  # it may be lower, as here

    notes = " ".join(beside_the_lab(studied(higher[1])).notes)
    assert "the column of ours is held-out text" in notes
    assert "our diagonal" not in notes


def test_the_sizes_beside_the_lab_are_those_of_the_runs() -> None:
    notes = " ".join(beside_the_lab(studied()).notes)
    assert (
        "Here (gpt): layers 2, width 64, dropout 0.0, batch 12, steps 600, peak "
        "learning rate 0.004; 112,768 parameters" in notes
    )
    other = studied()
    other.found[0][1].data["arguments"]["d_model"] = 128
    assert "width 128, dropout" in " ".join(beside_the_lab(other).notes)


def test_the_summary_speaks_of_every_kind_of_model() -> None:
    several = studied(models=("gpt", "ff"))
    for model in ("gpt", "ff"):
        for section, start in (("VII", "last"), ("VIII", "early")):
            step = Step(section, f"fewshot-{model}-{start}", "transfer-fewshot", [])
            lines = [f"{model} adapted", f"Starting from an earlier one: {model}"]
            several.found.append((step, Finding("f", "F", text=lines)))
    assert contents(several)[0].text[1:] == [
        "Held-out text: high",
        "gpt: gpt adapted",
        "ff: ff adapted",
        "gpt: Starting from an earlier one: gpt",
        "ff: Starting from an earlier one: ff",
    ]


def test_entropy_stands_beside_what_is_outside_the_vocabulary() -> None:
    recipe = read(
        {"corpora": ["kjv"], "prompts": [{"prompt": "a", "target": "b"}]}, "q.yaml"
    )
    texts = {
        "home": {"entropy": 2.0, "cross_entropy": 2.1},
        "away": {"entropy": 2.5, "cross_entropy": 9.0},
    }
    data = {
        "checkpoints": [{"step": 1, "mean_entropy": 1.0, "texts": texts}],
        "texts": [
            {"name": "home", "domain": "in", "unknown": 0.0},
            {"name": "away", "domain": "out", "unknown": 0.25},
        ],
    }
    step = Step("IX", "softmax-gpt-kjv-1", "softmax", "x")
    found = domains(Study(recipe, Path("x"), [(step, Finding("s", "S", data=data))]))

    assert found is not None
    assert found.tables[0].heads.count("unknown") == 2
    assert found.tables[0].rows[0][-1] == "25.00 %"
    assert "outside the vocabulary (up to 25.0 % of a text)" in found.text[0]
    assert "does not know" not in found.text[0]


def test_outputs_are_kept_when_an_earlier_checkpoint_goes(
    tiny: Tiny, first: Result
) -> None:
    run = tiny.place / "runs" / "gpt-bells"
    last = Step("IV", "o", "samples", str(run), {"checkpoints": "last"}, (run,))
    every = Step("III", "s", "samples", str(run), {}, (run,))
    before = cache.key(last), cache.key(every)
    early = run / "checkpoints" / "step-000000010.ckpt"
    content = early.read_bytes()
    early.unlink()
    try:
        after = cache.key(last), cache.key(every)
    finally:
        early.write_bytes(content)
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert (cache.key(last), cache.key(every)) == before


@pytest.mark.parametrize("word", ["study_nanogpt_lab.yaml", "--extra-probe"])
def test_help_names_what_there_is(word: str) -> None:
    assert word in lmzoo("study --help").out
