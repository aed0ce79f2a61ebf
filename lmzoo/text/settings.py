"""The options that decide which tokens there are, and the ranges they must keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmzoo.errors import UsageError

MOST_SAMPLES = 1 << 48  # no run trains on more; sums of it stay within an int64


@dataclass(frozen=True)
class Settings:
    """The options that decide which tokens there are (see ``TextDataModule``)."""

    corpus: str | None = None
    path: str | list[str] | None = None
    val_path: str | list[str] | None = None
    test_path: str | list[str] | None = None
    text_column: str | None = None
    keep_linebreaks: bool = True
    val_fraction: float = 0.05
    test_fraction: float = 0.05
    tokenizer: str = "char"
    tokenizer_size: int | None = None
    min_frequency: int = 1
    split_digits: bool = False
    vocabulary: str = "train"
    unknown: str = "unk"
    max_train_tokens: int | None = None
    max_val_tokens: int | None = None
    tokenizer_state: dict[str, Any] | None = None
    extend_tokenizer: bool = False

    def __post_init__(self) -> None:
        at_least(1, min_frequency=self.min_frequency)
        at_least(1, tokenizer_size=self.tokenizer_size)
        at_least(2, max_train_tokens=self.max_train_tokens)
        at_least(2, max_val_tokens=self.max_val_tokens)
        one_of(("train", "all"), vocabulary=self.vocabulary)
        one_of(("unk", "skip", "error"), unknown=self.unknown)
        self._require_readers()
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UsageError(f"--data.{name} {value}: give a number in [0, 1)")
        both = self.val_fraction + self.test_fraction
        if both >= 1:
            raise UsageError(
                f"--data.val_fraction and --data.test_fraction add up to {both:g}, "
                "which leaves nothing to train on; lower them"
            )

    def _require_readers(self) -> None:
        """Refuse options that the chosen tokenizer would not read."""
        if self.tokenizer_state is not None:
            return
        for name, value, kinds in (
            ("tokenizer_size", self.tokenizer_size is not None, ("word", "bpe")),
            ("min_frequency", self.min_frequency > 1, ("word",)),
            ("split_digits", self.split_digits, ("bpe",)),
        ):
            if value and self.tokenizer not in kinds:
                raise UsageError(
                    f"--data.{name}: a {self.tokenizer} tokenizer does not read it; "
                    f"it is for --data.tokenizer {' or '.join(kinds)}"
                )


def at_least(least: int, **options: int | None) -> None:
    """Refuse numbers below ``least``; None stands for no limit.

    Raises:
        UsageError: naming the option.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise UsageError(f"--data.{name} {value}: give {least} or more")


def one_of(choices: Sequence[str], **options: str) -> None:
    """Refuse what is not among ``choices``.

    Raises:
        UsageError: naming the option and the choices.
    """
    for name, value in options.items():
        if value not in choices:
            raise UsageError(f"--data.{name} {value}: choose {', '.join(choices)}")


def stored_samples(state: object, key: str | int, name: str = "") -> int:
    """A number of samples in what a checkpoint says of the data; anybody may write one.

    Raises:
        UsageError: it is not there, or no number that a run can reach.
    """
    value = state.get(key) if isinstance(state, dict) else None
    if type(value) is not int or not 0 <= value < MOST_SAMPLES:
        raise UsageError(
            f"the checkpoint's {name or key} in the data is no number of samples below "
            "2**48: it is damaged or was changed; resume from another one"
        )
    return value
