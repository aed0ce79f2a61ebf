"""What a fit finds in its run folder, and what others do there meanwhile."""

import json
import os
from pathlib import Path

import pytest

from lmzoo import runs
from lmzoo.cli import folders
from tests.cli.runner import SMALL, Result, lmzoo


@pytest.fixture
def line(story: Path, tmp_path: Path) -> str:
    return (
        f"fit --model gpt {SMALL} --data.path {story} --trainer.max_steps 4 "
        f"--trainer.val_check_interval 4 --checkpoints.every_n_steps 2 "
        f"--trainer.default_root_dir {tmp_path / 'run'}"
    )


def overtaken(line: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """The command, which another one of its kind overtakes before it has the lock."""
    lock, others = folders._locked, [line]

    def late(path: Path) -> object:
        if others:
            assert lmzoo(others.pop()).code == 0
        return lock(path)

    monkeypatch.setattr(folders, "_locked", late)
    return lmzoo(line)


def test_a_run_that_was_trained_meanwhile_is_not_trained_again(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = overtaken(line, monkeypatch)
    assert result.code == 2
    assert "another process trained this run meanwhile" in result.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert "is finished" in lmzoo(line).out


def test_the_control_it_would_be_trained_again(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_state", lambda path, manifest: [])
    assert overtaken(line, monkeypatch).code == 0


def test_a_pipe_in_the_place_of_a_checkpoint_is_passed_over(
    line: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert lmzoo(line).code == 0
    pipe = folder / "checkpoints" / runs.checkpoint_name(9)
    os.mkfifo(pipe)
    result = lmzoo(line.replace("max_steps 4", "max_steps 6"))
    assert result.code == 0, result.err
    assert f"skipped: {pipe}: no such file" in result.err
    assert "resuming   after step 4" in result.err


def kept(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(f): f.read_bytes() for f in files if f.name != ".lock"}


def refused(line: str, *parts: str) -> None:
    result = lmzoo(line)
    assert result.code == 2
    (error,) = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert not [part for part in parts if part not in error], error


@pytest.mark.parametrize("manifest", [None, "[1, 2]"])
def test_a_run_without_its_manifest_is_not_written_over(
    line: str, tmp_path: Path, manifest: str | None
) -> None:
    """Else its checkpoint would be taken for one of another configuration."""
    folder = tmp_path / "run"
    assert lmzoo(line).code == 0
    (folder / "manifest.json").unlink()
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    before = kept(folder)
    for more in ("", " --optimizer.lr 0.01 --trainer.max_steps 2"):
        refused(line + more, "manifest", "checkpoint")
    assert kept(folder) == before
    assert lmzoo(f"{line} --fresh").code == 0
    assert kept(folder) == before
    assert (tmp_path / "run-2" / "summary.json").exists()


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "summary.json"])
def test_a_folder_of_other_things_is_not_written_over(
    line: str, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")  # no run writes one
    (folder / name).write_text("mine")
    refused(line, f"holds {name}, and no manifest.json")
    assert sorted(file.name for file in folder.iterdir()) == sorted([name, "notes.txt"])
    (folder / name).unlink()
    assert lmzoo(line).code == 0  # the control
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_run_with_no_sound_checkpoint_says_so(line: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert lmzoo(line).code == 0
    for file in (folder / "checkpoints").glob("*.ckpt"):
        file.write_bytes(file.read_bytes()[:-1])
    before = kept(folder)
    refused(line, "is finished, but none of its checkpoints is sound", "truncated")
    refused(f"generate {folder}", "no sound checkpoint", "truncated")
    assert kept(folder) == before

    longer = lmzoo(line.replace("max_steps 4", "max_steps 6"))
    assert longer.code == 0, longer.err
    assert "no checkpoint is sound, so the run starts anew" in longer.err
