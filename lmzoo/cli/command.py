"""A command made of one annotated function: its signature is the parser.

Keyword-only arguments become options, described by the docstring's ``Args``; the
positional ones, in order, what stands before them. A ``bool`` is a switch, a ``tuple``
may be given several times, ``import_`` is spelled ``--import``, and ``match__params``
``--match.params``.
"""

import inspect
from collections.abc import Callable
from typing import Any, get_origin

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser

from lmzoo.cli.messages import shorten
from lmzoo.errors import UsageError
from lmzoo.registry import load_plugin


def call(name: str, function: Callable[..., int], argv: list[str]) -> int:
    """Parse ``argv`` by the signature of ``function`` and call it.

    Args:
        name: what comes after ``lmzoo``.
        function: annotated; every argument but its positional ones has a default.
        argv: what was typed after the name.

    Returns:
        What the function returns: the exit code.

    Raises:
        UsageError: anything that cannot be parsed, or a plugin file that fails.
    """
    parser, positional = _parser(name, function)
    try:
        options = parser.parse_args(argv)
    except ArgumentError as error:
        known = [_spelled(key) for key in inspect.signature(function).parameters]
        more = f"see lmzoo {name} --help"
        line = shorten(str(error), known, more)
        raise UsageError(line if more in line else f"{line}; {more}") from error
    given = {
        key: options[_spelled(key)] for key in inspect.signature(function).parameters
    }
    for path in options.plugin:
        load_plugin(path)
    return function(*[given.pop(key) for key in positional], **given)


def _parser(
    name: str, function: Callable[..., int]
) -> tuple[ArgumentParser, list[str]]:
    described = docstring_parser.parse(function.__doc__ or "")
    text = {item.arg_name: item.description for item in described.params}
    parser = ArgumentParser(
        prog=f"lmzoo {name}",
        description=described.short_description,
        exit_on_error=False,
        allow_abbrev=False,
    )
    positional = []
    for key, parameter in inspect.signature(function).parameters.items():
        several = get_origin(parameter.annotation) is list
        optional = parameter.default is not parameter.empty
        if parameter.kind is not parameter.KEYWORD_ONLY:
            count = "*" if several and optional else "+" if several else "?"
            extra = {"nargs": count} if several or optional else {}
            default = {"default": parameter.default} if optional else {}
            parser.add_argument(key, help=text.get(key), **extra, **default)
            positional.append(key)
        else:
            parser.add_argument(
                f"--{_spelled(key)}", help=text.get(key), **_kind(parameter)
            )
    parser.add_argument(
        "--plugin",
        type=str,
        action="append",
        default=[],
        metavar="FILE.py",
        help="run this file first, for its @register_model lines; may be repeated",
    )
    return parser, positional


def _spelled(key: str) -> str:
    """An argument's name as it is typed."""
    return key.rstrip("_").replace("__", ".")


def _kind(option: inspect.Parameter) -> dict[str, Any]:
    """How an option is given: a switch, several times, or once with its value."""
    if option.annotation is bool:
        return {"type": bool, "nargs": "?", "const": True, "default": option.default}
    if get_origin(option.annotation) is tuple:
        return {"type": str, "action": "append", "default": list(option.default)}
    return {"type": option.annotation, "default": option.default}
