"""``lmzoo transfer``: models on one another's corpora, as they are and after training.

lmzoo transfer matrix RUN RUN RUN      what each model loses on each corpus
lmzoo transfer fewshot RUN RUN RUN     what a few steps on another corpus change
"""

import difflib
import importlib
from pathlib import Path
from typing import Any

from lmzoo.cli.command import call
from lmzoo.cli.probing import command
from lmzoo.errors import UsageError

KINDS = {
    "matrix": ("lmzoo.analysis.transfer.matrix", "the loss of each model on each text"),
    "fewshot": ("lmzoo.analysis.transfer.fewshot", "a few steps on another's text"),
}


def run(argv: list[str]) -> int:
    """Run one of the two; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    name = argv[0]
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise UsageError(f"lmzoo transfer {name}{hint} there are {', '.join(KINDS)}")
    # only the chosen one is imported
    function = getattr(importlib.import_module(KINDS[name][0]), name)
    made = command(function, _folder, "transfer")
    return call(f"transfer {name}", made, argv[1:])


def _folder(places: tuple[Any, ...]) -> Path:
    """Several runs have no folder in common: the working directory's."""
    del places
    return Path("transfer")


def _help() -> str:
    lines = ["usage: lmzoo transfer KIND RUN RUN ... [options]", "", "kinds:"]
    lines += [f"  {name:<8} {summary}" for name, (_, summary) in KINDS.items()]
    return "\n".join([*lines, "", "lmzoo transfer KIND --help says what each takes"])
