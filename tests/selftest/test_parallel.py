"""Two processes and one, in float32 and float64, resumed either way."""

import os
from pathlib import Path
from typing import Any

import pytest

from lmzoo.selftest import parallel
from lmzoo.selftest.commands import Job, Result
from lmzoo.selftest.outcome import EFFORTS


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    found = parallel.check(tmp_path, EFFORTS["quick"])
    assert found.details == []
    assert found.control_failed
    assert found.holds


class Ports:
    """Commands of which the first find their port taken, or that all fail."""

    def __init__(self, *errors: str) -> None:
        self.errors, self.calls = list(errors), 0

    def together(self, jobs: list[Job]) -> list[Result]:
        """One error for each call, until there are none left."""
        self.calls += 1
        said = self.errors.pop(0) if self.errors else ""
        return [Result(int(bool(said)), "", said, 0.0, 0, False) for _ in jobs]


def test_a_port_that_is_taken_is_changed_once(tmp_path: Path) -> None:
    trial, taken = parallel.TRIALS[0], "RuntimeError: Address already in use"
    ports: Any = Ports(taken)
    parallel.fit(ports, tmp_path, 1, trial)
    assert ports.calls == 2
    for error, calls in ((taken, 2), ("something else", 1)):
        ports = Ports(*[error] * 3)
        with pytest.raises(RuntimeError, match="two processes"):
            parallel.fit(ports, tmp_path, 1, trial)
        assert ports.calls == calls
