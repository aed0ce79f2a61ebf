"""Runs as they are typed: two processes that are killed, and one that hangs."""

import os
import sys
from pathlib import Path

import pytest

from lmzoo.selftest import typed
from lmzoo.selftest.kills import DDP, Story, tell
from lmzoo.selftest.stories import Recipe
from lmzoo.selftest.typed import Typed


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_are_killed_and_go_on(tmp_path) -> None:
    stage = Typed(Recipe("gpt", 4, DDP, "ddp"), tmp_path / "ddp")
    assert stage.play() == ""
    tally = tell(Story(stage, "killed", shares=(0.2,)))
    assert (tally.tried, tally.wrong) == (1, [])


@pytest.mark.parametrize("delay", [None, 0.0])
def test_one_that_never_saves_hangs_and_was_not_killed(
    delay: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = tmp_path / "waits"
    waits.write_text("#!/bin/sh\nexec sleep 1000\n")
    waits.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(waits))
    monkeypatch.setattr(typed, "PATIENCE", 0.0)
    ended = Typed(Recipe("ff"), tmp_path / "ff").run("whole", delay=delay)
    assert (ended.code, ended.began, ended.killed) == (1, False, False)
    assert ended.said.startswith("hung")
