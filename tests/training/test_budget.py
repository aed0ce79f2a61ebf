"""Budgets become steps: a pure division, and a rehearsal that leaves no trace."""

import copy
import itertools

import pytest
import torch

from lmzoo.errors import UsageError
from lmzoo.models.gpt import GPT
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training import budget
from tests.training.tiny import Tiny


@pytest.mark.parametrize(
    ("kind", "amount", "per_step", "steps"),
    [
        ("tokens", 200, 100, 2),
        ("tokens", 201, 100, 3),
        ("tokens", 1, 100, 1),
        ("flops", 1e9, 3e8, 3),
        ("flops", 1.1e9, 3e8, 4),
        ("seconds", 60, 0.05, 1200),
    ],
)
def test_a_budget_is_divided_by_a_step(kind, amount, per_step, steps) -> None:
    assert budget.steps_within(kind, amount, per_step) == steps


@pytest.mark.parametrize(
    ("kind", "amount", "per_step", "least"),
    [("flops", 1e6, 3e6, "3e+06"), ("seconds", 1, 0.2, "2")],
)
def test_too_small_a_budget_is_refused(kind, amount, per_step, least) -> None:
    with pytest.raises(UsageError, match=f"--budget.{kind}") as caught:
        budget.steps_within(kind, amount, per_step)

    assert f"give {least} or more".replace("+", "+") in str(caught.value)


def test_flops_follow_the_closed_form_at_the_training_context() -> None:
    model = GPT(31, 16, d_model=8, num_layers=2, num_heads=2)

    assert budget.flops_per_step(model, 64) == 64 * model.flops_per_token(16)
    assert budget.training_flops(model, 640) == 640 * model.flops_per_token(16)


def test_a_model_without_a_closed_form_is_refused() -> None:
    with pytest.raises(UsageError, match="Tiny does not say what a token costs"):
        budget.flops_per_step(Tiny(5), 64)

    assert budget.training_flops(Tiny(5), 64) is None


def ends_of(steps: list[float]) -> list[float]:
    return [0.0, *itertools.accumulate(steps)]


def test_a_stray_slow_stretch_does_not_count() -> None:
    steady, strayed = [0.01] * 160, [0.01] * 160
    strayed[40:60] = [0.1] * 20  # a machine that did something else for two seconds

    assert budget.typical(ends_of(steady)) == pytest.approx(0.01)
    assert budget.typical(ends_of(strayed)) == pytest.approx(0.01)
    assert sum(strayed) / 160 > 0.02  # the mean is taken in by it


def test_what_comes_back_every_so_often_counts() -> None:
    logged = [0.01 + 0.02 * (i % 20 == 19) for i in range(320)]

    assert budget.typical(ends_of(logged)) == pytest.approx(0.011, rel=0.01)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 9, 17])
def test_few_steps_are_enough(steps: int) -> None:
    assert budget.typical(ends_of([0.5] * steps)) == pytest.approx(0.5)


def test_missed_says_by_how_much() -> None:
    assert budget.missed({"seconds": 10}, 10.4, True) is None
    assert budget.missed({"seconds": 10}, 5.0, False) is None  # stopped early
    assert budget.missed({"tokens": 10}, 5.0, True) is None
    assert "(+12%)" in str(budget.missed({"seconds": 10}, 11.2, True))
    assert "(-20%)" in str(budget.missed({"seconds": 10}, 8.0, True))


def test_a_rehearsal_changes_neither_model_nor_data(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(budget, "REHEARSAL", (0.05, 0.05))
    monkeypatch.setattr(budget, "WARM_UP", (1, 0.0))
    (tmp_path / "story.txt").write_text("once upon a time there was a text. " * 80)
    data = TextDataModule(
        path=str(tmp_path / "story.txt"), context_length=8, batch_size=2
    )
    data.prepare_data()
    data.setup("fit")
    model = GPT(data.vocab_size, 8, d_model=8, num_layers=1, num_heads=2)
    before, position = copy.deepcopy(model.state_dict()), data.position
    settings = {"accelerator": "cpu", "precision": "32-true"}

    taken = budget.seconds_per_step(model, data, settings, 1.0)

    assert 0 < taken < 1
    assert data.position == position
    assert data.trainer is None
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
