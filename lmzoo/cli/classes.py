"""What one class can be told: its constructor and its docstring as a page."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import docstring_parser

from lmzoo.cli.refusals import load_class, options_of, short_name

WIDTH = 88


def page(section: str, name: str) -> str:
    """All options of a class, with their defaults; a model's presets and recipe too.

    Args:
        section: model, data, optimizer or lr_scheduler.
        name: registry name or class path.

    Raises:
        UsageError: no such class.
    """
    cls = load_class(name, f"--{section}")
    text = docstring_parser.parse(inspect.getdoc(cls) or "")
    summary = _prose(text.short_description or "")
    parts = ["\n".join(_wrapped(f"{short_name(section, name)}: {summary}", 0))]
    meaning: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):  # a family is described once
        described = docstring_parser.parse(inspect.cleandoc(ancestor.__doc__ or ""))
        for item in described.params:
            meaning[item.arg_name] = item.description or ""
    options = [
        _option(section, parameter, meaning.get(key, ""))
        for key, parameter in options_of(section, cls).items()
    ]
    parts.append("\n".join(options) or "no options")
    if section == "model":
        parts += _lists(getattr(cls, "presets", {}), getattr(cls, "recipe", {}))
    return "\n\n".join(parts)


def _option(section: str, parameter: inspect.Parameter, meaning: str) -> str:
    given = "" if parameter.default is parameter.empty else f" {parameter.default}"
    lines = [f"  --{section}.{parameter.name}{given}"]
    if meaning:
        lines += _wrapped(_prose(meaning), 6)
    return "\n".join(lines)


def _lists(presets: dict[str, dict[str, Any]], recipe: dict[str, Any]) -> Iterator[str]:
    """A model's presets, what they share apart, and its recipe."""
    if presets:
        first, *others = presets.values()
        shared = {
            key: value
            for key, value in first.items()
            if others and all((key, value) in other.items() for other in others)
        }
        rows = ["presets, by --model.preset NAME"]
        for name, arguments in presets.items():
            own = {key: arguments[key] for key in arguments if key not in shared}
            rows += _wrapped(f"{name}: {_pairs(own)}", 2)
        rows += _wrapped(f"all of them: {_pairs(shared)}", 2) if shared else []
        yield "\n".join(rows)
    if recipe:
        rows = [f"  --{key} {value}" for key, value in sorted(recipe.items())]
        yield "\n".join(["trained with, unless told otherwise", *rows])


def _pairs(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in arguments.items())


def _prose(text: str) -> str:
    """A docstring's own marks taken off, on one line."""
    text = re.sub(r":\w+:`~?([^`<]*?) ?(?:<[^`]*>)?`", r"\1", text)
    return re.sub(r"\s+", " ", text.replace("``", "")).strip()


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2 * (indent == 2)),
        break_long_words=False,
        break_on_hyphens=False,
    )
