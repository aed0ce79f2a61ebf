"""The local launcher, with processes that only sleep, fail or save."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lmzoo.compare import local
from lmzoo.compare.jobs import Job, Outcome
from lmzoo.compare.local import Local

SAVES = """
import signal, sys, time
from pathlib import Path
def save(number, frame):
    Path(sys.argv[1], "saved").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, save)
Path(sys.argv[1], "ready").touch()
time.sleep(60)
"""


def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's argv becomes a Python script and its arguments."""

    def start(
        job: Job, session: bool = False, tied: bool = False
    ) -> "subprocess.Popen[bytes]":
        del tied
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "log.txt").write_text("$ lmzoo x\n")
        command = [sys.executable, "-c", *job.argv]
        return subprocess.Popen(command, start_new_session=session)

    monkeypatch.setattr(local, "start", start)


def jobs(folder: Path, *scripts: str) -> list[Job]:
    """One for each script, which is told its folder."""
    return [
        Job(str(n), (script, str(folder / str(n))), folder / str(n))
        for n, script in enumerate(scripts)
    ]


def test_every_job_ends_once_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch)
    ended: list[Outcome] = []
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

    Local(2).run(jobs(tmp_path, "", "raise SystemExit(3)", killed), ended.append)

    found = {outcome.name: (outcome.code, outcome.reason) for outcome in ended}
    assert found == {
        "0": (0, ""),
        "1": (3, "no output"),
        "2": (-9, "ended by signal 9"),
    }


@pytest.mark.parametrize("parallel", [1, 2])
def test_what_is_done_at_an_end_has_the_place_of_a_cell(
    parallel: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While ``done`` works, at most ``parallel - 1`` processes are running."""
    scripted(monkeypatch)
    launcher, neighbours = Local(parallel), []

    def done(outcome: Outcome) -> None:
        neighbours.append(len(launcher._running))

    launcher.run(jobs(tmp_path, *["pass"] * 5), done)

    assert len(neighbours) == 5
    assert max(neighbours) <= parallel - 1


def test_an_interruption_lets_the_running_cells_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch)
    wait = f"import time, pathlib\nwhile not pathlib.Path({str(tmp_path)!r}, '1', "
    wait += "'ready').exists(): time.sleep(0.01)"

    def done(outcome: Outcome) -> None:
        assert outcome.name == "0"
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Local(2).run(jobs(tmp_path, wait, SAVES, "pass"), done)

    assert (tmp_path / "1" / "saved").exists()
    assert not (tmp_path / "2").exists()
    assert time.monotonic() - began < 30


NEIGHBOURED = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
others = Path(sys.argv[2])
(others / f"{folder.parent.name}-{folder.name}").touch()
if folder.parent == others.parent:  # a cell, which waits for company
    for _ in range(int(sys.argv[3])):
        if len(list(others.iterdir())) > 1:
            break
        time.sleep(0.01)
else:
    time.sleep(60)
"""


@pytest.mark.parametrize("steady", [True, False])
def test_the_last_cell_keeps_a_neighbour(
    steady: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch)
    seen = tmp_path / "seen"
    seen.mkdir()
    folder = tmp_path / "0"
    tries = "6000" if steady else "20"
    job = Job("0", (NEIGHBOURED, str(folder), str(seen), tries), folder)
    launcher, ended = Local(2), []
    launcher.steady = steady

    launcher.run([job], ended.append)

    assert [outcome.code for outcome in ended] == [0]
    assert len(list(seen.iterdir())) == 1 + steady
    assert not launcher._copies
    begun = [one for one in seen.iterdir() if one.name.startswith("lmzoo-neighbour-")]
    for one in begun:  # thrown away, process and folder
        assert not (
            Path(tempfile.gettempdir()) / one.name.removesuffix("-run")
        ).exists()


PARENT = """
import sys
from pathlib import Path
from lmzoo.compare import jobs
from lmzoo.compare.local import Local
jobs.sys.executable = sys.argv[2]
Local(1).run([jobs.Job("a", (), Path(sys.argv[1]))], print)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child")
def test_a_comparison_that_is_killed_takes_its_cells_with_it(tmp_path: Path) -> None:
    """SIGKILL cannot be handed on by the one who gets it."""
    python = tmp_path / "python"  # stands for lmzoo: says its number, and sleeps
    python.write_text("#!/bin/sh\necho $$ > $(dirname $0)/pid\nexec sleep 60\n")
    python.chmod(0o755)
    command = [sys.executable, "-c", PARENT, str(tmp_path / "run"), str(python)]
    parent = subprocess.Popen(command)
    pid = tmp_path / "pid"
    until(lambda: pid.is_file() and pid.read_text().strip() != "")
    cell = Path("/proc", pid.read_text().strip())
    assert running(cell)

    parent.kill()
    parent.wait()

    until(lambda: not running(cell))


def running(process: Path) -> bool:
    """There, and not only waiting to be noticed as ended."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(true: Callable[[], bool]) -> None:
    """Wait for something that another process does, 30 s at most."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
