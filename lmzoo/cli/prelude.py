"""What stands below the typed options: a model's tuned recipe, a checkpoint's content.

Both become configurations that LightningCLI reads before anything that was typed, so
that the order of strength is: typed, configuration files, checkpoint, recipe.
"""

import contextlib
import inspect
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmzoo import portable, runs
from lmzoo.cli import bodies, refusals, sources, teachers
from lmzoo.cli.arguments import Request, nested
from lmzoo.cli.refusals import model_class
from lmzoo.errors import UsageError
from lmzoo.rebuild import check_plain, require_known
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
    r"torch\.optim\.(lr_scheduler\.)?\w+"
    r"|lmzoo\.training\.(optimizers|schedules|muon|adafactor)\.\w+"
)
TEXT_LENGTH = 128  # tokens of a text to classify, unless typed
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
    teacher: runs.Run | None = None  # to be distilled
    body: runs.Run | None = None  # that a classifier's body starts from
    notes: list[str] = field(default_factory=list)
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


def plan(request: Request) -> Plan:
    """Find the model, and put its recipe and what a checkpoint stored below the rest.

    Raises:
        UsageError: no checkpoint where one is needed, or options that contradict it.
    """
    typed = model_class(request.model) if request.model else None
    source = sources.take_source(request, typed)
    run = _run(request, source)
    refusals.check(request, run)
    made = Plan(request, _model_name(request, run))
    refusals.check_options(request, made.model, fresh=run is None)
    if request.model is None and run is None:
        made.notes.append(f"no --model given: training {DEFAULT_MODEL}")
    optimizer = request.optimizer or _stored_optimizer(run, request)
    made.configs.append(_recipe(made.model, request.preset, optimizer))
    cls = model_class(made.model)
    if run is None and bodies.reads_body(cls):
        _settle_body(made, cls)
    resumed = run if request.command == "fit" and request.ckpt_path else None
    kept_at = resumed and (resumed.stored.get("training") or {}).get(teachers.PATH)
    kept_at = _located(kept_at, resumed) if resumed and kept_at else None
    made.teacher = teachers.settle(request, cls, resumed, kept_at)
    if run is not None:
        made.configs.append(_stored(run, request))
        if request.ckpt_path:
            made.checkpoint, made.run = run.path, run
        else:
            made.weights = run
    refusals.check_training(request, [*made.configs, *request.configs])
    return made


def _settle_body(made: Plan, cls: type) -> None:
    """Describe the body by plain arguments; its run brings tokenizer and context."""
    arguments, made.body = bodies.settle(made.request, cls)
    classes = {
        key: made.configs[0][key]["class_path"]
        for key in ("model", "data", "optimizer", "lr_scheduler")
    }
    if made.body is not None:
        stored = made.body.stored
        tuned = bodies.FINE_TUNING
        if classes["optimizer"] != BASE_RECIPE["optimizer.class_path"]:
            tuned = {k: v for k, v in tuned.items() if not k.startswith("optimizer.")}
        config = nested(tuned, classes)
        config["data"] = {
            "class_path": classes["data"],
            "init_args": {"tokenizer_state": json.dumps(stored["tokenizer"])},
        }
        context = min(stored["arguments"]["context_length"], TEXT_LENGTH)
        config["model"] = {
            "class_path": classes["model"],
            "init_args": {"context_length": context},
        }
        made.configs.append(config)
    made.request.configs.append(
        {"model": {"class_path": classes["model"], "init_args": arguments}}
    )


def _run(request: Request, source: str | None) -> runs.Run | None:
    if request.ckpt_path and request.init_from:
        raise UsageError(
            "--ckpt_path resumes a run and --init_from starts a new one; give one"
        )
    if source is not None:
        return _source(request, source)
    path = request.ckpt_path or request.init_from
    if path is None:
        if "--help" in request.options or "--print_config" in request.options:
            return None
        if request.command != "fit":
            raise UsageError(f"lmzoo {request.command} needs --ckpt_path RUN")
        return None
    resuming = request.command == "fit" and request.ckpt_path
    run = runs.load(path, which="last" if resuming else "best")
    if resuming and portable.is_portable(run.path):
        raise UsageError(
            f"--ckpt_path {path}: a model folder holds no state of an optimizer to go "
            f"on from; --init_from starts a new run from its weights"
        )
    return run


def _source(request: Request, place: str) -> runs.Run:
    """A new run's start; anything else that says where the weights are is refused."""
    for option in ("ckpt_path", "init_from"):
        if other := getattr(request, option):
            raise UsageError(
                f"--model.source {place} and --{option} {other} both say where the "
                f"weights are; give one"
            )
    if request.command != "fit":
        raise UsageError(
            f"--model.source {place}: lmzoo {request.command} measures what there is; "
            f"give --ckpt_path {place}"
        )
    run = sources.open_source(place)
    if run.stored["model"] != _registered(request.model or ""):
        raise UsageError(
            f"--model.source {place} is a model of lmzoo's own, "
            f"{run.stored['model']!r}; --init_from {place} goes on from it"
        )
    return run


