"""Two kinds of model in one study: what each was adapted to stays its own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lmzoo.analysis.history import History
from lmzoo.study import cache
from lmzoo.study.adapted import adapted_runs
from lmzoo.study.recipe import Recipe, read
from lmzoo.study.steps import Step, attributions, steps
from tests.cli.runner import lmzoo

TEXTS = {
    "bells": "the bells ring over a town by the sea\n",
    "math": "the sum of two is bounded by the set\n",
}
SIZES = {
    "gpt": "--model.d_model 8 --model.num_layers 1 --model.num_heads 1",
    "ff": "--model.d_model 8 --model.d_hidden 8",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    folder = tmp_path_factory.mktemp("two")
    for name, line in TEXTS.items():
        (folder / f"{name}.txt").write_text(line * 100)
    recipe = read(
        {
            "corpora": {name: str(folder / f"{name}.txt") for name in TEXTS},
            "models": list(SIZES),
            "prompts": [{"prompt": "the s", "target": "e", "home": ["math"]}],
            "options": {"fewshot": {"at": "2", "seeds": 1, "length": 0}},
        },
        "two.yaml",
    )
    for name, (model, corpus) in recipe.runs().items():
        line = f"fit --model {model} {SIZES[model]} --data.path {folder / corpus}.txt"
        line += (
            f" --trainer.default_root_dir {folder / 'runs' / name} --data.batch_size"
        )
        line += " 4 --model.context_length 8 --trainer.max_steps 4 --samples.length 4"
        result = lmzoo(line)
        assert result.code == 0, result.err
    for step in few_shot(recipe, folder):
        cache.write(folder / "findings", step, step.run(opening({})))
    return recipe, folder


def opening(known: dict[str, History]) -> Callable[[str | Path], History]:
    def opened(path: str | Path) -> History:
        return known.setdefault(str(path), History(path))

    return opened


def places(recipe: Recipe, folder: Path) -> dict[str, Path]:
    return {name: folder / "runs" / name for name in recipe.runs()}


def few_shot(recipe: Recipe, folder: Path) -> list[Step]:
    every = steps(recipe, places(recipe, folder), folder)
    return [step for step in every if step.section == "VII"]


def last_section(recipe: Recipe, folder: Path) -> tuple[list[Step], dict[str, str]]:
    return attributions(recipe, places(recipe, folder), folder, opening({}))


def test_every_model_has_its_after(made: tuple[Recipe, Path]) -> None:
    recipe, folder = made
    found, missing = last_section(recipe, folder)

    assert missing == {}
    after = {step.name: step for step in found if len(step.runs) == 2}
    assert set(after) == {"attribution-gpt-bells-1", "attribution-ff-bells-1"}
    for step in after.values():
        before, adapted = (History(path) for path in step.runs)
        assert adapted.model_name == before.model_name
        assert step.hidden["against"].path == adapted.path
        assert adapted.tokenizer.vocab_size > before.tokenizer.vocab_size  # read alike
    # each model's few-shot training is looked for in its own folder
    assert not adapted_runs(folder / "adapted" / "ff", folder / "runs" / "gpt-bells")
    assert len(list(folder.glob("adapted/*/*/manifest.json"))) == 4


def test_few_shot_is_done_again_where_its_runs_are_gone(
    made: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, folder = made
    moved = tmp_path / "moved"  # another place, the same study
    shutil.copytree(folder, moved)
    steps_of = {step.name: step for step in few_shot(recipe, moved)}
    kept = {n: cache.read(moved / "findings", s) for n, s in steps_of.items()}
    assert all(kept.values())
    assert len(kept) == 2

    shutil.rmtree(moved / "adapted" / "gpt")
    assert not cache.read(moved / "findings", steps_of["fewshot-gpt-last"])
    assert cache.read(moved / "findings", steps_of["fewshot-ff-last"])
    _, missing = last_section(recipe, moved)
    assert list(missing) == ["attribution-gpt-bells-1-after"]
    assert "left no model" in missing["attribution-gpt-bells-1-after"]

    step = steps_of["fewshot-gpt-last"]
    cache.write(moved / "findings", step, step.run(opening({})))
    assert last_section(recipe, moved)[1] == {}


def test_a_damaged_adapted_model_is_a_line(
    made: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, folder = made
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for file in copy.glob("adapted/ff/*/checkpoints/*.ckpt"):
        file.write_bytes(file.read_bytes()[:-10])
    found, missing = last_section(recipe, copy)

    assert "no sound checkpoint" in missing.pop("attribution-ff-bells-1-after")
    assert missing == {}
    assert "attribution-ff-bells-1" in [step.name for step in found]
