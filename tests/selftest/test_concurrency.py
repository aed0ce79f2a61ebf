"""Two commands at one time."""

from pathlib import Path

from lmzoo.selftest import concurrency
from lmzoo.selftest.outcome import EFFORTS


def test_two_commands_at_one_time(tmp_path: Path) -> None:
    found = concurrency.check(tmp_path, EFFORTS["quick"])
    assert found.details == []
    assert found.control_failed
    assert found.holds
