"""The first Ctrl-C or SIGTERM finishes the step and saves; the second stops at once."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(SystemExit):
    """Training was stopped from outside; the exit code is 128 + the signal."""


class Interruption:
    """Notes a signal while training, for the callback that saves to act upon.

    Signals reach Python's main thread only; elsewhere nothing is installed.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take over both signals until ``restore``."""
        self.received = 0
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            for number in SIGNALS:
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
        os.write(2, b"finishing this step, then saving; once more stops now\n")
