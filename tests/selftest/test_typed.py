"""Runs as they are typed: killed, with all that they started, and one that hangs."""

import os
import sys
from pathlib import Path

import pytest

from lmzoo import runs
from lmzoo.selftest import typed
from lmzoo.selftest.kills import DDP, Story, tell
from lmzoo.selftest.stories import Recipe
from lmzoo.selftest.typed import Typed
from tests.processes import gone


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_are_killed_and_go_on(tmp_path: Path) -> None:
    stage = Typed(Recipe("gpt", 4, DDP, "ddp"), tmp_path / "ddp")
    assert stage.play() == ""
    tally = tell(Story(stage, "killed", shares=(0.2,)))
    assert (tally.tried, tally.wrong) == (1, [])


def test_its_whole_group_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, told = Typed(Recipe("ff"), tmp_path / "ff"), tmp_path / "child"
    kept = stage.whole / "checkpoints" / runs.checkpoint_name(1)
    stands_for_python(
        f"sleep 1000 & echo $! > {told}; mkdir -p {kept.parent}; touch {kept}; wait",
        tmp_path / "parent",
        monkeypatch,
    )
    ended = stage.run("whole", delay=0.0)
    assert (ended.began, ended.killed) == (True, True)
    assert gone(int(told.read_text()))


@pytest.mark.parametrize("delay", [None, 0.0])
def test_one_that_never_saves_hangs_and_was_not_killed(
    delay: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_for_python("exec sleep 1000", tmp_path / "waits", monkeypatch)
    monkeypatch.setattr(typed, "PATIENCE", 0.0)
    ended = Typed(Recipe("ff"), tmp_path / "ff").run("whole", delay=delay)
    assert (ended.code, ended.began, ended.killed) == (1, False, False)
    assert ended.said.startswith("hung")


def stands_for_python(script: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started in place of this Python."""
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(file))
