"""Two processes and one, in float32 and float64, resumed either way."""

import os
from pathlib import Path

import pytest

from lmzoo.selftest import parallel
from lmzoo.selftest.outcome import EFFORTS


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    found = parallel.check(tmp_path, EFFORTS["quick"])
    assert found.details == []
    assert found.control_failed
    assert found.holds
