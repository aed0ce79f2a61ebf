"""How many windows a batch holds, where that changes during training.

A schedule is counted in optimizer steps; what a loader knows is its position. The one
follows from the other, so a resumed run takes the sizes that it would have taken.
"""

from bisect import bisect_right
from itertools import pairwise

from lmzoo.errors import UsageError

MOST = 1 << 20  # windows in a batch: what indexes them fits any memory


class BatchSizes:
    """Windows in a batch as a function of the position in samples.

    Args:
        first: windows in a batch at the start, over all processes.
        schedule: optimizer steps taken -> windows in a batch from then on.
        batches: of a step; gradients accumulate over them.

    Raises:
        UsageError: a step or a size that is no whole number, or below 1, or a batch
            that no memory holds.
    """

    def __init__(
        self, first: int, schedule: dict[int, int] | None = None, batches: int = 1
    ) -> None:
        steps = {_whole(step): _whole(size) for step, size in (schedule or {}).items()}
        ordered = [(0, first), *sorted(steps.items())]
        self.sizes = [size for _, size in ordered]
        for number, size in enumerate(self.sizes):
            if size > MOST:
                raise UsageError(
                    f"{_option(number)} {size}: more than {MOST:,} windows in a "
                    f"batch; lower it"
                )
        self._starts = [0]  # positions at which each size begins
        for (step, size), (until, _) in pairwise(ordered):
            taken = (until - step) * size * batches
            self._starts.append(self._starts[-1] + taken)

    def require_multiples(self, processes: int) -> None:
        """Refuse what several processes cannot divide among themselves.

        Raises:
            UsageError: a size that is no multiple of ``processes``, under the option
                that gave it.
        """
        for number, size in enumerate(self.sizes):
            if size % processes:
                raise UsageError(
                    f"{_option(number)}: {size} windows do not divide among "
                    f"{processes} processes; give a multiple of {processes}"
                )

    def at(self, position: int) -> int:
        """Windows in the batch that begins at ``position``."""
        return self.sizes[bisect_right(self._starts, position) - 1]


def _option(number: int) -> str:
    """What gave the size of this number."""
    return "--data.batch_size_schedule" if number else "--data.batch_size"


def _whole(number: int | str) -> int:
    """A step or a size; the keys of JSON are strings."""
    if str(number).isdecimal() and int(number) >= 1:
        return int(number)
    raise UsageError(
        f"--data.batch_size_schedule: {number} is no whole number of 1 or more; give "
        f"optimizer steps and windows in a batch, as {{50000: 1024}}"
    )
