"""What stands below the typed options: a model's tuned recipe, a checkpoint's content.

Both become configurations that LightningCLI reads before anything that was typed, so
that the order of strength is: typed, configuration files, checkpoint, recipe.
"""

import contextlib
import difflib
import importlib
import inspect
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmzoo import runs
from lmzoo.cli.arguments import Request, nested
from lmzoo.errors import UsageError
from lmzoo.rebuild import check_plain
from lmzoo.registry import data_modules, models

DEFAULT_MODEL = "ff"
BASE_RECIPE: dict[str, Any] = {
    "optimizer.class_path": "torch.optim.AdamW",
    "optimizer.lr": 1e-3,
    "optimizer.betas": [0.9, 0.99],
    "optimizer.weight_decay": 0.1,
    "optimizer.fused": True,
    "lr_scheduler.class_path": "lmzoo.training.optimizers.WarmupCosine",
}
TRAINER_KEYS = (
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "val_check_interval",
    "max_steps",
)
KNOWN_CLASS = re.compile(
    r"torch\.optim\.(lr_scheduler\.)?\w+|lmzoo\.training\.optimizers\.\w+"
)
TOKENIZER_KEYS = ("tokenizer", "tokenizer_size", "min_frequency", "split_digits")
SOURCES = ("corpus", "path", "val_path", "test_path")  # where the text comes from


@dataclass
class Plan:
    """A request with everything that it rests on."""

    request: Request
    model: str  # registry name or class path
    configs: list[dict[str, Any]] = field(default_factory=list)  # weakest first
    checkpoint: Path | None = None  # to resume or to measure
    run: runs.Run | None = None  # what is in it
    weights: runs.Run | None = None  # to start from
    notes: list[str] = field(default_factory=list)
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


def plan(request: Request) -> Plan:
    """Find the model, and put its recipe and what a checkpoint stored below the rest.

    Raises:
        UsageError: no checkpoint where one is needed, or options that contradict it.
    """
    run = _run(request)
    changed = [*request.typed("model."), *request.typed("data.tokenizer")]
    changed += ["model.preset"] * bool(request.preset)
    changed += [f"model.{key}" for key in request.section("model")]
    if run is not None and request.ckpt_path and changed:
        raise UsageError(
            f"--{changed[0]} cannot be changed: the model of "
            f"{request.ckpt_path} is built as it was; --init_from starts a new run"
        )
    if request.typed("trainer.max_steps") and (budget := request.typed("budget.")):
        raise UsageError(
            f"--{budget[0]} and --trainer.max_steps both say how long to train; "
            f"give one"
        )
    _require_tokenizer(request, run)
    made = Plan(request, _model_name(request, run))
    if run is None and request.command == "fit":
        _require_source(made.model, request)
    if request.model is None and run is None:
        made.notes.append(f"no --model given: training {DEFAULT_MODEL}")
    _require_known(request, "model", model_class(made.model))
    data = request.data or data_modules.class_path("text")
    _require_known(request, "data", model_class(data))
    made.configs.append(_recipe(made.model, request.preset))
    if run is not None:
        made.configs.append(_stored(run, request))
        if request.ckpt_path:
            made.checkpoint, made.run = run.path, run
        else:
            made.weights = run
    return made


def _require_known(request: Request, section: str, cls: type) -> None:
    """Every option of a class is one of its constructor's."""
    known = list(inspect.signature(cls).parameters)
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
            f"{cls.__module__}.{cls.__name__} lists them"
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


def _run(request: Request) -> runs.Run | None:
    if request.ckpt_path and request.init_from:
        raise UsageError(
            "--ckpt_path resumes a run and --init_from starts a new one; give one"
        )
    path = request.ckpt_path or request.init_from
    if path is None:
        if "--help" in request.options or "--print_config" in request.options:
            return None
        if request.command != "fit":
            raise UsageError(f"lmzoo {request.command} needs --ckpt_path RUN")
        return None
    resuming = request.command == "fit" and request.ckpt_path
    run = runs.load(path, which="last" if resuming else "best")
    if resuming and run.path.is_dir():
        raise UsageError(
            f"--ckpt_path {path}: a model folder holds no state of an optimizer to go "
            f"on from; --init_from starts a new run from its weights"
        )
    return run