def _model_name(request: Request, run: runs.Run | None) -> str:
    if run is None:
        if request.model is None:
            return DEFAULT_MODEL
        return _registered(request.model) or request.model
    stored = run.stored["model"]
    require_known(stored, run.path)  # a plugin that is not there is said now
    if request.model is not None and _registered(request.model) != stored:
        raise UsageError(
            f"--model {_registered(request.model) or request.model} contradicts "
            f"{run.place}, whose model is {stored!r}; leave --model out"
        )
    return stored


def _registered(class_path: str) -> str | None:
    for name, entry in models.entries()[0].items():
        if entry.target.replace(":", ".") == class_path:
            return name
    return None


def _recipe(name: str, preset: str | None, optimizer: str | None) -> dict[str, Any]:
    """The weakest configuration: tuned defaults, and a preset's numbers.

    A rate that was tuned for one optimizer is none for another: what the recipe says
    of its own is left out where another one was chosen.
    """
    cls = model_class(name)
    flat = {**BASE_RECIPE, **getattr(cls, "recipe", {})}
    own = flat["optimizer.class_path"]
    if optimizer not in (None, own, own.rpartition(".")[2]):
        flat = {k: v for k, v in flat.items() if not k.startswith("optimizer.")}
        flat["optimizer.class_path"] = optimizer
    path = models.class_path(name) if "." not in name else name
    classes = {
        "model": path,
        "data": data_modules.class_path(getattr(cls, "data", "text")),
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


def _stored_optimizer(run: runs.Run | None, request: Request) -> str | None:
    """The class that an exact resume goes on with."""
    if run is None or request.command != "fit" or not request.ckpt_path:
        return None
    return (run.stored.get("training") or {}).get("optimizer.class_path")


def _stored(run: runs.Run, request: Request) -> dict[str, Any]:
    """What a checkpoint says of its model, its text and, to resume, its training."""
    stored = run.stored
    for key in ("arguments", "data", "training"):
        check_plain(stored.get(key) or {}, f"{run.path}: {key}")
    linked = getattr(model_class(stored["model"]), "linked", {}).values()
    arguments = {k: v for k, v in stored["arguments"].items() if k not in linked}
    data = dict((stored.get("data") or {}).get("arguments") or {})
    starting = not request.ckpt_path  # a new run, from another's weights
    if starting or any(_typed_source(request, key) for key in SOURCES):
        data = {key: value for key, value in data.items() if key not in SOURCES}
    for key in SOURCES[1:]:
        data[key] = _located(data.get(key), run)
    data.pop("context_length", None)
    data["tokenizer_state"] = stored["tokenizer"]
    data["extend_tokenizer"] = starting
    name = (stored.get("data") or {}).get("name", "text")
    described = (stored.get("data") or {}).get("described") or {}
    if "labels" in described:  # what stands in the files -> name, in the model's order
        data["labels"] = described["labels"]
    if name == "labelled":
        data["tokenizer_state"] = json.dumps(stored["tokenizer"])
    known = inspect.signature(data_modules.load(name)).parameters
    data = {key: value for key, value in data.items() if key in known}
    config: dict[str, Any] = {
        "model": {"class_path": models.class_path(stored["model"])},
        "data": {"class_path": data_modules.class_path(name), "init_args": data},
    }
    config["model"]["init_args"] = arguments
    if request.command == "fit" and request.ckpt_path:
        classes = {"optimizer": "torch.optim.AdamW", "lr_scheduler": ""}
        config.setdefault("lr_scheduler", None)
        config.update(nested(_training(stored, run.path, request), classes))
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


def _training(stored: dict[str, Any], path: Path, request: Request) -> dict[str, Any]:
    """The stored training configuration, flat; only keys that a recipe may have.

    Raises:
        UsageError: a class that is neither torch's nor lmzoo's, which a checkpoint,
            being data, cannot have imported.
    """
    heads = ("optimizer", "lr_scheduler", "trainer", "early_stopping", "checkpoints")
    heads += ("freeze", "ema", "distill", "spike_guard")
    flat = stored.get("training") or {}
    for key in flat:
        head, _, tail = key.partition(".")
        if "." in tail or (head == "trainer" and tail not in TRAINER_KEYS):
            raise UsageError(
                f"{path} holds the training option {key!r}, which no checkpoint of "
                f"lmzoo has; it was changed, or is damaged"
            )
    for key in ("optimizer.class_path", "lr_scheduler.class_path"):
        option = key.partition(".")[0]
        typed = getattr(request, option, None) == flat.get(key)
        if key in flat and not typed and not KNOWN_CLASS.fullmatch(str(flat[key])):
            raise UsageError(
                f"{path} names {flat[key]!r} as its {option}; only torch's and "
                f"lmzoo's classes are taken from a checkpoint: if you trust it, go on "
                f"with --{option} {flat[key]}"
            )
    return {
        key: value
        for key, value in flat.items()
        if key.partition(".")[0] in (*heads, "samples", "seed_everything")
        and key != teachers.DIGEST
    }


def _typed_source(request: Request, key: str) -> bool:
    return bool(request.typed(f"data.{key}")) or key in request.section("data")
