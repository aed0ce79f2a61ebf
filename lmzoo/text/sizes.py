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
        UsageError: a step or a size below 1, or a batch that no memory holds.
    """

    def __init__(
        self, first: int, schedule: dict[int, int] | None = None, batches: int = 1
    ) -> None:
        steps = {0: first} | {int(k): int(v) for k, v in (schedule or {}).items()}
        steps[0] = first
        for step, size in (schedule or {}).items():
            if int(step) < 1 or int(size) < 1:
                raise UsageError(
                    f"--data.batch_schedule {step}: {size}: give optimizer steps and "
                    f"windows in a batch, each 1 or more"
                )
        ordered = sorted(steps.items())
        self.sizes = [size for _, size in ordered]
        if max(self.sizes) > MOST:
            raise UsageError(
                f"--data.batch_size {max(self.sizes)}: more than {MOST:,} windows in a "
                f"batch; lower it"
            )
        self._starts = [0]  # positions at which each size begins
        for (step, size), (until, _) in pairwise(ordered):
            taken = (until - step) * size * batches
            self._starts.append(self._starts[-1] + taken)

    def at(self, position: int) -> int:
        """Windows in the batch that begins at ``position``."""
        return self.sizes[bisect_right(self._starts, position) - 1]
