"""Names for models and data modules: strings until chosen, imported only then.

A registry is a table ``name -> "module:Class"``. The built-ins stand in it as strings,
installed packages add to it by entry points, and a plugin file adds to it with
``@register_model("name")``. Listing imports nothing; loading imports one module.
Standard library only.
"""

import contextlib
import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

from lmzoo.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class Entry:
    """One name of a registry: where its class is and what it is, as plain strings."""

    name: str
    target: str  # "module:Class"
    summary: str
    source: str  # "lmzoo", a distribution's name, or a plugin file


class Registry:
    """A table of names, filled by built-ins, entry points and plugin files.

    Args:
        noun: what is registered, for messages ("model").
        plural: the same for a list ("Models in the zoo").
        group: entry-point group that other packages use.
        base: "module:Class" that every member must derive from; "" for functions.
        advice: the class that most members derive from, for messages; else ``base``.
        builtins: name -> ("module:Class", one line).
    """

    def __init__(
        self,
        noun: str,
        plural: str,
        group: str,
        base: str,
        builtins: dict[str, tuple[str, str]],
        advice: str = "",
    ) -> None:
        self.noun, self.plural, self.group, self.base = noun, plural, group, base
        self.advice = advice or base
        self._builtins = {
            name: Entry(name, target, summary, "lmzoo")
            for name, (target, summary) in builtins.items()
        }
        self._files: dict[str, Entry] = {}

    def entries(self) -> tuple[dict[str, Entry], list[str]]:
        """Every usable name, and one line for each plugin that cannot be used."""
        table = {**self._builtins, **self._files}
        problems, clashed = [], set()
        for point in _announced(self.group, tuple(sys.path)):
            source = point.dist.name if point.dist else point.value
            entry = Entry(point.name, point.value, f"from {source}", source)
            if not NAME.fullmatch(point.name):
                problems.append(
                    f"{source}: {point.name!r} is no name for a {self.noun} "
                    f"(lower-case letters, digits, '-' and '_')"
                )
            elif (taken := table.get(point.name)) and taken != entry:
                problems.append(self._clash(taken, source))
                if taken.source != "lmzoo":
                    clashed.add(point.name)
            else:
                table[point.name] = entry
        for name in clashed:
            del table[name]
        return table, problems

    def entry(self, name: str) -> Entry:
        """The entry called ``name``.

        Raises:
            UsageError: no such name (the nearest is said), or two packages claim it.
        """
        table, problems = self.entries()
        if name in table:
            return table[name]
        for problem in problems:
            if repr(name) in problem:
                raise UsageError(problem)
        raise UsageError(self._unknown(name, table))

    def class_path(self, name: str) -> str:
        """``name`` as the dotted path that jsonargparse and YAML files use."""
        return self.entry(name).target.replace(":", ".")

    def load(self, name: str) -> Any:
        """Import the class or function called ``name``, and nothing else.

        Raises:
            UsageError: unknown name, a module that fails to import, a class that does
                not derive from the registry's base, or no function where one should be.
        """
        entry = self.entry(name)
        module, _, attribute = entry.target.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a plugin may fail in any way; name it, in one line
            if entry.source == "lmzoo":
                raise
            raise UsageError(
                f"the {self.noun} {name!r} of {entry.source} cannot be imported: "
                f"{type(error).__name__}: {error}; mend or uninstall that package"
            ) from error
        self._require_base(name, found, entry.source)
        return found

    def name_of(self, cls: type) -> str | None:
        """The name under which ``cls`` is registered, without importing anything."""
        target = f"{cls.__module__}:{cls.__qualname__}"
        for entry in self.entries()[0].values():
            if entry.target == target:
                return entry.name
        return None

    def name_of_path(self, class_path: str) -> str:
        """The name of a dotted class path, or the path itself."""
        for entry in self.entries()[0].values():
            if entry.target.replace(":", ".") == class_path:
                return entry.name
        return class_path

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that puts a class or function of a plugin file into the table.

        Harmless in an installed package, whose entry point names the same class.

        Raises:
            UsageError: a bad name, a name that is taken, or a class of another kind.
        """
        return partial(self._add, name)

    def _add(self, name: str, cls: Any) -> Any:
        source = getattr(sys.modules.get(cls.__module__), "__file__", None)
        source = source or cls.__module__
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UsageError(
                f"{source}: {name!r} is no name for a {self.noun} "
                f"(lower-case letters, digits, '-' and '_')"
            )
        self._require_base(name, cls, source)
        target = f"{cls.__module__}:{cls.__qualname__}"
        taken = self.entries()[0].get(name)
        if taken and taken.target != target:
            raise UsageError(self._clash(taken, source))
        if not taken:
            summary = (cls.__doc__ or "").strip().split("\n")[0]
            self._files[name] = Entry(name, target, summary, source)
        return cls

    def forget(self, name: str) -> None:
        """Drop a name that a plugin file registered."""
        self._files.pop(name, None)

    def _require_base(self, name: str, found: object, source: str) -> None:
        if not self.base:
            if isinstance(found, type) or not callable(found):
                raise UsageError(f"the {self.noun} {name!r} of {source} is no function")
            return
        module, _, attribute = self.base.partition(":")
        base = getattr(importlib.import_module(module), attribute)
        if not (isinstance(found, type) and issubclass(found, base)):
            module, _, attribute = self.advice.partition(":")
            raise UsageError(
                f"the {self.noun} {name!r} of {source} is not a {attribute}: "
                f"derive it from {module}.{attribute}"
            )

    def _clash(self, taken: Entry, source: str) -> str:
        return (
            f"the {self.noun} name {taken.name!r} is claimed by both {taken.source} "
            f"and {source}; rename or uninstall one of them"
        )

    def _unknown(self, name: str, table: dict[str, Entry]) -> str:
        near = difflib.get_close_matches(name.lower(), table, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        names = ", ".join(sorted(table))
        return f"unknown {self.noun} {name!r}{hint} {self.plural}: {names}"


@cache
def _announced(group: str, path: tuple[str, ...]) -> EntryPoints:
    """What the packages on ``path`` announce; all of them are read, so only once."""
    return entry_points(group=group)


models = Registry(
    noun="model",
    plural="Models in the zoo",
    group="lmzoo.models",
    base="lmzoo.models.member:Member",
    advice="lmzoo.models.base:LanguageModel",
    builtins={
        "ngram": ("lmzoo.models.ngram:NGram", "interpolated counting model, the floor"),
        "heaviside": (
            "lmzoo.models.heaviside:Heaviside",
            "the faulty step-activation baseline, an exhibit",
        ),
        "bare": (
            "lmzoo.models.feedforward:Bare",
            "embedding and head, nothing between",
        ),
        "mlp": ("lmzoo.models.feedforward:MLP", "position-wise multi-layer perceptron"),
        "ff": (
            "lmzoo.models.feedforward:FeedForward",
            "window feed-forward model (Bengio et al. 2003)",
        ),
        "rnn": ("lmzoo.models.recurrent:RNN", "Elman network (Elman 1990)"),
        "gru": ("lmzoo.models.recurrent:GRU", "gated recurrent unit (Cho et al. 2014)"),
        "lstm": (
            "lmzoo.models.recurrent:LSTM",
            "long short-term memory (Hochreiter & Schmidhuber 1997)",
        ),
        "mingru": ("lmzoo.models.mingru:MinGRU", "minGRU (Feng et al. 2024)"),
        "mamba2": (
            "lmzoo.models.mamba2:Mamba2",
            "selective state space (Dao & Gu 2024)",
        ),
        "conv": ("lmzoo.models.convolution:Conv", "causal dilated convolution"),
        "conv-noncausal": (
            "lmzoo.models.convolution:ConvNoncausal",
            "sees the future, an exhibit that check rejects",
        ),
        "gpt": (
            "lmzoo.models.gpt:GPT",
            "decoder-only Transformer (Radford et al. 2019)",
        ),
        "palm": (
            "lmzoo.models.palm:PaLM",
            "decoder, each choice an argument; presets: PaLM (Chowdhery et al. 2022)",
        ),
        "pretrained": (
            "lmzoo.models.pretrained:Pretrained",
            "a causal model of a transformers folder (extra hf)",
        ),
        "encoder": (
            "lmzoo.models.encoder:Encoder",
            "bidirectional Transformer, masked-language model (Devlin et al. 2018)",
        ),
        "pretrained-encoder": (
            "lmzoo.models.pretrained_encoder:PretrainedEncoder",
            "an encoder of a transformers folder, as a body (extra hf)",
        ),
        "classifier": (
            "lmzoo.models.classifier:PooledClassifier",
            "a label for a text: a head on any other model of the zoo",
        ),
        "transformer-unmasked": (
            "lmzoo.models.gpt:TransformerUnmasked",
            "attention without a mask, an exhibit that check rejects",
        ),
    },
)

data_modules = Registry(
    noun="data module",
    plural="Data modules",
    group="lmzoo.data",
    base="lightning.pytorch:LightningDataModule",
    builtins={
        "text": ("lmzoo.text.datamodule:TextDataModule", "any text, in windows"),
        "labelled": (
            "lmzoo.text.labelled:LabelledDataModule",
            "texts with labels: csv, tsv, jsonl, a folder for each label",
        ),
    },
)

probes = Registry(
    noun="probe",
    plural="Probes",
    group="lmzoo.probes",
    base="",
    builtins={
        "frequencies": (
            "lmzoo.analysis.probes.frequencies:frequencies",
            "characters of corpora, and what they share",
        ),
        "samples": (
            "lmzoo.analysis.probes.samples:samples",
            "texts at every checkpoint, and how they vary",
        ),
        "curve": (
            "lmzoo.analysis.probes.curve:curve",
            "train and held-out loss, from the checkpoints alone",
        ),
        "softmax": (
            "lmzoo.analysis.probes.softmax:softmax",
            "what comes next: probabilities and entropy over training",
        ),
        "attention": (
            "lmzoo.analysis.probes.attention:attention",
            "where each head of each layer looks",
        ),
        "attribution": (
            "lmzoo.analysis.probes.attribution:attribution",
            "which positions of a prompt a next token depends on",
        ),
        "gradflow": (
            "lmzoo.analysis.probes.gradflow:gradflow",
            "how far back the gradient of one position's loss reaches",
        ),
    },
)

register_model = models.register
register_probe = probes.register


def load_plugin(path: str, option: str = "--plugin") -> None:
    """Run a plugin file, so that its ``@register_...`` lines take effect.

    A plugin is code: give only files that you would run.

    Args:
        path: of the file.
        option: that named it, for messages.

    Raises:
        UsageError: no such file, or the file fails, with its own message.
    """
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise UsageError(f"{option} {path}: no such Python file")
    module = f"lmzoo_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', file.stem)}"
    spec = importlib.util.spec_from_file_location(module, file.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{option} {path}: not a Python file that can be loaded")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    try:
        spec.loader.exec_module(loaded)
    except UsageError:
        _unload(module)
        raise
    # whatever the file raises is the user's to see, briefly
    except (Exception, SystemExit) as error:
        _unload(module)
        raise UsageError(
            f"{option} {path}: {type(error).__name__}: {error}; mend the file"
        ) from error


def _unload(module: str) -> None:
    with contextlib.suppress(KeyError):
        del sys.modules[module]
    for registry in (models, data_modules, probes):
        for name, entry in list(registry._files.items()):
            if entry.target.startswith(f"{module}:"):
                registry.forget(name)
