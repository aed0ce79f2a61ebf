"""Two processes that are killed together go on as if they had not been."""

import os

import pytest

from lmzoo.selftest.kills import DDP, Story, tell
from lmzoo.selftest.stories import Recipe
from lmzoo.selftest.typed import Typed


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_are_killed_and_go_on(tmp_path) -> None:
    stage = Typed(Recipe("gpt", 4, DDP, "ddp"), tmp_path / "ddp")
    assert stage.play() == ""
    tally = tell(Story(stage, "killed", shares=(0.2,)))
    assert (tally.tried, tally.wrong) == (1, [])
