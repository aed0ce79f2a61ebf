"""The first signal finishes the step and saves; another one stops at once.

Outside training there is nothing to save, so the first one stops at once there: only
several processes end the pass that they are in, none without the others.

Several processes have to stop after the same step, so each asks the others whether one
of them was told. An answer means waiting for all of them, and for the GPU: they ask
after every ``EVERY``-th step and after each validation.

One request is often sent twice: a shell hands its terminal's end on to a run that the
kernel tells too, as a launcher does with its scheduler's. That is no second request.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer

# Ctrl-C, the request to end, a closed terminal, and what SLURM announces its end by
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
# Lightning's own handlers, and the method by which its training loop asks what they
# heard: one saves amid a step, one lets a pass end in silence, and before every batch
# the first process would tell the others that it heard nothing.
TAKES, ASKS = "register_signal_handlers", "_broadcast_sigterm_tensor"
EVERY = 8  # optimizer steps between two questions among several processes
SAME = 1.0  # seconds in which a signal that comes again is no other request


class Interrupted(SystemExit):
    """Training was stopped from outside; the exit code is 128 + the signal."""


class Interruption:
    """Notes a signal while training, for the callback that saves to act upon.

    Signals reach Python's main thread only; elsewhere nothing is installed. Where
    ``nohup`` lets a run outlive its terminal, it does.

    Args:
        clock: seconds, from anywhere.

    Attributes:
        received: the signal; 0 while there was none.
        saves: whether a checkpoint is still to come of what has been trained.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.received, self.saves = 0, False
        self._clock, self._since = clock, 0.0
        self._trainer: Any = None
        self._before: dict[int, Any] = {}

    def install(self, trainer: Trainer) -> None:
        """Take over the signals until ``restore``, from Lightning as well."""
        self.received, self.saves, self._trainer = 0, False, trainer
        vars(trainer._signal_connector)[TAKES] = _nothing
        vars(trainer.fit_loop.epoch_loop)[ASKS] = _nothing
        if threading.current_thread() is threading.main_thread() and not self._before:
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            for number, handler in handlers.items():
                if not (_hangs_up(number) and handler == signal.SIG_IGN):
                    self._before[number] = handler
                    signal.signal(number, self._note)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def pending(self, trainer: Trainer, validated: bool = False) -> bool:
        """Whether any process was told to stop; all of them get the same answer.

        Args:
            trainer: after an optimizer step, or a pass.
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
        now = self._clock()
        if self.received == number and (_hangs_up(number) or now - self._since < SAME):
            return
        if self.received:
            self.restore()
            raise Interrupted(128 + number)
        self.received, self._since = number, now
        several = self._trainer.world_size > 1
        if not self.saves and not several:
            self.stop(self._trainer)
        steps = f"{EVERY} steps at most" if several else "this step"
        what = (
            f"finishing {steps}, then saving" if self.saves else "finishing this pass"
        )
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            # not print: a handler may have interrupted a write to the same stream
            os.write(2, f"{what}; once more, a second later, stops now\n".encode())


def _nothing() -> None:
    """In the place of Lightning's own."""


def _hangs_up(number: int) -> bool:
    return signal.Signals(number).name == "SIGHUP"


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
