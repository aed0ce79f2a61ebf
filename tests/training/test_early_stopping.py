"""Early stopping on hand-computed sequences, and in one real run."""

import math

import pytest
import torch

from lmzoo.errors import UsageError
from lmzoo.training.early_stopping import EarlyStopping
from tests.training.tiny import Successors, Tiny, trainer


def run(callback: EarlyStopping, values: list[float], first: int = 1) -> int | None:
    """Number of the check (from ``first``) that stops, None if none does."""
    for number, value in enumerate(values, start=first):
        if callback.check(value, step=10 * number):
            return number
    return None


@pytest.mark.parametrize(
    ("settings", "values", "stops"),
    [
        # any new minimum counts; two checks in a row without one stop
        ({"patience": 2}, [4.0, 3.0, 3.1, 2.9, 2.9, 3.0], 6),
        # an equal value is no improvement
        ({"patience": 1}, [4.0, 4.0], 2),
        ({"patience": 1}, [4.0, 3.999, 3.998], None),
        # a drop by exactly the share is no improvement, it must be more
        ({"patience": 1, "min_relative_improvement": 0.25}, [4.0, 3.0], 2),
        ({"patience": 1, "min_relative_improvement": 0.05}, [4.0, 3.79, 3.61], 3),
        # the task's rule: 0.05 and 5; 1 % a check adds up to 5.9 % at the sixth
        (
            {"patience": 5, "min_relative_improvement": 0.05},
            [4.0 * 0.99**k for k in range(12)],
            6,
        ),
        (
            {"patience": 6, "min_relative_improvement": 0.05},
            [4.0 * 0.99**k for k in range(60)],
            None,
        ),
        # 3 % a check never stops with patience 2, and stops at once with patience 1
        (
            {"patience": 2, "min_relative_improvement": 0.05},
            [4.0 * 0.97**k for k in range(60)],
            None,
        ),
        (
            {"patience": 1, "min_relative_improvement": 0.05},
            [4.0 * 0.97**k for k in range(60)],
            2,
        ),
        # the reference is cumulative: 3.85 and 3.82 do not move it, 3.7 beats 4.0
        (
            {"patience": 3, "min_relative_improvement": 0.05},
            [4.0, 3.85, 3.82, 3.7, 3.6, 3.55, 3.52],
            7,
        ),
        # absolute, where Lightning's rule and this one agree
        ({"patience": 2, "min_delta": 0.25}, [4.0, 3.8, 3.7, 3.5, 3.45], 5),
        ({"patience": 1, "min_delta": 0.25}, [4.0, 3.75], 2),
        # not finite: at once, whatever the patience
        ({"patience": 9}, [4.0, 3.0, math.nan, 2.0], 3),
        ({"patience": 9}, [math.inf], 1),
        ({"patience": 9}, [4.0, -math.inf], 2),
        # accuracies grow
        (
            {"patience": 2, "mode": "max", "monitor": "val/accuracy"},
            [0.1, 0.2, 0.2, 0.15],
            4,
        ),
    ],
)
def test_sequences(settings: dict, values: list[float], stops: int | None) -> None:
    callback = EarlyStopping(**settings)

    assert run(callback, values) == stops
    assert bool(callback.reason) == (stops is not None)


def test_reference_is_the_last_counted_improvement_not_the_minimum() -> None:
    callback = EarlyStopping(patience=9, min_relative_improvement=0.05)

    run(callback, [4.0, 3.9, 3.85])

    assert (callback.reference, callback.reference_step) == (4.0, 10)
    assert callback.wait_count == 2


def test_reasons_are_one_line_with_the_numbers() -> None:
    share = EarlyStopping(patience=1, min_relative_improvement=0.05)
    amount = EarlyStopping(patience=2, min_delta=0.5)
    broken = EarlyStopping()
    run(share, [4.0, 3.9])
    run(amount, [4.0, 3.9, 3.8])
    run(broken, [math.nan])

    assert share.reason == (
        "val/nll did not beat 4.0000 of step 10 by more than 0.05 of it in 1 check"
    )
    assert amount.reason == (
        "val/nll did not beat 4.0000 of step 10 by more than 0.5 in 2 checks in a row"
    )
    assert broken.reason == "val/nll is nan at step 10"


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 6])
def test_resume_in_the_middle_stops_at_the_same_check(cut: int) -> None:
    values = [4.0, 3.9, 3.7, 3.69, 3.68, 3.67, 3.66, 3.65]
    whole = EarlyStopping(patience=3, min_relative_improvement=0.05)
    before = EarlyStopping(patience=3, min_relative_improvement=0.05)
    after = EarlyStopping(patience=3, min_relative_improvement=0.05)

    assert run(whole, values) == 6
    stopped = run(before, values[:cut])
    after.load_state_dict(before.state_dict())
    stopped = stopped or run(after, values[cut:], first=cut + 1)

    assert stopped == 6


