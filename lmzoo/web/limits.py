"""What one visitor may ask for: checked where the work is done, not in the browser."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmzoo.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        characters: of a text or prompt.
        new_tokens: that are generated.
        positions: tokens of a prompt that is attributed.
        seconds: of work; what is there by then is shown.
        waiting: requests in the queue, the one at work not counted.
        body: bytes of a request.
    """

    characters: int = 2000
    new_tokens: int = 1000
    positions: int = 256
    seconds: float = 60.0
    waiting: int = 8
    body: int = 1 << 16

    def require_text(self, text: object, what: str = "the text") -> str:
        """``text`` itself, if it is text and not too long.

        Raises:
            UsageError: it is not.
        """
        if not isinstance(text, str):
            raise UsageError(f"{what} must be text")
        if len(text) > self.characters:
            raise UsageError(
                f"{what} has {len(text):,} characters; this page takes "
                f"{self.characters:,}"
            )
        return text

    def deadline(self) -> "Deadline":
        """Starts now."""
        return Deadline(self.seconds)


class TimeUp(UsageError):
    """A request has used its time."""


@dataclass
class Deadline:
    """When a request must be done."""

    seconds: float
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    @property
    def over(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() > self._end

    def check(self, *_: object) -> None:
        """Raise TimeUp if it is."""
        if self.over:
            raise TimeUp(
                f"stopped after {self.seconds:g} seconds, the limit of this page; "
                f"give a shorter text"
            )

    @contextmanager
    def bounding(self, model: "nn.Module") -> Iterator[None]:
        """Stop ``model``, at the next of its parts that is called, once time is up."""
        self.check()
        hooks = [part.register_forward_pre_hook(self.check) for part in model.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
