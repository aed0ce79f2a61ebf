"""What a check is asked for, and what it found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Case = TypeVar("Case")
SHARE = 4  # of each kind of case, the quick form tries one in so many
SAID = 300  # characters of an error


@dataclass(frozen=True)
class Effort:
    """How much a check tries.

    Attributes:
        kills: runs that are killed, as many of each model.
        saves: processes killed while they save.
        flips: single bits turned over in a checkpoint.
        truncations: checkpoints cut short.
        full: also what takes minutes.
    """

    kills: int
    saves: int
    flips: int
    truncations: int
    full: bool

    @property
    def quick(self) -> bool:
        """Whether a sample of the cases has to do."""
        return self.kills < 40

    def of(self, kinds: Iterable[Sequence[Case]]) -> list[Case]:
        """All cases of every kind; where it has to be quick, some of every kind."""
        each = SHARE if self.quick else 1
        return [case for kind in kinds for case in kind[::each]]


EFFORTS = {
    "quick": Effort(kills=12, saves=40, flips=60, truncations=20, full=False),
    "normal": Effort(kills=135, saves=200, flips=300, truncations=100, full=False),
    "long": Effort(kills=360, saves=400, flips=300, truncations=100, full=True),
}


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        name: one word.
        claim: the promise, in a sentence.
        tried: how many cases.
        held: in how many of them the promise was kept.
        control: what was done to the control, and what came of it.
        control_failed: whether it did; a check whose control passes shows nothing.
        details: a line for each case that failed.
        seconds: that it all took.
        skipped: why it could not be tried here; "" if it was.
        broke: whether the check itself ended with an error.
        stock: what stock Lightning makes of the same; "" where it was not tried.
    """

    name: str
    claim: str
    tried: int
    held: int
    control: str
    control_failed: bool
    details: list[str]
    seconds: float
    skipped: str = ""
    broke: bool = False
    stock: str = ""

    @property
    def holds(self) -> bool:
        """Whether every case kept the promise, and the control did not."""
        return self.held == self.tried and self.control_failed

    @classmethod
    def broken_off(
        cls, name: str, claim: str, error: Exception, seconds: float
    ) -> "Outcome":
        """Of a check that itself ended with an error: it shows nothing."""
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:SAID]}"
        return cls(name, claim, 1, 0, "not tried", False, [why], seconds, broke=True)
