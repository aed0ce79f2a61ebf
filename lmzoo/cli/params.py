"""``lmzoo params``: where a model's parameters are, and what they cost.

The model is built on the meta device, so that the largest preset is counted at once.
"""

import json as to_json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError, ArgumentParser

from lmzoo.cli import given
from lmzoo.cli.command import call
from lmzoo.cli.messages import shorten
from lmzoo.errors import UsageError, first_line
from lmzoo.registry import models

if TYPE_CHECKING:
    from lmzoo.models.base import LanguageModel

DEFAULT_VOCABULARY = 256  # every byte has a token then
MORE = "see lmzoo params --help"


def run(argv: list[str]) -> int:
    """Print the table of one model; 2 for a mistake."""
    typed, rest = _split(argv)
    command = partial(params, typed)
    command.__doc__ = params.__doc__
    return call("params", command, rest)


def params(
    typed: dict[str, str],
    run: str = "",
    *,
    model: str = "",
    vocab_size: int | None = None,
    length: int | None = None,
    json: bool = False,
    diagram: str = "",
) -> int:
    """Count a model by component: parameters, memory, FLOPs; draw it.

    Args:
        typed: options ``--model.KEY VALUE``, KEY -> VALUE.
        run: a run folder or checkpoint, counted from what it says of its model.
        model: or a name of the zoo; --model.KEY VALUE sets an argument of its
            constructor, --model.preset NAME takes those of a published model.
        vocab_size: tokens, V; the preset's own, or 256.
        length: tokens of a text for the FLOPs per token; the context length unless
            given.
        json: print JSON for programs.
        diagram: an SVG file to draw the architecture into.
    """
    # torch is for the work, and not for the help
    from lmzoo.analysis.anatomy.diagram import draw

    # as above
    from lmzoo.analysis.anatomy.parameters import count

    # as above
    from lmzoo.cli.params_output import as_json, show

    # as above
    from lmzoo.models.base import require_language_model

    if bool(run) == bool(model):
        which = "both were given" if run else "neither was given"
        raise UsageError(f"give RUN or --model NAME: {which}; {MORE}")
    if run:
        name, built, notes = _stored(run, typed, vocab_size)
    else:
        name, built, notes = _from_zoo(model, typed, vocab_size)
    _require_length(built, length)
    table = count(built, length)
    if diagram:
        require_language_model(type(built), name)
        given.write_figure(Path(diagram), draw(built, name), "--diagram", "<svg")
        notes.append(f"diagram: {diagram}")
    if json:
        print(to_json.dumps(as_json(name, built, table, notes), indent=2))
    else:
        show(name, built, table, notes)
    return 0


def _split(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """``--model.KEY VALUE`` apart from the options of the command itself."""
    typed: dict[str, str] = {}
    words, rest = list(argv), []
    while words:
        word = words.pop(0)
        if not word.startswith("--model."):
            rest.append(word)
            continue
        key, equals, value = word.removeprefix("--model.").partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UsageError(f"--model.{key} needs a value; {MORE}")
            value = words.pop(0)
        typed[key] = value
    return typed, rest


def _stored(
    path: str, typed: dict[str, str], vocab_size: int | None
) -> tuple[str, Any, list[str]]:
    """The model of a run, from its checkpoint's arguments alone."""
    # torch is for the work, and not for the help
    import torch

    # as above
    from lmzoo import runs

    # as above
    from lmzoo.rebuild import build_model

    changed = [f"--model.{key}" for key in typed]
    changed += ["--vocab_size"] * (vocab_size is not None)
    if changed:
        raise UsageError(
            f"{changed[0]} cannot be changed: the model of {path} is as it was built; "
            f"count another with --model NAME"
        )
    if path in models.entries()[0] and not Path(path).exists():
        raise UsageError(f"{path}: no such run; for the zoo's give --model {path}")
    loaded = runs.load(path)
    name = loaded.stored["model"]
    arguments = loaded.stored["arguments"]
    with torch.device("meta"):
        built = build_model(name, arguments, loaded.path)
    return name, built.eval(), [f"from {loaded.path}"]


def _from_zoo(
    name: str, typed: dict[str, str], vocab_size: int | None
) -> tuple[str, Any, list[str]]:
    """A model of the zoo, its options read by its constructor's annotations."""
    # torch is for the work, and not for the help
    from lmzoo.analysis.anatomy.parameters import on_meta

    cls, typed = models.load(name), dict(typed)
    if cls.pretrained:
        raise UsageError(
            f"--model {name} has no size of its own: give the folder of such a model"
        )
    if "vocab_size" in typed:
        raise UsageError("--model.vocab_size: give --vocab_size, without the model")
    preset, notes = typed.pop("preset", None), []
    arguments = cls.preset_arguments(preset) if preset else {}
    if vocab_size is None and "vocab_size" not in arguments:
        vocab_size = DEFAULT_VOCABULARY
        notes.append(
            f"vocabulary {vocab_size} for want of a text; --vocab_size N sets it"
        )
    if vocab_size is not None:
        arguments["vocab_size"] = vocab_size
    arguments.update(_parsed(cls, typed, arguments))
    try:
        return name, on_meta(cls, arguments), notes
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"--model {name}: {first_line(error)}") from error


def _parsed(
    cls: "type[LanguageModel]", typed: dict[str, str], preset: dict[str, Any]
) -> dict[str, Any]:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(cls, "model")
    parser.set_defaults({f"model.{key}": value for key, value in preset.items()})
    try:
        options = parser.parse_args([f"--model.{k}={v}" for k, v in typed.items()])
    except ArgumentError as error:
        known = [action.dest for action in parser._actions]
        line = shorten(str(error), known, MORE)
        raise UsageError(line if MORE in line else f"{line}; {MORE}") from error
    return {key: getattr(options.model, key) for key in typed}


def _require_length(model: "LanguageModel", length: int | None) -> None:
    if length is None:
        return
    if length < 1:
        raise UsageError(f"--length {length}: give 1 token or more")
    bounded = not model.unbounded and model.window is None
    if bounded and length > model.context_length:
        raise UsageError(
            f"--length {length}: the model sees at most {model.context_length} tokens "
            f"(its context_length)"
        )
