"""The first Ctrl-C or SIGTERM finishes the step and saves; the second stops at once.

Several processes have to stop after the same step, so each asks the others whether one
of them was told. An answer means waiting for all of them, and for the GPU: they ask
after every ``EVERY``-th step and after each validation.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LIGHTNINGS = "_broadcast_sigterm_tensor"  # the method that its training loop asks by
EVERY = 8  # optimizer steps between two questions among several processes


class Interrupted(SystemExit):
    """Training was stopped from outside; the exit code is 128 + the signal."""


class Interruption:
    """Notes a signal while training, for the callback that saves to act upon.

    Signals reach Python's main thread only; elsewhere nothing is installed.
    """

    def __init__(self) -> None:
        self.received = 0
        self._words = b""
        self._before: dict[int, Any] = {}
        self._asking: dict[str, Any] = {}  # attributes of Lightning's loop

    def install(self, trainer: Trainer) -> None:
        """Take over both signals until ``restore``."""
        self.received = 0
        steps = "this step" if trainer.world_size == 1 else f"{EVERY} steps at most"
        self._words = f"finishing {steps}, then saving; once more stops now\n".encode()
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            for number in SIGNALS:
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

    def stop(self) -> None:
        """End training.

        Raises:
            Interrupted: always.
        """
        raise Interrupted(128 + (self.received or signal.SIGTERM))

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received:
            self.restore()
            raise Interrupted(128 + number)
        self.received = number
        # not print: a handler may have interrupted a write to the same stream
        os.write(2, self._words)
