"""The check of kills, at its smallest, and that it would notice."""

import subprocess
import sys
from pathlib import Path

import pytest

from lmzoo import runs
from lmzoo.selftest import kills, stories
from lmzoo.selftest.forks import Fuse
from lmzoo.selftest.sameness import differences
from lmzoo.selftest.stories import Recipe, Stage


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
