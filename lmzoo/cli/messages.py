"""What a parser says of a mistake, cut down to the line a person needs."""

import difflib
import re
from collections.abc import Iterable

MORE = "--help-all lists every option"


def shorten(message: str, options: Iterable[str] = (), more: str = MORE) -> str:
    """One line out of jsonargparse's or Lightning's many.

    Args:
        message: as the library wrote it.
        options: known options, for a suggestion when one was mistyped.
        more: where the options are listed.
    """
    message = re.sub(r"\s+", " ", message).strip()
    if unknown := re.search(r"[Uu]nrecognized arguments: --([\w.]+)", message):
        return _unknown_option(unknown[1], options, more)
    where = re.match(
        r"(?:Parser key |Problem with given )?[\"']?([\w.]+)[\"']?: ", message
    )
    prefix = f"--{where[1]}: " if where else ""
    if "Errors: - " in message:  # one part for each allowed type; the first is meant
        first = message.split("Errors: - ", 1)[1]
        given = re.search(r"NoneType'>.* Given value: (.+)$", first)
        message = re.split(r" - Expected a <class 'NoneType'>", first)[0]
        if given and re.fullmatch(r"Expected an? <class '\w+'>", message):
            message += f". Got value: {given[1]}"
        inner = re.match(r"(?:Parser key [\"']?|--)(\w+)[\"']?: ?", message)
        if inner and where:
            message = f"--{where[1]}.{inner[1]}: {message[inner.end() :]}"
        elif not message.startswith("--"):
            message = prefix + message
    elif where:
        message = prefix + message[where.end() :]
    return _polished(message)


def _polished(message: str) -> str:
    message = re.sub(r"<class '([\w.]+)'>", r"\1", message)
    message = re.sub(
        r"Parser key [\"']?([\w.]+)[\"']?: ?", lambda m: f"--{m[1]}: ", message
    )
    message = re.sub(r"--(\w+): --(\w+): ", r"--\1.\2: ", message)
    message = re.sub(r"Option '(\w+)' is not accepted", r"has no option '\1'", message)
    message = re.sub(
        r"Expected an? float - Expected .* Given value: (\S+)$",
        r"expected float, given \1",
        message,
    )
    message = re.sub(
        r"invalid literal for int\(\) with base 10: '(.*?)'",  # a key of a mapping
        r"expected a whole number, given \1",
        message,
    )
    message = re.sub(
        r"Expected an? (\w+)\. Got value: ", r"expected \1, given ", message
    )
    message = re.sub(
        r"expected float, given (-?\.?(?:nan|inf)\w*)",
        r"expected a finite number, given \1",
        message,
        flags=re.I,
    )
    message = message.replace(
        "No supported gpu backend found!",
        "--trainer.accelerator gpu: this machine has none; give cpu, or leave it out",
    )
    if "typing.Literal[" in message:
        head = message.split("Expected a", 1)[0]
        choices = ", ".join(re.findall(r"typing\.Literal\[(.*?)\]", message))
        given = re.search(r"Got value: (\S+)$", message)
        message = f"{head}expected one of {choices}"
        message += f", given {given[1]}" if given else ""
    message = re.sub(r"^--config(: |\.)(--)?", "--", message)  # what was typed is one
    return message.replace(".init_args.", ".")


def _unknown_option(key: str, options: Iterable[str], more: str) -> str:
    known = {option.lstrip("-") for option in options}
    near = difflib.get_close_matches(key, sorted(known), n=1)
    hint = f"did you mean --{near[0]}? " if near else ""
    return f"unknown option --{key}; {hint}{more}"
