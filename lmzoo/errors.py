"""The exceptions that end a command with one line and exit code 2."""


class UsageError(ValueError):
    """A mistake of the caller: what is wrong, where, and what to do, in one line."""


class Diverged(UsageError):
    """Training came to a loss, a gradient or weights that are not finite."""


def first_line(error: BaseException) -> str:
    """An exception's first line, short enough to stand inside another message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:160]
