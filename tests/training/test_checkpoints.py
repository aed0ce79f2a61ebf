"""The last step is saved once, and after its validation; a signal there loses nothing.

No validation falls on the last step of these runs, and a kept one does.
"""

import signal
from pathlib import Path

import pytest

from lmzoo.selftest import forks, kills, signals
from lmzoo.selftest.forks import Fuse
from lmzoo.selftest.kills import Story
from lmzoo.selftest.signals import Case
from lmzoo.selftest.stories import Recipe, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(kills.BETWEEN, tmp_path_factory.mktemp("last") / "ff")
    assert made.play() == ""
    return made


def saves_too_soon() -> None:
    """In a forked process: the last step is saved as any other."""
    place = "lmzoo.training.checkpoints:is_last"
    forks.replace(place, lambda function: lambda trainer: False)


def takes_no_signal() -> None:
    """In a forked process: signals are Lightning's."""
    place = "lmzoo.training.interruption:Interruption.install"
    forks.replace(place, lambda function: lambda self, trainer: None)


def test_a_run_killed_in_its_last_validation_validates_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = kills.tell(Story(stage, "killed", kills.LAST))
    assert (killed.tried, killed.wrong) == (1, [])
    monkeypatch.setattr(stage, "prepare", saves_too_soon)  # the control
    found = kills.tell(Story(stage, "too-soon", kills.LAST))
    assert found.tried == 1
    assert "Checkpoints/best/file: 'step-000000020.ckpt' and" in found.wrong[0]


@pytest.mark.parametrize("place", ["in the last validation", "in the test pass"])
def test_a_signal_after_the_last_step(place: str, stage: Stage) -> None:
    assert signals.tell(stage, Case(f"told {place}", (signal.SIGTERM,), place)) == []


def test_a_slurm_job_goes_back_from_the_test_pass(stage: Stage) -> None:
    case = Case("in SLURM", (signal.SIGUSR1,), "in the test pass", slurm=True)
    assert signals.tell(stage, case) == []


def test_the_control_lightning_ends_the_pass_in_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "prepare", takes_no_signal)
    case = Case("taken", (signal.SIGTERM,), "in the test pass")
    assert signals.tell(stage, case)[0] == "taken: exit 0, not 143"


def test_a_signal_in_the_last_step_without_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "--trainer.max_steps 10 --data.val_fraction 0"
    stage = Stage(Recipe("ff", 1, more, "unmeasured"), tmp_path / "ff")
    assert stage.play() == ""
    place = (Fuse(f"{signals.STEP}.training_step", 10), 10)
    monkeypatch.setitem(signals.PLACES, "in the last step", place)
    case = Case("told", (signal.SIGTERM,), "in the last step")
    assert signals.tell(stage, case) == []
