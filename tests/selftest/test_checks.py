"""The other checks, each with one case, and their controls."""

import subprocess
from pathlib import Path

import pytest
import torch

from lmzoo import runs
from lmzoo.selftest import damage, divergence, kills, places, saves, signals, stock
from lmzoo.selftest.forks import Ended
from lmzoo.selftest.stories import Recipe, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(Recipe("gpt", 4), tmp_path_factory.mktemp("checks") / "gpt")
    assert made.play() == ""
    return made


def test_a_signal_inside_accumulation(stage: Stage) -> None:
    case = signals.Case("told", (15,), "inside accumulation")
    assert signals.tell(stage, case) == []
    wrong = signals.Case("wrong", (2, 15), "inside accumulation")
    signals.PLACES["nowhere"] = (signals.PLACES["inside accumulation"][0], 3)
    try:
        found = signals.tell(stage, signals.Case("late", (15,), "nowhere"))
    finally:
        del signals.PLACES["nowhere"]
    assert found[0] == "late: saved at step 8, not 3"
    assert [line.partition(":")[0] for line in found] == ["late", "late"]
    assert "the same command goes on after step 8" in found[1]
    assert signals.tell(stage, wrong) == []


def test_a_loss_that_is_nan(stage: Stage) -> None:
    assert divergence.stops(stage, "the loss is NaN") == []


def test_a_damaged_run_goes_on(stage: Stage) -> None:
    assert damage.goes_on(stage, "the newest is empty") == []


def test_the_control_a_file_that_is_only_named_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(name: str) -> list[str]:
        log = f"went on from {runs.checkpoint_name(20)} as if it were sound"
        (stage.folder / f"{name}.log").write_text(log)
        return []

    monkeypatch.setattr(stage, "finish", finish)
    (found,) = damage.goes_on(stage, "the newest has a flipped bit")
    assert found.endswith("step-000000020.ckpt is skipped")


def test_a_full_disk_and_then_room(stage: Stage) -> None:
    name = "limited"
    found = saves.refused(stage, name, "too large", places.no_large_files)
    assert found[-1].startswith("limited: nothing was saved before")
    stage.run(name, saves.INDEXED)
    assert saves.refused(stage, name, "too large", places.no_large_files) == []
    assert stage.finish(name) == []


def test_the_control_a_lost_checkpoint_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends as it has to, but the newest file is gone, an older one is left."""
    kills.as_killed_at(stage, "lost", 15)
    files = runs.newest_first(stage.folder / "lost")

    def lose(name: str, **given: object) -> Ended:
        files[0].unlink()
        (stage.folder / f"{name}.log").touch()
        return Ended(2, True, 0.0, "error: File too large")

    monkeypatch.setattr(stage, "run", lose)
    (found,) = saves.refused(stage, "lost", "too large")
    newest = (15, runs.stated_digest(stage.whole / "checkpoints" / files[0].name))
    now = runs.step_of(files[1])
    assert found.startswith(f"lost: the newest was {newest}, and is now ({now}, ")


def test_nobody_may_write_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    folders = [tmp_path / "run", tmp_path / "run" / "checkpoints"]
    with saves._without_right(folders[0], mounted=False):
        assert [path.stat().st_mode & 0o777 for path in folders] == [0o555] * 2
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o755] * 2


@pytest.mark.parametrize("save", ["torn", "nothing"])
def test_a_control_that_cannot_save_shows_nothing(save: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not save"):
        saves._torn({"torn": tear, "nothing": leave}[save], tmp_path / save, tmp_path)


def tear(content: object, folder: Path, step: int) -> None:
    """In the forked process: what is no file of torch."""
    (folder / saves.LAST).write_bytes(b"torn")


def leave(content: object, folder: Path, step: int) -> None:
    """In the forked process: no file at all."""


def test_a_killed_saver_tears_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    assert saves.killed(folder, tmp_path, 3) == [[], [], []]
    torn = folder / runs.checkpoint_name(1)
    runs.write_checkpoint({"weight": torch.zeros(3)}, torn)
    assert saves.sound(torn)
    torn.write_bytes(torn.read_bytes()[:-1])
    assert not saves.sound(torn)


def test_damage_is_counted(stage: Stage, tmp_path: Path) -> None:
    file = runs.newest_first(stage.whole)[0]
    content = file.read_bytes()
    assert damage.flipped(damage.flipped(content, 77), 77) == content
    assert damage.unnoticed(file, "none") == "none: not noticed"  # the control
    copy = tmp_path / file.name
    copy.write_bytes(damage.flipped(content, 77))
    assert damage.unnoticed(copy, "bit 77") == ""


def test_stock_lightning_does_not_resume_exactly(tmp_path: Path) -> None:
    exact, points = stock.resumes(tmp_path)
    assert exact < points == 7


def test_stock_lightning_that_cannot_be_run_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "finite.json").mkdir()  # where the end is told
    with pytest.raises(RuntimeError, match="could not be run: exit 1"):
        stock.not_finite(tmp_path)


def test_a_small_disk_or_none(tmp_path: Path) -> None:
    with places.small_disk(tmp_path / "disk", 1_000_000) as mounted:
        if mounted:
            with pytest.raises(OSError, match="No space left"):
                (tmp_path / "disk" / "large").write_bytes(bytes(2_000_000))
    mounts = subprocess.run(["cat", "/proc/mounts"], capture_output=True, text=True)
    assert str(tmp_path) not in mounts.stdout
