"""``lmzoo inspect``: look inside a run with one of the probes.

A probe is one annotated function that gives a ``Finding``; its signature is the parser.
A plugin file adds one with ``@register_probe("name")``, a package by an entry point in
the group ``lmzoo.probes``.
"""

from pathlib import Path
from typing import Any

from lmzoo.cli.command import call
from lmzoo.cli.probing import command
from lmzoo.errors import UsageError
from lmzoo.registry import load_plugin, probes

EXTRA = "--extra-probe"
FOLDER = "the\n            folder inspect of the run, or of the working directory"


def run(argv: list[str]) -> int:
    """Run one probe; returns the exit code."""
    argv = load_extra(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0].startswith("-"):
        raise UsageError(f"name a probe before {argv[0]}; see lmzoo inspect --help")
    name = argv[0]
    probe = probes.load(name)
    return call(f"inspect {name}", command(probe, _folder, FOLDER), argv[1:])


def load_extra(argv: list[str]) -> list[str]:
    """Run the files of ``--extra-probe``; what is left of the line."""
    words, rest = list(argv), []
    while words:
        word = words.pop(0)
        if word.split("=")[0] != EXTRA:
            rest.append(word)
            continue
        _, equals, file = word.partition("=")
        if not equals and not words:
            raise UsageError(f"{EXTRA} needs a Python file")
        load_plugin(file if equals else words.pop(0), EXTRA)
    return rest


def _folder(places: tuple[Any, ...]) -> Path:
    """Beside what was looked at: in the run's folder, or in the working directory."""
    if places and isinstance(places[0], str):
        path = Path(places[0])
        inside = [path, path.parent.parent] if path.is_file() else [path]
        for folder in inside:
            if (folder / "manifest.json").is_file():
                return folder / "inspect"
    return Path("inspect")


def _help() -> str:
    table, problems = probes.entries()
    wide = max(map(len, table), default=0)
    lines = ["usage: lmzoo inspect PROBE ... [options]", "", "probes:"]
    lines += [f"  {name:<{wide}}  {entry.summary}" for name, entry in table.items()]
    lines += [f"warning: {problem}" for problem in problems]
    lines += ["", "lmzoo inspect PROBE --help says what each takes"]
    return "\n".join([*lines, f"{EXTRA} FILE.py adds one of your own"])
