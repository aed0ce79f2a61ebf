"""What Lightning does around every step and nobody here needs, left out.

In each step Lightning calls half a dozen hooks of every callback, most of them empty,
each inside a profiler's context. At a step of a millisecond that shows.
"""

import contextlib
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler

_NOTHING = contextlib.nullcontext()


class Watcher(Callback):
    """A callback without hooks in the step, but for those that a subclass defines.

    Lightning passes over what cannot be called.
    """

    on_train_batch_start: Any = None
    on_train_batch_end: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None


class Unprofiled(PassThroughProfiler):
    """Lightning's default profiler, which notes nothing, without making a context."""

    def profile(self, action_name: str) -> Any:  # type: ignore[override]
        """The same empty context every time."""
        del action_name
        return _NOTHING
