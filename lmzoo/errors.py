"""The one exception that ends a command with one line and exit code 2."""


class UsageError(ValueError):
    """A mistake of the caller: what is wrong, where, and what to do, in one line."""
