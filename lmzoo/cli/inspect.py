"""``lmzoo inspect``: look inside a run with one of the probes.

A probe is one annotated function that gives a ``Finding``; its signature is the parser.
A plugin file adds one with ``@register_probe("name")``, a package by an entry point in
the group ``lmzoo.probes``.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmzoo.cli.command import call
from lmzoo.errors import UsageError
from lmzoo.registry import load_plugin, probes

EXTRA = "--extra-probe"
COMMON = """
        out: folder for the numbers (JSON, CSV) and figures (SVG); by default the
            folder inspect of the run, or of the working directory
        png: write the figures as PNG too (extra plots)
        json: print the numbers as JSON, and no words
"""


def run(argv: list[str]) -> int:
    """Run one probe; returns the exit code."""
    argv = _load_extra(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0].startswith("-"):
        raise UsageError(f"name a probe before {argv[0]}; see lmzoo inspect --help")
    name = argv[0]
    probe = probes.load(name)
    return call(f"inspect {name}", _command(probe), argv[1:])


def _load_extra(argv: list[str]) -> list[str]:
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


def _command(probe: Callable[..., Any]) -> Callable[..., int]:
    """The probe with the options that all of them have."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter("out", keyword, default="", annotation=str),
        inspect.Parameter("png", keyword, default=False, annotation=bool),
        inspect.Parameter("json", keyword, default=False, annotation=bool),
    ]
    own = inspect.signature(probe)
    names = {parameter.name for parameter in common}

    def command(*places: Any, **options: Any) -> int:
        # rich takes 0.1 s: only once the line has been read
        from lmzoo.cli.findings import deliver

        out, png, json = (options.pop(key) for key in ("out", "png", "json"))
        found = probe(*places, **options)
        deliver(found, Path(out) if out else _folder(places), json, png)
        return 0

    if taken := names & set(own.parameters):
        raise UsageError(f"a probe has the option {sorted(taken)[0]!r}, which is taken")
    command.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), *common], return_annotation=int
    )
    command.__doc__ = _with_common(probe.__doc__ or "")
    return command


def _with_common(text: str) -> str:
    """A docstring whose ``Args`` describe the common options too."""
    head, mark, rest = text.partition("    Args:\n")
    if not mark:
        return f"{text.rstrip()}\n\n    Args:{COMMON}"
    entries, blank, after = rest.partition("\n\n")
    return f"{head}{mark}{entries.rstrip()}{COMMON.rstrip()}{blank}{after}"


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
