"""Cells on this machine, a few at a time, each with its own threads."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lmzoo.compare.jobs import Job, Outcome, finish, start

PAUSE = 0.1  # seconds between looks


class Local:
    """Runs ``parallel`` processes at a time.

    A cell takes the place of a finished one only after ``done`` has returned: what is
    measured then runs in its place, so no cell ever has more neighbours than stated.
    Killed outright, this process takes its cells with it (Linux): nothing goes on
    training in a folder where the same command wants to go on.

    Args:
        parallel: processes at a time.

    Attributes:
        steady: the last cells keep as many neighbours as the others had, for a cell
            that has the machine to itself is quicker: copies of a running one take the
            empty places, and are thrown away.
    """

    def __init__(self, parallel: int = 1) -> None:
        self.parallel, self.steady = parallel, False
        self._running: list[tuple[Job, subprocess.Popen[bytes]]] = []
        self._copies: list[tuple[Job, subprocess.Popen[bytes]]] = []

    def run(self, jobs: Sequence[Job], done: Callable[[Outcome], None]) -> None:
        """Run every job; Ctrl-C lets the running ones save, then is raised again."""
        waiting = list(jobs)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.parallel:
                    job = waiting.pop(0)
                    self._running.append((job, start(job, session=True, tied=True)))
                self._fill()
                ended = [pair for pair in self._running if pair[1].poll() is not None]
                for job, process in ended:
                    self._running.remove((job, process))
                    if not self._running:
                        self._clear()
                    done(finish(job, process))
                if not ended:
                    time.sleep(PAUSE)
        except BaseException:
            self._clear()
            self._stop()
            raise

    def _fill(self) -> None:
        """Copies beside the last cells, each in a folder of its own."""
        while (
            self.steady
            and self._running
            and len(self._running) + len(self._copies) < self.parallel
        ):
            job = self._running[0][0]
            folder = Path(tempfile.mkdtemp(prefix="lmzoo-neighbour-")) / "run"
            argv = tuple(w.replace(str(job.folder), str(folder)) for w in job.argv)
            copy = replace(job, argv=argv, folder=folder)
            self._copies.append((copy, start(copy, session=True, tied=True)))

    def _clear(self) -> None:
        """End the copies and forget them."""
        for job, process in self._copies:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(job.folder.parent, ignore_errors=True)
        self._copies.clear()

    def _stop(self) -> None:
        """Hand the interruption on; once more stops at once."""
        while alive := [p for _, p in self._running if p.poll() is None]:
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
            with contextlib.suppress(KeyboardInterrupt):
                for process in alive:
                    process.wait()
        self._running.clear()