def test_settings_of_this_run_win_over_the_stored_run() -> None:
    stored = EarlyStopping(patience=2)
    run(stored, [3.0, 3.1])
    patient = EarlyStopping(patience=4)

    patient.load_state_dict(stored.state_dict())

    assert patient.patience == 4
    assert run(patient, [3.1, 3.1, 3.1]) == 3


def test_a_run_that_is_stopped_at_its_last_step_is_told_why_again() -> None:
    """No step is left at which training could ask."""
    stopped = EarlyStopping(patience=2)
    assert run(stopped, [3.0, 3.1, 3.2]) == 3
    again, patient = EarlyStopping(patience=2), EarlyStopping(patience=3)
    for callback in (again, patient):
        callback.load_state_dict(stopped.state_dict())
    assert again.reason == stopped.reason != ""
    assert patient.reason == ""  # the control
    assert patient.check(math.nan, step=40)
    again.load_state_dict(patient.state_dict())
    assert again.reason == "val/nll is nan at step 40"  # and no patience helps


def test_state_is_plain_data(tmp_path) -> None:
    callback = EarlyStopping()
    run(callback, [3.0, 3.1])
    torch.save(callback.state_dict(), tmp_path / "state.pt")

    loaded = torch.load(tmp_path / "state.pt", weights_only=True)

    assert loaded == callback.state_dict()
    assert callback.state_key != EarlyStopping("val/accuracy", mode="max").state_key


@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 0},
        {"min_relative_improvement": -0.1},
        {"min_relative_improvement": 5},
        {"min_delta": -1.0},
        {"min_delta": math.nan},
        {"min_delta": 0.1, "min_relative_improvement": 0.05},
        {"mode": "lowest"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="given"):
        EarlyStopping(**settings)


def fit(tmp_path, callback: EarlyStopping, ckpt_path=None, **options):
    """A run whose learning rate is 0, so that validation never improves."""
    model = Tiny(vocab_size=5, context_length=4)
    model.optimizer_factory = lambda groups: torch.optim.SGD(groups, lr=0.0)
    runner = trainer(tmp_path, callbacks=[callback], **options)
    data = {"train_dataloaders": Successors(50), "val_dataloaders": Successors(2)}
    runner.fit(model, **data, ckpt_path=ckpt_path, weights_only=True)
    return runner


def test_a_real_run_stops_and_its_sanity_check_does_not_count(tmp_path) -> None:
    callback = EarlyStopping(patience=3)

    runner = fit(tmp_path, callback)

    assert runner.global_step == 8  # checks at 2 (reference), 4, 6, 8
    assert callback.reference_step == 2
    assert "3 checks in a row" in callback.reason


def test_switched_off_it_never_stops(tmp_path) -> None:
    callback = EarlyStopping(patience=1, enabled=False)

    assert fit(tmp_path, callback).global_step == 20
    assert callback.reason == ""


def test_a_run_cut_off_after_its_last_check_takes_no_further_step(
    tmp_path, capsys
) -> None:
    first = EarlyStopping(patience=1)
    fit(tmp_path, first).save_checkpoint(tmp_path / "cut.ckpt")

    again = EarlyStopping(patience=1)
    assert fit(tmp_path, again, tmp_path / "cut.ckpt").global_step == 4
    assert again.reason == first.reason
    assert "a higher --early_stopping.patience trains on" in capsys.readouterr().err

    patient = EarlyStopping(patience=3)  # typed on resume: wins over the stored run
    assert fit(tmp_path, patient, tmp_path / "cut.ckpt").global_step == 8


def test_a_metric_that_is_not_logged_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"'val/lost' is not logged.*val/nll"):
        fit(tmp_path, EarlyStopping(monitor="val/lost"))
