"""What is refused before a parser sees it: options against each other and a run."""

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lmzoo import runs
from lmzoo.cli.arguments import CLASSES, Request
from lmzoo.errors import UsageError, first_line
from lmzoo.registry import data_modules, models

EXAMPLES = {
    "--optimizer": "adamw, muon, adafactor or torch.optim.SGD",
    "--lr_scheduler": "cosine, wsd, rsqrt or torch.optim.lr_scheduler.LinearLR",
}
FILLED_IN = {  # arguments of a constructor that no person gives
    "data": ("context_length", "seed"),
    "optimizer": ("params",),
    "lr_scheduler": ("optimizer", "total_steps"),
}
REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
TOKENIZER_KEYS = ("tokenizer", "tokenizer_size", "min_frequency", "split_digits")


def check(request: Request, run: runs.Run | None) -> None:
    """What was asked for against itself, and against a run that is gone on from.

    Raises:
        UsageError: the model or the tokenizer of a run would change, or two options
            say the same thing.
    """
    changed = [*request.typed("model."), *request.typed("data.tokenizer")]
    changed += ["model.preset"] * bool(request.preset)
    changed += [f"model.{key}" for key in request.section("model")]
    changed += ["model.body"] * bool(request.body or request.body_arguments)
    changed_body = "".join(f"body.{key}" for key, _ in request.body_arguments[:1])
    if run is not None and request.ckpt_path and changed:
        raise UsageError(
            f"--{changed[0]} cannot be changed: the model of "
            f"{request.ckpt_path} is built as it was; --init_from starts a new run"
        )
    if run is not None and request.init_from and (request.body or changed_body):
        raise UsageError(
            f"--model.{changed_body or 'body'}: --init_from {request.init_from} brings "
            f"its model, body and all; --model.body {request.init_from} alone starts a "
            f"new head on that body"
        )
    if request.typed("trainer.max_steps") and (budget := request.typed("budget.")):
        raise UsageError(
            f"--{budget[0]} and --trainer.max_steps both say how long to train; "
            f"give one"
        )
    _require_tokenizer(request, run)
    if run is not None and request.ckpt_path:
        _require_labels(request, run)


def check_options(request: Request, model: str, fresh: bool) -> None:
    """Every option of the model and of the data is one that its class reads.

    Args:
        request: what was typed.
        model: registry name or class path.
        fresh: no run is gone on from.

    Raises:
        UsageError: naming the option, and the nearest there is.
    """
    if fresh and request.command == "fit":
        _require_source(model, request)
    cls = model_class(model)
    path = models.class_path(model) if "." not in model else model
    _require_known(request, "model", path, cls)
    feeds = data_modules.class_path(getattr(cls, "data", "text"))
    data = request.data or feeds
    others = {data_modules.class_path(name) for name in ("text", "labelled")} - {feeds}
    if data in others or (request.body and not hasattr(cls, "teacher")):
        given = f"data {data_modules.name_of_path(data)}"
        given = f"model.body {request.body}" if data not in others else given
        raise UsageError(
            f"--{given}: a {models.name_of_path(model)} is no model for it; it is a "
            f"{getattr(cls, 'task', 'model')} and reads --data "
            f"{data_modules.name_of_path(feeds)}"
        )
    _require_known(request, "data", data, model_class(data))


def check_training(request: Request, configs: Sequence[Mapping[str, Any]]) -> None:
    """Optimizer and schedule are classes, and every typed option is one of theirs.

    Args:
        request: what was typed.
        configs: the recipe, a checkpoint's, files and what was typed; later wins.

    Raises:
        UsageError: naming the class, or the option and the nearest there is.
    """
    for section in ("optimizer", "lr_scheduler"):
        path = None
        for config in configs:
            chosen = config.get(section, {})
            path = None if chosen is None else chosen.get("class_path", path)
        if path:
            _require_known(request, section, path, load_class(path, f"--{section}"))


def options_of(section: str, cls: Any) -> dict[str, inspect.Parameter]:
    """The arguments of a class that are options, by name.

    Args:
        section: model, data, optimizer or lr_scheduler.
        cls: what is chosen in it.
    """
    filled = FILLED_IN.get(section) or tuple(getattr(cls, "linked", {}).values())
    filled = (*filled, *getattr(cls, "of_model", ()))
    found: dict[str, inspect.Parameter] = {}
    for ancestor in cls.__mro__:  # whose further options go to the next
        own = inspect.signature(ancestor.__init__).parameters.values()
        found = {one.name: one for one in own if one.kind not in REST} | found
        if all(one.kind is not one.VAR_KEYWORD for one in own):
            break
    return {key: found[key] for key in found if key not in ("self", *filled)}


