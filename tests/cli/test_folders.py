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
