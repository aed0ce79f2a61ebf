"""Forked processes: every one's exit code reaches whoever started it."""

import os
import subprocess
import sys
import threading
from multiprocessing import forkserver
from pathlib import Path

import pytest

from lmzoo.selftest import forks
from lmzoo.selftest.stories import Recipe
from lmzoo.selftest.typed import Typed

CODE = 7


def end(code: int) -> None:
    """Called in the forked process."""
    sys.exit(code)


@pytest.mark.parametrize("turns", [True, False])
def test_a_start_elsewhere_takes_no_exit_code(
    turns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just as the code is to be read, another thread starts a process."""
    read, starts = forkserver.read_signed, []

    class Free:
        """What a lock is not."""

        __enter__ = __exit__ = staticmethod(lambda *given: None)

    def interrupted(descriptor: int) -> int:
        if not starts:
            starts.append(threading.Thread(target=forks.apart, args=(end, 0)))
            starts[0].start()
            starts[0].join(0.5)  # it waits for its turn, and this for nothing
        return read(descriptor)

    if not turns:
        monkeypatch.setattr(forks, "TURNS", Free())
    fork = forks.Fork(end, CODE)
    monkeypatch.setattr(forkserver, "read_signed", interrupted)
    code = fork.code(forks.PATIENCE)
    starts[0].join()
    assert (code == CODE) is turns


FOREIGN = {"SLURM_NTASKS": "2", "RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}
SETTINGS = {"LMZOO_SHARED_CACHE": "s3://bucket", "LMZOO_FIT__SEED_EVERYTHING": "5"}


def rank() -> None:
    """Called in the forked process: exit with Lightning's rank, or 9 in a job."""
    from lightning.pytorch.utilities import rank_zero_only

    given = {*FOREIGN, *SETTINGS} & set(os.environ)
    sys.exit(9 if given else rank_zero_only.rank)


def test_no_job_and_no_setting_reaches_a_trial(tmp_path: Path) -> None:
    """Not even as Lightning is imported, which it is before a fork."""
    script = tmp_path / "script.py"
    script.write_text(
        "from lightning.pytorch.utilities import rank_zero_only\n"
        "from tests.selftest.test_forks import forks, rank\n"
        "if __name__ == '__main__':\n"
        "    print(rank_zero_only.rank, forks.apart(rank))\n"
    )
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, **FOREIGN, **SETTINGS, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1 0\n", done.stderr  # here it is the job's, there its own
    given = {"PATH": "/bin", "LMZOO_TEST_ATTEMPTS": "notes"}
    assert forks.own({**given, **FOREIGN, **SETTINGS}) == given


def test_nor_one_that_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**FOREIGN, **SETTINGS}.items():
        monkeypatch.setenv(name, value)
    given = Typed(Recipe("ff"), tmp_path / "ff")._environment()
    assert not {*FOREIGN, *SETTINGS} & set(given)
    assert given["LMZOO_CACHE"] == str(tmp_path / "ff" / "cache")
