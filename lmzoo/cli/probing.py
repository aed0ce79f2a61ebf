"""From a function that gives a ``Finding`` to a command that prints and writes it."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmzoo.errors import UsageError

COMMON = """
        out: folder for the numbers (JSON, CSV) and figures (SVG); by default {folder}
        png: write the figures as PNG too (extra plots)
        json: print the numbers as JSON, and no words
"""
Folder = Callable[[tuple[Any, ...]], Path]


def command(probe: Callable[..., Any], folder: Folder, said: str) -> Callable[..., int]:
    """The probe with the options that all of them have.

    Args:
        probe: annotated; gives a ``Finding``. If it takes ``kept``, a folder that
            keeps what was computed, that is by default a part of the output folder.
        folder: the output folder by default, from the positional arguments.
        said: the same in words, for the help.

    Raises:
        UsageError: the probe has an option of the same name as a common one.
    """
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter("out", keyword, default="", annotation=str),
        inspect.Parameter("png", keyword, default=False, annotation=bool),
        inspect.Parameter("json", keyword, default=False, annotation=bool),
    ]
    own = inspect.signature(probe)
    if taken := {parameter.name for parameter in common} & set(own.parameters):
        raise UsageError(f"a probe has the option {sorted(taken)[0]!r}, which is taken")

    def run(*places: Any, **options: Any) -> int:
        # rich takes 0.1 s: only once the line has been read
        from lmzoo.cli.findings import deliver

        out, png, json = (options.pop(key) for key in ("out", "png", "json"))
        into = Path(out) if out else folder(places)
        if options.get("kept") == "":
            options["kept"] = str(into / "kept")
        deliver(probe(*places, **options), into, json, png)
        return 0

    run.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), *common], return_annotation=int
    )
    run.__doc__ = _with_common(probe.__doc__ or "", COMMON.format(folder=said))
    return run


def _with_common(text: str, common: str) -> str:
    """A docstring whose ``Args`` describe the common options too."""
    head, mark, rest = text.partition("    Args:\n")
    if not mark:
        return f"{text.rstrip()}\n\n    Args:{common}"
    entries, blank, after = rest.partition("\n\n")
    return f"{head}{mark}{entries.rstrip()}{common.rstrip()}{blank}{after}"
