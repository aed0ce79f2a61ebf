"""Forked processes: every one's exit code reaches whoever started it."""

import sys
import threading
from multiprocessing import forkserver

import pytest

from lmzoo.selftest import forks

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
