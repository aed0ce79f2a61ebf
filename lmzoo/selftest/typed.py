"""Runs as they are typed: processes of their own, which are killed with their group."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import lmzoo
from lmzoo import runs
from lmzoo.selftest.forks import PATIENCE, Ended, Fuse, own
from lmzoo.selftest.stories import Stage

LOOK = 0.01  # seconds between two looks for a checkpoint


class Typed(Stage):
    """A stage whose runs are ``python -m lmzoo ...``, each in a session of its own."""

    def run(
        self,
        name: str,
        *fuses: Fuse,
        delay: float | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> Ended:
        """The command until it ends, or is killed ``delay`` seconds after a save."""
        assert not fuses
        assert prepare is None
        line = self.recipe.line(self.text, self.folder / name)
        known = set(runs.newest_first(self.folder / name))
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lmzoo", *line.split()],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        hung, began, started = False, False, time.perf_counter()
        try:
            began = self._saves(process, name, known)
            started = time.perf_counter()
            process.wait(PATIENCE if delay is None else delay)
        except subprocess.TimeoutExpired:
            hung = delay is None or not began
        finally:  # of several processes one may be left, whoever ended the first
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        trained = time.perf_counter() - started
        if hung:
            return Ended(1, began, trained, f"hung for {PATIENCE:.0f} s")
        said = (self.folder / f"{name}.log").read_text(encoding="utf-8")
        lines = [line for line in said.splitlines() if line.strip()]
        return Ended(process.returncode, began, trained, (lines or [""])[-1])

    def _environment(self) -> dict[str, str]:
        mine = own(os.environ)
        paths = [str(Path(lmzoo.__file__).parent.parent), mine.get("PYTHONPATH")]
        return {
            **mine,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "LMZOO_CACHE": str(self.folder / "cache"),
        }

    def _saves(
        self, process: "subprocess.Popen[bytes]", name: str, known: set[Path]
    ) -> bool:
        """Wait for a new checkpoint, for the end, or until it must be called hung.

        Raises:
            subprocess.TimeoutExpired: it did neither.
        """
        until = time.monotonic() + PATIENCE
        while process.poll() is None:
            if set(runs.newest_first(self.folder / name)) - known:
                return True
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(process.args, PATIENCE)
            time.sleep(LOOK)
        return False
