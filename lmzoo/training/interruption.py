"""The first signal finishes the step and saves; the second stops at once."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer

# Ctrl-C, the request to end, a closed terminal, and what SLURM announces its end by
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


class Interrupted(SystemExit):
    """Training was stopped from outside; the exit code is 128 + the signal."""


class Interruption:
    """Notes a signal while training, for the callback that saves to act upon.

    Signals reach Python's main thread only; elsewhere nothing is installed. Where
    ``nohup`` lets a run outlive its terminal, it does.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the signals until ``restore``."""
        self.received = 0
        if threading.current_thread() is threading.main_thread() and not self._before:
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            for number, handler in handlers.items():
                hang_up = signal.Signals(number).name == "SIGHUP"
                if not (hang_up and handler == signal.SIG_IGN):
                    self._before[number] = handler
                    signal.signal(number, self._note)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def pending(self, trainer: Trainer) -> bool:
        """Whether any process was told to stop; all of them get the same answer."""
        received = bool(self.received)
        if trainer.world_size == 1:
            return received
        return trainer.strategy.reduce_boolean_decision(received, all=False)

    def stop(self, trainer: Trainer) -> None:
        """End training; a SLURM job whose time is over goes back into the queue.

        Raises:
            Interrupted: always.
        """
        connector = trainer._accelerator_connector
        cluster = connector.cluster_environment
        if (
            isinstance(cluster, SLURMEnvironment)
            and cluster.auto_requeue
            and self.received == cluster.requeue_signal
            and trainer.is_global_zero
        ):
            requeue()
        raise Interrupted(128 + (self.received or signal.SIGTERM))

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received:
            self.restore()
            raise Interrupted(128 + number)
        self.received = number
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            # not print: a handler may have interrupted a write to the same stream
            os.write(2, b"finishing this step, then saving; once more stops now\n")


def requeue() -> None:
    """Ask SLURM to run this job again; Lightning's own way saves amid a step."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = os.environ.get("SLURM_JOB_ID", "")
    job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else job
    try:
        code = subprocess.run(["scontrol", "requeue", job], check=False).returncode
    except OSError as error:
        code = error.strerror
    said = (
        f"job {job} is in the queue again"
        if code == 0
        else (f"job {job} could not be put back into the queue: scontrol: {code}")
    )
    print(said, file=sys.stderr)
