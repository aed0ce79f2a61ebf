"""Benchmarks that run in turns: one at a time, each for its turn, none left behind."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
TICKS = """\
import sys
for _ in range(200):
    sum(range(50_000))
    with open(sys.argv[1], "a") as shared:
        shared.write(sys.argv[2])
print('{"name": "%s"}' % sys.argv[2])
"""


@pytest.fixture(scope="module")
def turns() -> ModuleType:
    path = ROOT / "benchmarks" / "turns.py"
    spec = importlib.util.spec_from_file_location("benchmark_turns", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks its own names up
    spec.loader.exec_module(module)
    return module


def ticking(turns: ModuleType, seconds: float, shared: Path) -> tuple[int, float]:
    """How often the writer of the shared file changed; seconds of both writers."""
    rows = turns.in_turns(
        [
            turns.Process(
                [sys.executable, "-c", TICKS, str(shared), name], turns.last_line
            )
            for name in "ab"
        ],
        seconds,
    )
    assert [row["name"] for row in rows] == ["a", "b"]  # as they were given
    written = shared.read_text()
    assert sorted(written) == ["a"] * 200 + ["b"] * 200
    changes = sum(one != other for one, other in pairwise(written))
    return changes, sum(row["seconds"] for row in rows)


def test_one_runs_while_the_other_stands_still(
    turns: ModuleType, tmp_path: Path
) -> None:
    """The control: a turn longer than the whole run lets the first one end."""
    changes, seconds = ticking(turns, 0.02, tmp_path / "turns")
    whole, _ = ticking(turns, 600.0, tmp_path / "whole")

    assert 1 < changes <= seconds / 0.02 + 2  # side by side they would mix freely
    assert whole == 1


def test_one_that_fails_ends_all(turns: ModuleType) -> None:
    endless = turns.Process([sys.executable, "-c", "while True: pass"], turns.last_line)
    wrong = turns.Process(
        [sys.executable, "-c", "raise SystemExit('no such text')"], turns.last_line
    )
    with pytest.raises(SystemExit, match="no such text"):
        turns.in_turns([endless, wrong], 0.02)

    assert endless._running.poll() is not None
