"""Every file of configs/ parses, and names the model that its own name promises."""

from pathlib import Path

import pytest
import yaml

from lmzoo.cli import compare_arguments, finetune
from lmzoo.registry import models
from lmzoo.study.options import check
from lmzoo.study.recipe import read
from tests.cli.runner import lmzoo
from tests.zoo import BUILTINS

FOLDER = Path(__file__).parent.parent / "configs"
EVERY = sorted(FOLDER.glob("*.yaml"))
STUDIES = [file for file in EVERY if file.stem.startswith("study_")]
COMPARED = [file for file in EVERY if file.stem.startswith("compare_")]
TUNED = [file for file in EVERY if file.stem.startswith("finetune_")]
FITS = [file for file in EVERY if file not in (*STUDIES, *COMPARED, *TUNED)]


def test_every_member_has_a_file() -> None:
    members = set(BUILTINS) - {"pretrained"}  # which starts from a folder
    assert members <= {file.stem for file in FITS}


@pytest.mark.parametrize("file", FITS, ids=lambda file: file.stem)
def test_it_parses(file: Path) -> None:
    result = lmzoo(f"fit --config {file} --print_config")
    assert result.code == 0, result.err
    if file.stem in models._builtins:
        assert f"class_path: {models.class_path(file.stem)}" in result.out


@pytest.mark.parametrize("file", COMPARED, ids=lambda file: file.stem)
def test_a_comparison_is_understood_and_each_of_its_cells_by_fit(file: Path) -> None:
    comparison = compare_arguments.read(["--config", str(file)]).comparison

    assert len(comparison.seeds) >= 3
    for variant in comparison.variants():
        result = lmzoo(f"fit {' '.join(variant.arguments(1))} --print_config")
        assert result.code == 0, result.err


@pytest.mark.parametrize("file", TUNED, ids=lambda file: file.stem)
def test_fine_tuning_is_understood_by_fit(file: Path) -> None:
    pytest.importorskip("transformers")
    wanted = finetune.read(yaml.safe_load(file.read_text()), str(file))
    words = " ".join(f"--{key}={value}" for key, value in wanted["fit"].items())
    result = lmzoo(f"fit --model pretrained {words} --print_config")
    assert result.code == 0, result.err
    assert wanted["prompts"]
    assert wanted["phrases"]


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_trains_what_fit_understands(file: Path) -> None:
    recipe = read(yaml.safe_load(file.read_text()), str(file))
    for name in recipe.runs():
        line = " ".join(recipe.arguments(name))
        result = lmzoo(f"fit {line} --print_config")
        assert result.code == 0, result.err
    every = recipe.fit["checkpoints.every_n_steps"]
    assert recipe.early is not None
    assert recipe.early % every == 0
    assert recipe.early < recipe.fit["trainer.max_steps"]


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_has_the_fixed_prompts_and_options_that_are_read(file: Path) -> None:
    recipe = read(yaml.safe_load(file.read_text()), str(file))
    assert [(one.text, one.target) for one in recipe.prompts] == [
        ("The integral of x^2 is", "x"),
        ("In biology, mitochondria are", "p"),
        ("Once upon a time", "a"),
    ]
    check(recipe)
    assert recipe.of("matrix")["checkpoints"] == "last"  # after all steps, as the lab
    assert recipe.of("samples")["num_samples"] >= 5


def test_what_is_printed_loads_back(tmp_path: Path) -> None:
    first = lmzoo(f"fit --config {FOLDER / 'gpt.yaml'} --print_config")
    file = tmp_path / "printed.yaml"
    file.write_text(first.out)
    second = lmzoo(f"fit --config {file} --print_config")
    assert second.code == 0, second.err
    assert second.out == first.out
