"""The first signal finishes the step and saves; the second stops at once.

Several processes have to stop after the same step, so each asks the others whether one
of them was told. An answer means waiting for all of them, and for the GPU: they ask
after every ``EVERY``-th step and after each validation.
"""

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
LIGHTNINGS = "_broadcast_sigterm_tensor"  # the method that its training loop asks by
EVERY = 8  # optimizer steps between two questions among several processes


class Interrupted(SystemExit):
    """Training was stopped from outside; the exit code is 128 + the signal."""


class Interruption:
    """Notes a signal while training, for the callback that saves to act upon.

    Signals reach Python's main thread only; elsewhere nothing is installed. Where
    ``nohup`` lets a run outlive its terminal, it does.
    """

    def __init__(self) -> None:
        self.received = 0
        self._words = b""
        self._before: dict[int, Any] = {}
        self._asking: dict[str, Any] = {}  # attributes of Lightning's loop

    def install(self, trainer: Trainer) -> None:
        """Take over the signals until ``restore``."""
        self.received = 0
        steps = "this step" if trainer.world_size == 1 else f"{EVERY} steps at most"
        self._words = f"finishing {steps}, then saving; once more stops now\n".encode()
        if threading.current_thread() is threading.main_thread() and not self._before:
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            for number, handler in handlers.items():
                hang_up = signal.Signals(number).name == "SIGHUP"
                if not (hang_up and handler == signal.SIG_IGN):
                    self._before[number] = handler
                    signal.signal(number, self._note)
            # Lightning's own handler is gone, and yet before every batch its loop would
            # have the first process tell the others that it heard nothing.
            self._asking = vars(trainer.fit_loop.epoch_loop)
            self._asking[LIGHTNINGS] = lambda: None

    def restore(self) -> None:
        """Give the signals back."""
        self._asking.pop(LIGHTNINGS, None)
        self._asking = {}
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def pending(self, trainer: Trainer, validated: bool = False) -> bool:
        """Whether any process was told to stop; all of them get the same answer.

        Args:
            trainer: after an optimizer step.
            validated: this step was validated, so every process has just waited.
        """
        received = bool(self.received)
        if trainer.world_size == 1:
            return received
        if trainer.global_step % EVERY and not validated:
            return False
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
            os.write(2, self._words)


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
