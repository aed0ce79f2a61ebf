"""From what was asked for to cells: pure, so every rule is shown without training."""

import pytest

from lmzoo.compare.plan import Comparison, digest, require_different
from lmzoo.compare.values import amount, budget, seeds
from lmzoo.errors import UsageError


def comparison(**changes) -> Comparison:
    """Two models, two seeds, six steps."""
    given = {"models": ("ff", "gpt"), "seeds": (1337, 1338), "budget": ("steps", 6)}
    return Comparison(**{**given, **changes})


def test_every_model_meets_every_seed_and_seeds_come_first() -> None:
    names = [cell.name for cell in comparison().cells()]

    assert names == ["ff-1337", "gpt-1337", "ff-1338", "gpt-1338"]


def test_a_cell_is_one_fit_command(tmp_path) -> None:
    cell = comparison(options={"data.path": "a.txt"}).cells()[1]

    assert cell.argv(tmp_path, ["p.py"]) == (
        "fit",
        "--plugin=p.py",
        "--model=gpt",
        "--early_stopping.enabled=false",
        "--data.path=a.txt",
        "--trainer.max_steps=6",
        "--seed_everything=1337",
        f"--trainer.default_root_dir={tmp_path}/cells/gpt-1337",
    )


def test_several_axes_make_a_grid_and_tell_their_cells_apart() -> None:
    axes = {"model.num_layers": [1, 2], "data.tokenizer": ["char", "bpe:512"]}
    variants = comparison(models=("gpt",), axes=axes).variants()

    assert [variant.label for variant in variants] == [
        "gpt num_layers=1 char",
        "gpt num_layers=1 bpe:512",
        "gpt num_layers=2 char",
        "gpt num_layers=2 bpe:512",
    ]
    assert variants[3].options["data.tokenizer"] == "bpe"
    assert variants[3].options["data.tokenizer_size"] == 512
    assert "data.tokenizer_size" not in variants[2].options
    assert variants[3].axes == {"model.num_layers": 2, "data.tokenizer": "bpe:512"}


def test_names_are_unique_folders_whatever_the_values() -> None:
    paths = ["a/b.txt", "a b.txt", "a-b.txt"]
    cells = comparison(axes={"data.path": paths}).cells()
    names = [cell.name for cell in cells]

    assert len(set(names)) == len(names) == 12
    assert not [name for name in names if "/" in name or " " in name]


def test_a_model_has_options_of_its_own_and_what_is_found_joins_them() -> None:
    asked = comparison(
        options={"optimizer.lr": 1e-3}, overrides={"gpt": {"optimizer.lr": 2e-3}}
    )
    found = asked.completed({"ff": {"model.d_model": 96}, "gpt": {"model.d_model": 64}})

    ff, gpt = found.variants()
    assert (ff.options["optimizer.lr"], ff.options["model.d_model"]) == (1e-3, 96)
    assert (gpt.options["optimizer.lr"], gpt.options["model.d_model"]) == (2e-3, 64)


def test_rows_change_one_thing_at_a_time() -> None:
    rows = {"plain": {}, "wide": {"model.d_model": 64, "optimizer.lr": 2e-3}}
    asked = comparison(
        models=("gpt",),
        options={"model.d_model": 32},
        axes={"rows": list(rows)},
        rows=rows,
    )

    plain, wide = asked.variants()
    assert (plain.label, wide.label) == ("gpt plain", "gpt wide")
    assert plain.options["model.d_model"] == 32
    assert "optimizer.lr" not in plain.options
    assert (wide.options["model.d_model"], wide.options["optimizer.lr"]) == (64, 2e-3)
    assert wide.axes == {"rows": "wide"}


def test_early_stopping_is_off_unless_asked_for() -> None:
    asked = comparison(options={"early_stopping.patience": 3})

    assert not comparison().stops_early
    assert asked.stops_early
    assert "early_stopping.enabled" not in asked.variants()[0].options


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 2},
        {"parallel": 2},
        {"seeds": (1337,)},
        {"budget": ("tokens", 6)},
        {"options": {"data.batch_size": 2}},
        {"axes": {"data.batch_size": [1, 2]}},
        {"overrides": {"ff": {"data.batch_size": 2}}},
        {"axes": {"rows": ["a"]}, "rows": {"a": {"data.batch_size": 2}}},
        {"plugins": ("p.py",)},
        {"launcher": "other"},
    ],
)
def test_whatever_changes_a_result_changes_the_identity(change) -> None:
    assert digest(comparison(**change).identity()) != digest(comparison().identity())
    assert digest(comparison().identity()) == digest(comparison().identity())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": ()}, "nothing given"),
        ({"models": ("gpt", "gpt")}, "gpt is given twice"),
        ({"seeds": (1, 1)}, "1 is given twice"),
        ({"seeds": (2**32,)}, "--seeds 4294967296"),
        ({"axes": {"model.num_layers": [2, 2]}}, "changes nothing"),
        ({"axes": {"model.num_layers": []}}, "give values"),
        ({"axes": {"data.x": [1]}, "options": {"data.x": 1}}, "given, and varied"),
        ({"axes": {"samples.prompt": ["a", "b"]}}, "training does not read it"),
        ({"axes": {"checkpoints.save_top_k": [1, 2]}}, "training does not read it"),
        ({"options": {"trainer.max_steps": 3}}, "--budget.steps"),
        ({"axes": {"seed_everything": [1, 2]}}, "--seeds"),
        ({"overrides": {"lstm": {}}}, "'lstm' is not compared"),
        ({"overrides": {"ff": {"data.val_fraction": 0.4}}}, "another text"),
        ({"overrides": {"ff": {"data.max_val_tokens": 9}}}, "another text"),
        ({"axes": {"a": [1]}, "overrides": {"ff": {"a": 2}}}, "nothing would read"),
        ({"axes": {"a": [1]}, "rows": {"one": {"a": 2}}}, "rows: one: a is varied too"),
        ({"rows": {"one": {"seed_everything": 2}}}, "--seeds"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        comparison(**change)


def test_two_labels_of_one_run_are_refused() -> None:
    different = {"a": {"x": 1}, "b": {"x": 2}}
    require_different(different)

    with pytest.raises(UsageError, match="'a' and 'c' are the same run"):
        require_different({**different, "c": {"x": 1}})


def test_typed_numbers() -> None:
    assert seeds("3") == (1337, 1338, 1339)
    assert seeds("5,7") == (5, 7)
    assert seeds("5,") == (5,)
    assert amount("x", "800k") == 800_000
    assert amount("x", "1.5M") == 1_500_000
    assert amount("x", "1e12") == 1e12
    assert budget("tokens", "2M") == ("tokens", 2_000_000)
    assert budget("seconds", 0.5) == ("seconds", 0.5)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.5", "1;2"])
def test_bad_seeds(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        seeds(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("steps", "0"),
        ("steps", "2.5"),
        ("seconds", "x"),
        ("tokens", "-3"),
        ("flops", "inf"),
    ],
)
def test_bad_budgets(kind: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"--budget.{kind}"):
        budget(kind, text)
