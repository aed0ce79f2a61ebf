"""What a study is made of, read from a mapping: nothing runs."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmzoo.compare.values import near, spelled
from lmzoo.errors import UsageError
from lmzoo.text.corpora import resolve_corpus, scan

NAME = re.compile(r"[\w-][\w.-]*")  # of a corpus: it becomes a folder's
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

    def texts(self) -> dict[str, str]:
        """SHA-256 of each text that is a file, folder or glob: it may change.

        Raises:
            UsageError: nothing to read there.
        """
        keys = ("text_column", "keep_linebreaks")
        given = {key: self.fit.get(f"data.{key}") for key in keys}
        options = {key: value for key, value in given.items() if value is not None}
        return {
            name: scan(
                resolve_corpus(path=where, option=f"corpora: {name}:", **options)
            ).sha256
            for name, where in self.corpora.items()
            if is_path(where)
        }

    def digest(self) -> str:
        """Eight hexadecimal digits of what is trained."""
        told = json.dumps([[self.arguments(run) for run in self.runs()], self.texts()])
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    def with_corpora(self, typed: str) -> "Recipe":
        """The same study of other texts, typed as ``name=PATH,name=PATH``.

        Raises:
            UsageError: not of that form, or a name twice.
        """
        found = _named(typed.split(","), f"--corpora {typed}")
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
    if isinstance(corpora, dict):
        corpora = [f"{key}={value}" for key, value in corpora.items()]
    if not isinstance(corpora, list) or not corpora:
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
    overrides = _mappings(content, "overrides", name)
    for model in overrides:
        if model not in models:
            hint = near(model, models)
            raise UsageError(f"{name}: overrides: {model} is not among models{hint}")
    return Recipe(
        Path(name).stem,
        _named(map(str, corpora), f"{name}: corpora"),
        tuple(map(str, models)),
        fit,
        {model: _flat(options) for model, options in overrides.items()},
        _prompts(content, name),
        early,
        _mappings(content, "options", name),
        seed,
    )


def is_path(where: str) -> bool:
    """Whether a word means a file, folder or glob, not a named corpus."""
    return any(mark in where for mark in "/\\*.") or Path(where).exists()


def _named(words: Iterable[str], said: str) -> dict[str, str]:
    """``name=where``, a named corpus, or a path, which is called by its stem."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, where = (part.strip() for part in word.partition("="))
        if not name or (equals and not where):
            raise UsageError(
                f"{said}: give names, as kjv,pydoc, or name=PATH,name=PATH"
            )
        if not equals and is_path(name):
            name, where = Path(name).name.split(".")[0], name
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{said}: {name!r} is no name for a corpus (letters, digits, '.', '-' "
                f"and '_'); give name={where or name}"
            )
        if name in found:
            raise UsageError(f"{said}: {name} is named twice; give name=PATH")
        found[name] = where or name
    return found


def _require_file(name: str, where: str) -> None:
    if not Path(where).exists():
        raise UsageError(f"--corpora {name}={where}: no such file or folder")


def _mapping(content: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    found = {} if content.get(key) is None else content[key]
    if not isinstance(found, dict):
        raise UsageError(f"{name}: {key}: expected a mapping")
    return found


def _mappings(
    content: Mapping[str, Any], key: str, name: str
) -> dict[str, dict[str, Any]]:
    """A mapping of mappings."""
    found = _mapping(content, key, name)
    return {str(one): _mapping(found, one, f"{name}: {key}") for one in found}


def _prompts(content: Mapping[str, Any], name: str) -> tuple[Prompt, ...]:
    found = content.get("prompts") or []
    if not isinstance(found, list):
        raise UsageError(f"{name}: prompts: expected a list")
    return tuple(_prompt(one, name) for one in found)


def _prompt(one: Any, name: str) -> Prompt:
    keys = {"prompt", "target", "home"}
    if not isinstance(one, dict) or not {"prompt", "target"} <= set(one) <= keys:
        raise UsageError(f"{name}: prompts: each has prompt, target and home")
    home = one.get("home") or []
    if not isinstance(home, list):
        raise UsageError(f"{name}: prompts: home: give a list of corpora, as [{home}]")
    return Prompt(str(one["prompt"]), str(one["target"]), tuple(map(str, home)))


def _flat(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value
    return flat