def _require_source(name: str, request: Request) -> None:
    """A pretrained model is made from a folder, not from a name alone."""
    asked = {"--help", "--print_config"} & set(request.options)
    if not asked and getattr(model_class(name), "pretrained", False):
        raise UsageError(
            f"--model {models.name_of_path(name)} has no weights of its own: give "
            f"--init_from FOLDER, a causal language model that transformers saved"
        )


def _model_name(request: Request, run: runs.Run | None) -> str:
    if run is None:
        if request.model is None:
            return DEFAULT_MODEL
        return _registered(request.model) or request.model
    stored = run.stored["model"]
    models.entry(stored)  # a plugin that is not there is said now
    if request.model is not None and _registered(request.model) != stored:
        raise UsageError(
            f"--model {_registered(request.model) or request.model} contradicts "
            f"{run.path}, which holds a {stored!r}; leave --model out"
        )
    return stored


def _registered(class_path: str) -> str | None:
    for name, entry in models.entries()[0].items():
        if entry.target.replace(":", ".") == class_path:
            return name
    return None


def model_class(name: str) -> Any:
    """The class of a registry name or of a class path that was typed.

    Raises:
        UsageError: it cannot be imported.
    """
    if "." not in name:
        return models.load(name)
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--model {name}: {error}") from error


def _recipe(name: str, preset: str | None) -> dict[str, Any]:
    """The weakest configuration: tuned defaults, and a preset's numbers."""
    cls = model_class(name)
    flat = {**BASE_RECIPE, **getattr(cls, "recipe", {})}
    path = models.class_path(name) if "." not in name else name
    classes = {
        "model": path,
        "data": data_modules.class_path("text"),
        "optimizer": flat["optimizer.class_path"],
        "lr_scheduler": flat["lr_scheduler.class_path"],
    }
    if preset is not None:
        arguments = cls.preset_arguments(preset)
        arguments.pop("vocab_size", None)
        flat.update({f"model.{key}": value for key, value in arguments.items()})
    config = nested(flat, classes)
    config.setdefault("model", {"class_path": path})
    config.setdefault("data", {"class_path": classes["data"]})
    return config


def _stored(run: runs.Run, request: Request) -> dict[str, Any]:
    """What a checkpoint says of its model, its text and, to resume, its training."""
    stored = run.stored
    for key in ("arguments", "data", "training"):
        check_plain(stored.get(key) or {}, f"{run.path}: {key}")
    arguments = {k: v for k, v in stored["arguments"].items() if k != "vocab_size"}
    data = dict((stored.get("data") or {}).get("arguments") or {})
    if request.init_from or any(_typed_source(request, key) for key in SOURCES):
        data = {key: value for key, value in data.items() if key not in SOURCES}
    for key in SOURCES[1:]:
        data[key] = _located(data.get(key), run)
    data.pop("context_length", None)
    data["tokenizer_state"] = stored["tokenizer"]
    data["extend_tokenizer"] = bool(request.init_from)
    name = (stored.get("data") or {}).get("name", "text")
    config: dict[str, Any] = {
        "model": {"class_path": models.class_path(stored["model"])},
        "data": {"class_path": data_modules.class_path(name), "init_args": data},
    }
    config["model"]["init_args"] = arguments
    if request.command == "fit" and request.ckpt_path:
        classes = {"optimizer": "torch.optim.AdamW", "lr_scheduler": ""}
        config.setdefault("lr_scheduler", None)
        config.update(nested(_training(stored, run.path), classes))
    return config


def _located(path: Any, run: runs.Run) -> Any:
    """A stored relative path as it is, or from where the run was started."""
    if isinstance(path, list):
        return [_located(item, run) for item in path]
    home = runs.read_manifest(run.path.parent.parent).get("started_in")
    if not isinstance(path, str) or not isinstance(home, str) or Path(path).exists():
        return path
    there = Path(home) / path
    return str(there) if there.exists() else path


