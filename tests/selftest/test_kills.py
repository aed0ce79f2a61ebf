"""The check of kills, at its smallest, and that it would notice."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmzoo import runs
from lmzoo.selftest import kills, stories
from lmzoo.selftest.forks import Ended, Fuse
from lmzoo.selftest.outcome import EFFORTS
from lmzoo.selftest.sameness import differences
from lmzoo.selftest.stories import Recipe, Stage

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(Recipe("ff", 4), tmp_path_factory.mktemp("kills") / "ff")
    assert made.play() == ""
    return made


def test_a_killed_run_is_the_same_and_a_moved_one_is_noticed(stage: Stage) -> None:
    fuse = kills.POINTS["inside accumulation"]
    tally = kills.tell(kills.Story(stage, "killed", fuse))
    assert (tally.tried, tally.wrong) == (1, [])
    assert kills.moved(stage)


def test_a_crash_is_not_the_control(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a run that was not moved."""
    with monkeypatch.context() as patch:
        patch.setattr(stage, "run", lambda name: Ended(1, True, 1.0, "a crash"))
        assert not kills.moved(stage)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_checkpoint", lambda content, file: None)
        assert not kills.moved(stage)


class Told(Stage):
    """Runs that end as a test says; the last way again and again."""

    codes: tuple[int, ...] = (KILLED,)

    def play(self) -> str:
        """Nothing is trained."""
        self.trained, self.left_codes = 1.0, list(self.codes)
        self.delays: list[float | None] = []
        return ""

    def run(self, name: str, *fuses: Fuse, delay=None, prepare=None) -> Ended:
        """Nothing is run."""
        self.delays.append(delay)
        code = self.left_codes[0]
        self.left_codes[:] = self.left_codes[1:] or [code]
        return Ended(code, True, 1.0, "said")

    def finish(self, name: str) -> list[str]:
        """Nothing differs."""
        return []


def told(folder: Path, *codes: int, model: str = "ff") -> Told:
    """A stage of such runs."""
    made = Told(Recipe(model, 4), folder)
    made.codes = codes
    made.play()
    return made


def test_a_kill_that_comes_too_late_is_made_again_and_sooner(tmp_path: Path) -> None:
    late = told(tmp_path, 0, 0, KILLED)
    tally = kills.tell(kills.Story(late, "late", shares=(0.8,)))
    assert (tally.tried, tally.wrong) == (1, [])
    first, second, third = late.delays
    assert first > second > third > 0
    never = kills.tell(kills.Story(told(tmp_path, 0), "never", shares=(0.8,)))
    assert (never.tried, never.wrong) == (0, [])
    crashed = kills.tell(kills.Story(told(tmp_path, 1, KILLED), "once", shares=(0.8,)))
    assert (crashed.tried, crashed.wrong) == (1, ["ff-4 once: exit 1: said"])


@pytest.mark.parametrize("effort", ["quick", "normal", "long"])
def test_as_many_kills_of_each_model(effort: str, tmp_path: Path) -> None:
    stages = [told(tmp_path / model, KILLED, model=model) for model in stories.SIZES]
    tallies = kills.kill(stages, EFFORTS[effort])
    assert not kills.lacking(tallies, EFFORTS[effort])
    for model in stories.SIZES:
        mine = [tally for tally in tallies if tally.model == model]
        assert sum(tally.tried for tally in mine) == EFFORTS[effort].kills // 3
        places = {t.story.fuse for t in mine} & set(kills.POINTS.values())
        assert len(places) == (2 if effort == "quick" else len(kills.POINTS))
    assert EFFORTS["normal"].kills // 3 >= 40


@pytest.mark.parametrize(("code", "held"), [(KILLED, 12), (0, 0)])
def test_too_few_kills_are_not_held(
    code: int, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "codes", (code,))
    monkeypatch.setattr(kills, "Stage", Told)
    monkeypatch.setattr(kills, "moved", lambda stage: True)
    monkeypatch.setattr(kills.stock, "resumes", lambda folder: (0, 7))
    found = kills.check(tmp_path, EFFORTS["quick"])
    assert (found.tried, found.held, found.holds) == (12, held, bool(held))
    if held:
        assert "gpt 4, lstm 4, ff 4: 6 at random moments, 6 at 6 cho" in found.claim
    else:
        assert found.details[0] == "gpt: 4 kills too few came in time"


def test_a_run_that_is_stopped_early_is_killed_after_its_last_step(
    tmp_path: Path,
) -> None:
    """Its last row and its reason are written once, and as they were."""
    recipe = Recipe("ff", 1, f"{kills.STOPS} --trainer.log_every_n_steps 7", "stops")
    stage = Stage(recipe, tmp_path / "stops")
    assert stage.play() == ""
    point = kills.POINTS["before the summary"]
    assert kills.tell(kills.Story(stage, "killed", point)).wrong == []
    assert kills.tell(kills.Story(stage, "saved", step=18)).wrong == []


def test_differences_are_named(stage: Stage) -> None:
    assert differences(stage.whole, stage.whole) == []
    kills.as_killed_at(stage, "other", 20)
    other = stage.folder / "other"
    (other / "summary.json").write_bytes((stage.whole / "summary.json").read_bytes())
    found = differences(stage.whole, other)
    assert "checkpoint/TextDataModule/position: 384 and 320" in found


def test_a_fuse_counts_only_calls_that_it_names(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from lmzoo.selftest.forks import Fuse\n"
        "Fuse('pathlib:Path.exists', 2, 'this', number=15).lay()\n"
        "for name in ('this', 'that', 'that', 'this'):\n"
        "    Path(name).exists(); print(name, flush=True)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == -15
    assert done.stdout.split() == ["this", "that", "that"]


def test_work_is_spread_and_comes_back_in_order() -> None:
    assert stories.spread(lambda n: n * n, range(5)) == [0, 1, 4, 9, 16]
    found = stories.shared(lambda room, n: f"{room}{n}", range(5), "ab")
    assert found == ["a0", "b1", "a2", "b3", "a4"]
    assert runs.step_of(Path("x/step-000000012.ckpt")) == 12
    assert Fuse("a:b").count == 1
