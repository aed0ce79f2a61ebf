"""``--model.source``: a new run's weights, tokenizer and context from elsewhere.

A pretrained model takes its source's configuration; on the command line it is given
the place where that stands: a folder, a GGUF file, or a name on the Hugging Face hub.
"""

from pathlib import Path
from typing import Any

from lmzoo import hub, portable, runs
from lmzoo.cli.arguments import Request
from lmzoo.errors import UsageError

KEYS = ("model.source", "model.init_args.source")


def take_source(request: Request, cls: Any) -> str | None:
    """The place that ``--model.source`` names, taken out of the options and files.

    A configuration (inline JSON, a section of a file) stays: it is an argument.

    Args:
        request: what was typed.
        cls: the class of the model that was typed, or None.
    """
    if not getattr(cls, "pretrained", False):
        return None
    found = None
    for config in request.configs:
        arguments = (config.get("model") or {}).get("init_args") or {}
        if isinstance(arguments.get("source"), str):
            found = arguments.pop("source")
    for option in list(request.options):
        key, equals, value = option[2:].partition("=")
        if key in KEYS and equals and not value.lstrip().startswith("{"):
            request.options.remove(option)
            found = value
    return found


def open_source(place: str) -> runs.Run:
    """What stands there, in the form of a run.

    Raises:
        UsageError: nothing there, or not a causal language model that can be read.
    """
    path = Path(place).expanduser()
    if not path.exists():
        if not hub.is_name(place):
            raise UsageError(
                f"--model.source {place}: no such folder or file, and no name of the "
                f"Hugging Face hub, which look like NAME or OWNER/NAME"
            )
        path = hub.fetch(place)
    if portable.is_portable(path):
        return runs.Run(path, portable.read(path, as_is=True))
    return runs.load(path)