def _training(stored: dict[str, Any], path: Path) -> dict[str, Any]:
    """The stored training configuration, flat; only keys that a recipe may have.

    Raises:
        UsageError: a class that is neither torch's nor lmzoo's, which a checkpoint,
            being data, cannot have imported.
    """
    heads = ("optimizer", "lr_scheduler", "trainer", "early_stopping", "checkpoints")
    flat = stored.get("training") or {}
    for key in flat:
        head, _, tail = key.partition(".")
        if "." in tail or (head == "trainer" and tail not in TRAINER_KEYS):
            raise UsageError(
                f"{path} holds the training option {key!r}, which no checkpoint of "
                f"lmzoo has; it was changed, or is damaged"
            )
    for key in ("optimizer.class_path", "lr_scheduler.class_path"):
        if key in flat and not KNOWN_CLASS.fullmatch(str(flat[key])):
            option = key.partition(".")[0]
            raise UsageError(
                f"{path} names {flat[key]!r} as its {option}; only torch's and "
                f"lmzoo's classes are taken from a checkpoint: start a new run with "
                f"--init_from, and type --{option}"
            )
    return {
        key: value
        for key, value in flat.items()
        if key.partition(".")[0] in (*heads, "samples", "seed_everything")
    }


def _typed_source(request: Request, key: str) -> bool:
    return bool(request.typed(f"data.{key}")) or key in request.section("data")


def warm_start(model: Any, data: Any, run: runs.Run) -> list[str]:
    """Give ``model`` the weights of ``run``, row by row where the vocabulary grew.

    Returns:
        Lines that say how many rows were shared and how many are new.

    Raises:
        UsageError: the shapes differ by more than the vocabulary.
    """
    old_rows = {symbol: i for i, symbol in enumerate(run.tokenizer.symbols())}
    new_symbols = data.tokenizer.symbols()
    shared = [(i, old_rows[s]) for i, s in enumerate(new_symbols) if s in old_rows]
    target = model.state_dict()
    source = run.model.state_dict()
    for name, tensor in target.items():
        if name not in source:
            raise UsageError(f"--init_from {run.path}: it has no weights for {name!r}")
        target[name] = _mapped(tensor, source[name], shared, len(old_rows), name, run)
    _require_tied(model, source, run)
    model.load_state_dict(target)
    fresh = len(new_symbols) - len(shared)
    return [
        f"started from {run.path}: {len(shared)} symbols shared, {fresh} new ones "
        f"initialised"
    ]


def _require_tied(model: Any, source: dict[str, Tensor], run: runs.Run) -> None:
    """Weights that are one matrix here must have been one there."""
    first: dict[int, str] = {}
    for name, tensor in model.state_dict().items():
        other = first.setdefault(tensor.data_ptr(), name)
        if tensor.numel() and not torch.equal(source[name], source[other]):
            raise UsageError(
                f"--init_from {run.path}: {name!r} and {other!r} are one matrix here "
                f"and two there; leave --model.tie_embeddings as it was"
            )


def _mapped(
    tensor: Tensor,
    old: Tensor,
    shared: list[tuple[int, int]],
    old_size: int,
    name: str,
    run: runs.Run,
) -> Tensor:
    if tensor.shape == old.shape and len(shared) in (old_size, 0):
        return old
    sizes = zip(tensor.shape, old.shape, strict=False)
    axes = [axis for axis, (_, size) in enumerate(sizes) if size == old_size]
    rest_equal = tensor.ndim == old.ndim and all(
        a == b
        for i, (a, b) in enumerate(zip(tensor.shape, old.shape, strict=True))
        if i not in axes[:1]
    )
    if not axes or not rest_equal:
        if tensor.shape == old.shape:
            return old
        raise UsageError(
            f"--init_from {run.path}: {name!r} has shape {tuple(old.shape)} there and "
            f"{tuple(tensor.shape)} here; leave the model's arguments as they were"
        )
    axis = axes[0]
    rows = torch.tensor(shared, dtype=torch.long).reshape(-1, 2)
    mapped = tensor.clone()
    mapped.index_copy_(axis, rows[:, 0], old.index_select(axis, rows[:, 1]))
    return mapped
