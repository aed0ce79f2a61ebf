"""What a study is made of, read from a mapping: nothing runs, no text is read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmzoo.compare.values import spelled
from lmzoo.errors import UsageError

KEYS = ("corpora", "models", "fit", "overrides", "prompts", "early", "options", "seed")
DECIDED = ("trainer.default_root_dir", "data.corpus", "data.path", "seed_everything")


@dataclass(frozen=True)
class Prompt:
    """A fixed input of the lab.

    Attributes:
        text: to be continued.
        target: the character whose attribution is asked for.
        home: names of the corpora in whose domain it is, the lab's own first.
    """

    text: str
    target: str
    home: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """What was asked for.

    Attributes:
        name: of the file.
        corpora: name -> named corpus or path.
        models: registry names; each is trained on each corpus.
        fit: options of ``lmzoo fit`` for all, flat.
        overrides: model -> options for it alone.
        prompts: fixed inputs.
        early: the step of an earlier checkpoint, from which few-shot starts too.
        options: probe -> its options.
        seed: of the trainings.
    """

    name: str
    corpora: dict[str, str]
    models: tuple[str, ...]
    fit: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    prompts: tuple[Prompt, ...] = ()
    early: int | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 1337

    def runs(self) -> dict[str, tuple[str, str]]:
        """Name of each run -> (model, corpus)."""
        return {
            f"{model}-{corpus}": (model, corpus)
            for model in self.models
            for corpus in self.corpora
        }

    def arguments(self, run: str) -> list[str]:
        """What ``lmzoo fit`` is given for a run, without its folder."""
        model, corpus = self.runs()[run]
        where = self.corpora[corpus]
        key = "path" if is_path(where) else "corpus"
        options = {"early_stopping.enabled": False, **self.fit}
        options |= self.overrides.get(model, {})
        words = [f"--{name}={spelled(value)}" for name, value in options.items()]
        text = f"--data.{key}={Path(where).resolve() if key == 'path' else where}"
        return [f"--model={model}", text, *words, f"--seed_everything={self.seed}"]

    def of(self, probe: str) -> dict[str, Any]:
        """Options that the recipe gives a probe."""
        return dict(self.options.get(probe, {}))

    def digest(self) -> str:
        """Eight hexadecimal digits of what is trained."""
        told = json.dumps([self.arguments(run) for run in self.runs()])
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    def with_corpora(self, typed: str) -> "Recipe":
        """The same study of other texts, typed as ``name=PATH,name=PATH``.

        Raises:
            UsageError: not of that form, or a name twice.
        """
        found: dict[str, str] = {}
        for word in typed.split(","):
            name, equals, where = word.strip().partition("=")
            if not name or (equals and not where):
                raise UsageError(
                    f"--corpora {typed}: give names, as kjv,pydoc, or name=PATH,"
                    f"name=PATH"
                )
            if name in found:
                raise UsageError(f"--corpora {typed}: {name} is named twice")
            found[name] = where or name
        for name, where in found.items():
            if is_path(where) and not any(mark in where for mark in "*?["):
                _require_file(name, where)
        return replace(self, corpora=found)


def read(content: Mapping[str, Any], name: str) -> Recipe:
    """A recipe from what its YAML file says.

    Raises:
        UsageError: an unknown key, or a value that cannot be meant.
    """
    for key in content:
        if key not in KEYS:
            raise UsageError(f"{name}: unknown key {key!r}; keys: {', '.join(KEYS)}")
    corpora = content.get("corpora")
    if isinstance(corpora, list):
        corpora = {str(one): str(one) for one in corpora}
    if not isinstance(corpora, dict) or not corpora:
        raise UsageError(f"{name}: corpora: give a list of names, or name: path")
    models = content.get("models", ["gpt"])
    if not isinstance(models, list) or not models:
        raise UsageError(f"{name}: models: give a list of models")
    early, seed = content.get("early"), content.get("seed", 1337)
    if not (early is None or isinstance(early, int)) or not isinstance(seed, int):
        raise UsageError(f"{name}: early and seed are whole numbers")
    fit = _flat(_mapping(content, "fit", name))
    for key in fit:
        if key in DECIDED:
            raise UsageError(f"{name}: fit: {key} is what the study itself decides")
    overrides = _mapping(content, "overrides", name)
    return Recipe(
        Path(name).stem,
        {str(key): str(value) for key, value in corpora.items()},
        tuple(map(str, models)),
        fit,
        {model: _flat(options) for model, options in overrides.items()},
        tuple(_prompt(one, name) for one in content.get("prompts") or []),
        early,
        _mapping(content, "options", name),
        seed,
    )


def is_path(where: str) -> bool:
    """Whether a word means a file, folder or glob, not a named corpus."""
    return any(mark in where for mark in "/\\*.") or Path(where).exists()


def _require_file(name: str, where: str) -> None:
    if not Path(where).exists():
        raise UsageError(f"--corpora {name}={where}: no such file or folder")


def _mapping(content: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    found = content.get(key) or {}
    if not isinstance(found, dict):
        raise UsageError(f"{name}: {key}: expected a mapping")
    return found


def _prompt(one: Any, name: str) -> Prompt:
    keys = {"prompt", "target", "home"}
    if not isinstance(one, dict) or not {"prompt", "target"} <= set(one) <= keys:
        raise UsageError(f"{name}: prompts: each has prompt, target and home")
    return Prompt(str(one["prompt"]), str(one["target"]), tuple(one.get("home") or ()))


def _flat(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value
    return flat
