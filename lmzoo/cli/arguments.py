"""What was typed for fit, validate and test, made plain before any parser sees it.

Names become class paths, configuration files become their contents, and lmzoo's own
options are taken out. No torch here: a mistyped name is answered at once.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lmzoo.cli.configurations import load_yaml
from lmzoo.errors import UsageError
from lmzoo.registry import Registry, data_modules, load_plugin, models

OWN = ("plugin", "model.preset", "ckpt_path", "init_from", "distill_from", "config")
FLAGS = ("fresh",)
CLASSES = {  # short names of optimizers and schedules; all others by class path
    "adamw": "torch.optim.AdamW",
    "muon": "lmzoo.training.muon.Muon",
    "adafactor": "lmzoo.training.adafactor.Adafactor",
    "cosine": "lmzoo.training.optimizers.WarmupCosine",
    "wsd": "lmzoo.training.schedules.WarmupStableDecay",
    "rsqrt": "lmzoo.training.schedules.InverseSquareRoot",
}
BODY = re.compile(r"model\.(?:init_args\.)?(body|body_arguments|body\.(\w+))")


@dataclass
class Request:
    """One call of fit, validate or test."""

    command: str
    model: str | None = None  # class path
    preset: str | None = None
    data: str | None = None  # class path
    optimizer: str | None = None  # class path
    lr_scheduler: str | None = None  # class path
    distill_from: str | None = None
    body: str | None = None  # of a classifier: a name, a run or a folder
    body_arguments: list[tuple[str, str]] = field(default_factory=list)
    ckpt_path: str | None = None
    init_from: str | None = None
    fresh: bool = False
    help: tuple[str, str] | None = None  # a section and the class it is asked of
    plugins: list[str] = field(default_factory=list)
    configs: list[dict[str, Any]] = field(default_factory=list)  # later wins
    options: list[str] = field(default_factory=list)  # "--key=value", typed order

    def typed(self, prefix: str) -> list[str]:
        """Keys under ``prefix`` that were typed or stand in the environment."""
        keys = [option[2:].split("=", 1)[0] for option in self.options]
        return [key for key in keys if key.startswith(prefix)]

    def section(self, name: str) -> dict[str, Any]:
        """What the configuration files say of a class: its init_args, merged."""
        merged: dict[str, Any] = {}
        for config in self.configs:
            merged.update((config.get(name) or {}).get("init_args") or {})
        return merged


def read(command: str, argv: list[str]) -> Request:
    """Understand ``argv`` (without the command) and the environment.

    Raises:
        UsageError: an unknown name, a bad file, or an option that cannot be given.
    """
    request = Request(command)
    given = [*_environment(command), *pairs(argv)]
    for key, value in given:
        if key == "plugin":
            load_plugin(_needs(key, value))
            request.plugins.append(str(value))
    for key, value in given:
        if key == "config":
            request.configs.append(_config(_needs(key, value)))
    for key, value in given:
        _take(request, key, value)
    _choose(request)
    _prefer_typed_text(request)
    return request


def _prefer_typed_text(request: Request) -> None:
    """A corpus or path that was typed replaces either of them in the files."""
    if request.typed("data.corpus") or request.typed("data.path"):
        for config in request.configs:
            arguments = (config.get("data") or {}).get("init_args") or {}
            for key in ("corpus", "path"):
                arguments.pop(key, None)


def _take(request: Request, key: str, value: str | None) -> None:
    if key in ("plugin", "config"):
        return
    if (name := key.removesuffix(".class_path")) in SECTIONS:
        request.configs.append({name: SECTIONS[name](_needs(key, value))})
    elif key.removesuffix(".help") in SECTIONS and key.endswith(".help"):
        name = key.removesuffix(".help")
        section = SECTIONS[name](_needs(key, value))
        request.help = (name, str(section.get("class_path")))
    elif key == "model.preset":
        request.preset = _needs(key, value)
    elif found := BODY.fullmatch(key):
        _take_body(request, found[1], found[2], _needs(key, value))
    elif key == "ckpt_path":
        request.ckpt_path = _needs(key, value)
    elif key == "init_from":
        request.init_from = _needs(key, value)
    elif key == "distill_from":
        request.distill_from = _needs(key, value)
    elif key == "fresh":
        request.fresh = value is None or value.lower() in ("true", "1", "yes")
    elif key in ("model.vocab_size", "model.init_args.vocab_size"):
        raise UsageError(
            "--model.vocab_size cannot be given: it is the tokenizer's; choose "
            "--data.tokenizer and --data.tokenizer_size"
        )
    else:
        request.options.append(f"--{key}" if value is None else f"--{key}={value}")


def _take_body(request: Request, rest: str, name: str | None, value: str) -> None:
    if rest == "body":
        request.body = value
    else:
        request.body_arguments.append((name or "", value))


def _choose(request: Request) -> None:
    """The last class named wins; arguments meant for another are dropped."""
    for name in SECTIONS:
        chosen = None
        for config in request.configs:
            section = config.get(name) or {}
            chosen = section.get("class_path", chosen)
        setattr(request, name, chosen)
        for config in request.configs:
            section = config.get(name)
            if (
                section
                and chosen
                and section.setdefault("class_path", chosen) != chosen
            ):
                del config[name]
    presets = [(c.get("model") or {}).pop("preset", None) for c in request.configs]
    request.preset = request.preset or next(filter(None, reversed(presets)), None)


def pairs(argv: list[str]) -> list[tuple[str, str | None]]:
    """("key", "value") for each option; the value is None for a bare flag."""
    found: list[tuple[str, str | None]] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        word = "--config" if word == "-c" else word
        if not word.startswith("--") or word == "--":
            raise UsageError(f"unexpected argument {word!r}; options are --key value")
        key, equals, value = word[2:].partition("=")
        if equals:
            found.append((key, value))
        elif key not in FLAGS and rest and not rest[0].startswith("--"):
            found.append((key, rest.pop(0)))
        else:
            found.append((key, None))
    return found


def _environment(command: str) -> list[tuple[str, str | None]]:
    """``LMZOO_FIT__TRAINER__MAX_STEPS=5`` is ``--trainer.max_steps 5``."""
    prefix = f"LMZOO_{command.upper()}__"
    return [
        (name.removeprefix(prefix).lower().replace("__", "."), value)
        for name, value in sorted(os.environ.items())
        if name.startswith(prefix)
    ]


def _needs(key: str, value: str | None) -> str:
    if not value:
        raise UsageError(f"--{key} needs a value")
    return value


def _section(text: str, registry: Registry) -> dict[str, Any]:
    """A name, a class path, inline JSON or a file, as {"class_path", "init_args"}."""
    if text.lstrip().startswith("{") or text.endswith((".yaml", ".yml", ".json")):
        return _class(load_yaml(text), registry)
    return _class(text, registry)


def _class(value: Any, registry: Registry) -> dict[str, Any]:
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, dict):
        raise UsageError(
            f"{registry.noun}: expected a name or a section, given {value!r}"
        )
    known = ("class_path", "init_args", "preset", "dict_kwargs")
    section = {key: item for key, item in value.items() if key in known}
    bare = {key: item for key, item in value.items() if key not in known}
    if bare:  # "model: {d_model: 64}" means the arguments of the chosen class
        section["init_args"] = {**bare, **(section.get("init_args") or {})}
    name = section.get("class_path")
    if isinstance(name, str) and "." not in name:
        section["class_path"] = registry.class_path(name)
    return section


def _named(value: Any, option: str) -> dict[str, Any]:
    """A short name, a class path, or a section, as {"class_path", "init_args"}."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = load_yaml(value)
    section = {"class_path": value} if isinstance(value, str) else value
    name = section.get("class_path", "") if isinstance(section, dict) else None
    if not isinstance(name, str):
        raise UsageError(
            f"--{option}: expected a name, or a section with a class_path, given "
            f"{value!r}"
        )
    return {**section, "class_path": CLASSES.get(name, name)} if name else {**section}


SECTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "model": partial(_section, registry=models),
    "data": partial(_section, registry=data_modules),
    "optimizer": partial(_named, option="optimizer"),
    "lr_scheduler": partial(_named, option="lr_scheduler"),
}


def _config(text: str) -> dict[str, Any]:
    content = load_yaml(text)
    for name, registry in (("model", models), ("data", data_modules)):
        if content.get(name) is not None:
            content[name] = _class(content[name], registry)
    for name in ("optimizer", "lr_scheduler"):
        if content.get(name) is not None:
            content[name] = _named(content[name], name)
    if "vocab_size" in ((content.get("model") or {}).get("init_args") or {}):
        content["model"]["init_args"].pop("vocab_size")  # the tokenizer's to say
    return content


def nested(flat: dict[str, Any], classes: dict[str, str]) -> dict[str, Any]:
    """Dotted keys as a configuration; ``classes`` gives the sections' class paths."""
    config: dict[str, Any] = {}
    for key, value in flat.items():
        head, _, tail = key.partition(".")
        if head in classes:
            section = config.setdefault(head, {"class_path": classes[head]})
            if tail == "class_path":
                section["class_path"] = value
            else:
                section.setdefault("init_args", {})[tail] = value
        elif tail:
            config.setdefault(head, {})[tail] = value
        else:
            config[head] = value
    return config