def under_option(line: str, model: Any) -> str:
    """What a constructor complains of, under the option that gave the argument.

    Args:
        line: begins with the argument's name, if it is about one.
        model: the class.
    """
    argument = line.partition(" ")[0]
    return f"--model.{line}" if argument in options_of("model", model) else line


def short_name(section: str, path: str) -> str:
    """The name under which a class path is given, if it has one."""
    if section in ("model", "data"):
        return (models if section == "model" else data_modules).name_of_path(path)
    return next((short for short, known in CLASSES.items() if known == path), path)


def model_class(name: str) -> Any:
    """The class of a registry name or of a class path that was typed.

    Raises:
        UsageError: it cannot be imported.
    """
    return load_class(name, "--model") if "." in name else models.load(name)


def load_class(path: str, option: str) -> Any:
    """The class of a dotted path that was typed.

    Args:
        path: with its module.
        option: that named it, for messages.

    Raises:
        UsageError: it cannot be imported.
    """
    module, _, attribute = path.rpartition(".")
    if not module:
        raise UsageError(
            f"{option} {path}: no such class; give its name or its path, for example "
            f"{EXAMPLES[option]}"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UsageError(
            f"{option} {path}: {error}; --plugin FILE.py runs a file of yours first, "
            f"or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:  # a module of one's own may fail in any way
        raise UsageError(
            f"{option} {path}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(found, type):
        raise UsageError(f"{option} {path}: is no class; name one in it")
    return found


def check_stride(stride: int | None, context_length: int) -> None:
    """An evaluation window is never longer than the context.

    Raises:
        UsageError: it would be.
    """
    if stride is not None and stride > context_length:
        raise UsageError(
            f"--data.stride {stride}: the context has {context_length} tokens; give "
            f"1 to {context_length}"
        )


def _require_known(request: Request, section: str, path: str, cls: type) -> None:
    """Every option of a class is one of its constructor's."""
    known = list(options_of(section, cls))
    for option in request.typed(f"{section}."):
        key = option.removeprefix(f"{section}.").removeprefix("init_args.")
        if (section, key) == ("data", "context_length"):
            raise UsageError(
                "--data.context_length is the model's: give --model.context_length"
            )
        if key.split(".")[0].rstrip("+") in (*known, "help", "class_path"):
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean --{section}.{near[0]}? " if near else ""
        raise UsageError(
            f"unknown option --{section}.{key}; {hint}lmzoo fit --{section}.help "
            f"{short_name(section, path)} lists them"
        )


def _require_labels(request: Request, run: runs.Run) -> None:
    """A classifier's outputs have their names and their order: nothing renames them."""
    labels = run.stored["arguments"].get("labels")
    if not isinstance(labels, list) or not request.typed("data.labels"):
        return
    asked: Any = request.section("data").get("labels")
    for option in request.options:
        key, _, value = option.removeprefix("--").partition("=")
        if key.startswith("data.labels") or key.startswith("data.init_args.labels"):
            asked = yaml.safe_load(value)
    names = list(asked.values()) if isinstance(asked, dict) else asked
    if names != labels:
        raise UsageError(
            f"--data.labels: the classifier tells apart {', '.join(labels)}, in this "
            f"order; say what stands in the file for each: "
            f"'{{{', '.join(f'RAW: {name}' for name in labels)}}}'"
        )


def _require_tokenizer(request: Request, run: runs.Run | None) -> None:
    """A run brings its tokenizer: refuse to be told of another one."""
    if run is None:
        return
    stored = (run.stored.get("data") or {}).get("arguments") or {}
    asked = dict(request.section("data"))
    for option in request.options:
        key, _, value = option.removeprefix("--").partition("=")
        asked[key.removeprefix("data.").removeprefix("init_args.")] = value
    for key in TOKENIZER_KEYS:
        if key in asked and str(asked[key]).lower() != str(stored.get(key)).lower():
            raise UsageError(
                f"--data.{key} {asked[key]}: {run.path} brings its own tokenizer, "
                f"which has {key} = {stored.get(key)!r}; leave it out"
            )


def _require_source(name: str, request: Request) -> None:
    """A pretrained model is made from a folder, not from a name alone."""
    asked = {"--help", "--print_config"} & set(request.options)
    if not asked and getattr(model_class(name), "pretrained", False):
        raise UsageError(
            f"--model {models.name_of_path(name)} has no weights of its own: give "
            f"--model.source FOLDER_OR_NAME, a causal language model that transformers "
            f"saved (its tokenizer and context come along)"
        )
