"""Commands that run in turns, so that a drifting machine is equally slow for each.

One runs at a time and is then stopped, and the next one continued, by signals; a
command's time is the sum of its own turns. Not a benchmark of its own.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TURN = 1.0  # seconds
OF_STEPS = 0.5  # seconds, where single steps are timed
Row = dict[str, Any]


def shell(line: list[str]) -> tuple[float, str]:
    """Seconds and output of a command that runs alone.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr}")
    return seconds, done.stdout


@dataclass
class Process:
    """A command that runs in turns, and the seconds in which it ran."""

    line: list[str]
    read: Callable[[str], Row]  # its row, from what it printed
    seconds: float = 0.0
    row: Row = field(default_factory=dict)
    _running: subprocess.Popen[bytes] | None = None

    def turn(self, seconds: float, log: Path) -> bool:
        """Let it run for so long at most; is it over? What it prints is in ``log``.

        Raises:
            SystemExit: it failed.
        """
        began, errors = time.perf_counter(), log.with_suffix(".errors")
        if self._running is None:
            with log.open("w") as out, errors.open("w") as told:
                self._running = subprocess.Popen(
                    self.line, stdout=out, stderr=told, start_new_session=True
                )
        else:
            os.killpg(self._running.pid, signal.SIGCONT)
        try:
            code = self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._running.pid, signal.SIGSTOP)
            return False
        finally:
            self.seconds += time.perf_counter() - began
        if code:
            raise SystemExit(f"{' '.join(self.line)}\n{errors.read_text()}")
        self.row = {**self.read(log.read_text()), "seconds": self.seconds}
        return True

    def end(self) -> None:
        """Leave nothing running or stopped behind."""
        if self._running is not None and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()


def in_turns(processes: list[Process], seconds: float = TURN) -> list[Row]:
    """The rows of all, which run one at a time, ``seconds`` each."""
    waiting = deque(enumerate(processes))
    with tempfile.TemporaryDirectory() as place:
        try:
            while waiting:
                number, process = waiting.popleft()
                if not process.turn(seconds, Path(place) / str(number)):
                    waiting.append((number, process))
        finally:
            for process in processes:
                process.end()
    return [process.row for process in processes]


def last_line(said: str) -> Row:
    """The row of a command that ends with a line of JSON."""
    return json.loads(said.splitlines()[-1])


def rounds_of(
    script: str, names: Sequence[str], number: int, more: list[str]
) -> list[dict[str, Row]]:
    """``script --only NAME`` of all names in turns of half a second, several rounds.

    Every other round begins with the last name. Each is printed as it ends.
    """
    found = []
    for turn in range(number):
        order = names[::-1] if turn % 2 else names
        rows = in_turns(
            [
                Process([sys.executable, script, "--only", name, *more], last_line)
                for name in order
            ],
            OF_STEPS,
        )
        found.append(dict(zip(order, rows, strict=True)))
        print(json.dumps(found[-1]), flush=True)
    return found
