"""The same small search for every architecture: seeded, resumed."""

import json
import math
import sys
from pathlib import Path

import pytest

from lmzoo.compare import tuning
from lmzoo.compare.jobs import Job, Outcome
from lmzoo.errors import UsageError
from lmzoo.registry import models
from tests.processes import apart

try:
    import optuna
except ImportError:
    optuna = None
needs_optuna = pytest.mark.skipif(optuna is None, reason="Optuna is not installed")

BEST = {"gpt": 3e-3, "lstm": 8e-3}  # where the pretended quality is highest
RATES = {"gpt": 4e-3, "lstm": 4e-3}


class Pretend:
    """Writes a summary in place of a training; may be interrupted after some jobs."""

    def __init__(self, most: float = math.inf, failing: str = "") -> None:
        self.most, self.failing, self.ran = most, failing, []

    def run(self, jobs, done) -> None:
        for job in jobs:
            if len(self.ran) >= self.most:
                raise KeyboardInterrupt
            self.ran.append(job.name)
            if job.name == self.failing:
                done(Outcome(job.name, 2, "error: training diverged"))
                continue
            label, rate = job.argv[0], float(job.argv[1])
            bits = 2 + abs(math.log10(rate / BEST[label]))
            job.folder.mkdir(parents=True, exist_ok=True)
            summary = {"best": {"metrics": {"bits_per_char": bits}}}
            (job.folder / "summary.json").write_text(json.dumps(summary))
            done(Outcome(job.name, 0))


def make(label: str, name: str, rate: float, folder: Path) -> Job:
    return Job(name, (label, repr(rate)), folder)


def search(folder: Path, launcher: Pretend, trials: int = 5, **more) -> tuning.Tuned:
    return tuning.tune(RATES, trials, make, launcher, folder, **more)


@needs_optuna
def test_each_gets_as_many_trials_around_its_own_rate(tmp_path: Path) -> None:
    launcher = Pretend()

    tuned = search(tmp_path, launcher)

    assert len(launcher.ran) == 10
    for label, rows in tuned.sweeps.items():
        rates = [row["lr"] for row in rows]
        assert rates[0] == RATES[label]
        assert len(set(rates)) == len(rates) == 5
        assert all(RATES[label] / 10 <= rate <= RATES[label] * 10 for rate in rates)
        best = min(rows, key=lambda row: row["bits_per_char"])
        assert tuned.chosen[label] == {"optimizer.lr": best["lr"]}
    assert json.loads(json.dumps(tuned.plain())) == tuned.plain()


@needs_optuna
def test_the_seed_decides(tmp_path: Path) -> None:
    one, same, other = (
        search(tmp_path / name, Pretend(), seed=seed).sweeps
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )

    assert one == same
    assert one != other


@needs_optuna
@pytest.mark.parametrize("most", [0, 1, 4, 7])
def test_an_interrupted_search_ends_as_if_it_had_not_been(tmp_path, most) -> None:
    whole = search(tmp_path / "whole", Pretend())
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", Pretend(most))

    launcher = Pretend()
    resumed = search(tmp_path / "cut", launcher)

    assert resumed == whole
    assert len(launcher.ran) == 10 - most
    idle = Pretend(0)
    assert search(tmp_path / "cut", idle) == whole
    assert idle.ran == []


@needs_optuna
def test_a_trial_that_fails_is_kept_with_its_reason(tmp_path: Path) -> None:
    tuned = search(tmp_path, Pretend(failing="gpt-trial-1"))

    failed = tuned.sweeps["gpt"][1]
    assert failed["bits_per_char"] is None
    assert "diverged" in failed["reason"]
    assert tuned.chosen["gpt"]


@needs_optuna
def test_where_every_trial_fails_nothing_is_chosen(tmp_path: Path) -> None:
    tuned = search(tmp_path, Pretend(), trials=2, quality=lambda run: math.nan)

    assert tuned.chosen == {"gpt": {}, "lstm": {}}
    assert "no finite" in tuned.sweeps["lstm"][0]["reason"]


@needs_optuna
def test_a_real_search_of_two_trials(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("once upon a time there was a text. " * 80)

    def job(label: str, name: str, rate: float, folder: Path) -> Job:
        line = (
            f"fit --model {label} --model.d_model 8 --data.path "
            f"{tmp_path / 'story.txt'} --model.context_length 8 --samples.length 0 "
            f"--trainer.max_steps 3 --optimizer.lr {rate!r} "
            f"--trainer.default_root_dir {folder}"
        )
        return Job(name, tuple(line.split()), folder)

    class Local:
        def run(self, jobs, done) -> None:
            for one in jobs:
                done(apart(one))

    rate = tuning.recipe_rate(models.load("bare"))
    tuned = tuning.tune({"bare": rate}, 2, job, Local(), tmp_path)

    assert tuned.sweeps["bare"][0]["lr"] == rate
    assert all(0 < row["bits_per_char"] < 8 for row in tuned.sweeps["bare"]), tuned
    assert tuned.chosen["bare"]["optimizer.lr"] > 0


def test_a_quarter_goes_to_the_search() -> None:
    trial, cell = tuning.divide("seconds", 60, 5)

    assert (trial, cell) == (3, 45)
    assert trial * 5 + cell == 60


@pytest.mark.parametrize("amount", range(12, 60))
def test_a_search_never_spends_more_than_the_budget(amount: int) -> None:
    each, rest = tuning.divide("steps", amount, 3)

    assert 1 <= each == int(each)
    assert 3 * each <= amount * tuning.SHARE
    assert 3 * each + rest <= amount


def test_too_little_for_a_search_is_refused() -> None:
    with pytest.raises(UsageError, match=r"fewer, or --budget\.steps 12"):
        tuning.divide("steps", 4, 3)


def test_rates_come_from_the_recipes() -> None:
    assert tuning.recipe_rate(models.load("gpt")) == 4e-3
    assert tuning.recipe_rate(models.load("ngram")) is None
    assert tuning.recipe_rate(models.load("conv-noncausal")) is None


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed

    with pytest.raises(UsageError, match=r"pip install 'lmzoo\[tune\]'"):
        search(tmp_path, Pretend())


def test_no_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trials 0: give 1"):
        search(tmp_path, Pretend(), trials=0)
