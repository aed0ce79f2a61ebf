"""Options of the small commands: the standard library's parser, one line per mistake.

The commands that train are LightningCLI's. These take a name or two, and answer faster
than jsonargparse is imported.
"""

import argparse
from typing import NoReturn

from lmzoo.errors import UsageError
from lmzoo.registry import load_plugin


class Options(argparse.ArgumentParser):
    """A parser whose mistakes are ``UsageError``.

    Args:
        command: what comes after ``lmzoo``.
        summary: what it does, for ``--help``.
    """

    def __init__(self, command: str, summary: str) -> None:
        super().__init__(
            prog=f"lmzoo {command}", description=summary, allow_abbrev=False
        )

    def add_plugin(self) -> None:
        """The option that names plugin files."""
        self.add_argument(
            "--plugin",
            action="append",
            default=[],
            metavar="FILE.py",
            help="run this file first, for its @register_model lines; may be repeated",
        )

    def read(self, argv: list[str]) -> argparse.Namespace | None:
        """The options, their plugin files loaded; None when help was asked for.

        Raises:
            UsageError: anything that cannot be parsed, or a plugin file that fails.
        """
        try:
            options = self.parse_args(argv)
        except SystemExit:  # --help has printed
            return None
        for path in getattr(options, "plugin", []):
            load_plugin(path)
        return options

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UsageError(f"{message}; see {self.prog} --help")
