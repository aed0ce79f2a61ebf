"""Cells on this machine, a few at a time, each with its own threads."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

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
    """

    def __init__(self, parallel: int = 1) -> None:
        self.parallel = parallel
        self._running: list[tuple[Job, subprocess.Popen[bytes]]] = []

    def run(self, jobs: Sequence[Job], done: Callable[[Outcome], None]) -> None:
        """Run every job; Ctrl-C lets the running ones save, then is raised again."""
        waiting = list(jobs)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.parallel:
                    job = waiting.pop(0)
                    self._running.append((job, start(job, session=True, tied=True)))
                ended = [pair for pair in self._running if pair[1].poll() is not None]
                for job, process in ended:
                    self._running.remove((job, process))
                    done(finish(job, process))
                if not ended:
                    time.sleep(PAUSE)
        except BaseException:
            self._stop()
            raise

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
