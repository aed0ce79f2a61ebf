"""From what was asked for to a list of cells: nothing runs, nothing is read.

A variant is a model with its options and its values on the axes; a cell is a variant
with a seed, and one ``lmzoo fit`` command.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmzoo.compare.values import near, spelled
from lmzoo.errors import UsageError

BUDGETS = {  # what fit calls each kind
    "seconds": "budget.seconds",
    "steps": "trainer.max_steps",
    "tokens": "budget.tokens",
    "flops": "budget.flops",
}
ROWS = "rows"  # the axis whose values are names of sets of options
TOKENIZER = re.compile(r"(word|bpe):(\d+)")  # a kind and a size, as one axis value
OWN_DATA = (  # options of data that may differ between models: the text stays the same
    "data.tokenizer",
    "data.tokenizer_size",
    "data.min_frequency",
    "data.split_digits",
    "data.batch_size",
)
AFTERWARDS = ("samples.", "checkpoints.")  # what a run writes, not what it learns
DECIDED = {  # options of fit that the comparison gives itself
    "seed_everything": "--seeds",
    "data.seed": "--seeds",
    "trainer.max_steps": "--budget.steps",
    "trainer.default_root_dir": "--out",
    "model.vocab_size": "--vary data.tokenizer_size",
}


@dataclass(frozen=True)
class Variant:
    """What the cells of all seeds share.

    Attributes:
        label: the model, and its values on the axes.
        model: registry name.
        axes: option -> value of this variant.
        options: all of fit's options but the seed and the folder.
    """

    label: str
    model: str
    axes: dict[str, Any]
    options: dict[str, Any]

    def arguments(self, seed: int) -> list[str]:
        """What ``fit`` is given, without the folder."""
        words = [f"--{key}={spelled(value)}" for key, value in self.options.items()]
        return [f"--model={self.model}", *words, f"--seed_everything={seed}"]


@dataclass(frozen=True)
class Cell:
    """A variant and a seed; the name is unique and a folder's."""

    name: str
    variant: Variant
    seed: int

    @property
    def run(self) -> str:
        """The run folder, below the comparison's."""
        return f"cells/{self.name}"

    def argv(self, folder: Path, plugins: Sequence[str] = ()) -> tuple[str, ...]:
        """Words after ``lmzoo``."""
        named = [f"--plugin={path}" for path in plugins]
        place = f"--trainer.default_root_dir={folder / self.run}"
        return ("fit", *named, *self.variant.arguments(self.seed), place)


@dataclass(frozen=True)
class Comparison:
    """What was asked for.

    Attributes:
        models: registry names.
        seeds: every variant is trained once with each.
        budget: a kind of ``BUDGETS``, and how much of it.
        options: options of fit for every model.
        axes: option of fit -> its values; several make a grid.
        rows: name -> options of fit; with them the axis ``rows`` has these names.
        overrides: model -> options of fit for it alone.
        plugins: files that register models.
        parallel: cells at a time.
        threads: of each cell.
        launcher: where the cells run.
        match: parameters that every model is to have, or None.
        trials: learning rates tried for every model, inside the budget; 0 for none.

    Raises:
        UsageError: a name, seed or option that cannot be meant.
    """

    models: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: tuple[str, float]
    options: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    parallel: int = 1
    threads: int = 1
    launcher: str = "local"
    match: int | None = None
    trials: int = 0

    def __post_init__(self) -> None:
        _distinct("--models", self.models)
        _distinct("--seeds", self.seeds)
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise UsageError(f"--seeds {seed}: give 0 to {2**32 - 1}")
        for key, values in self.axes.items():
            if not values:
                raise UsageError(f"--vary {key}: give values, as {key}=1,2")
            _distinct(f"--vary {key}", [spelled(value) for value in values])
            if key in self.options:
                raise UsageError(f"--{key} is given, and varied by --vary; give one")
            if key.startswith(AFTERWARDS):
                raise UsageError(
                    f"--vary {key}: training does not read it, so every value would "
                    f"give the same curve; give one for all"
                )
        for key in [*self._varied(), *self.options, *_keys(self.overrides)]:
            if key in DECIDED:
                raise UsageError(f"--{key}: a comparison sets it; {DECIDED[key]}")
        for name, options in self.rows.items():
            if both := sorted(set(options) & set(self.axes)):
                raise UsageError(f"{ROWS}: {name}: {both[0]} is varied too; give one")
        self._require_one_size()
        for model, options in self.overrides.items():
            if model not in self.models:
                raise UsageError(
                    f"overrides: {model!r} is not compared; models: "
                    f"{', '.join(self.models)}{near(model, self.models)}"
                )
            if both := sorted(set(options) & set(self._varied())):
                raise UsageError(
                    f"overrides: {model}: {both[0]} is varied, so nothing would read it"
                )
            for key in options:
                if key.startswith("data.") and key not in OWN_DATA:
                    raise UsageError(
                        f"overrides: {model}: {key} would give it another text than "
                        f"the others have; give it to all of them, or to --vary"
                    )

    def _require_one_size(self) -> None:
        """What is found for a model must hold in each of its variants."""
        for key in self._varied():
            if self.match and key.startswith(("model.", "data.")):
                raise UsageError(
                    f"--match.params with --vary {key}: a size is found once for each "
                    f"model; give one of them"
                )
            if self.trials and key.startswith("optimizer."):
                raise UsageError(f"--tune.trials with --vary {key}: give one of them")
        for key in [*self.options, *_keys(self.overrides)]:
            if self.trials and key == "optimizer.lr":
                raise UsageError(
                    f"--tune.trials searches {key}, which is given too; give one"
                )

    def _varied(self) -> list[str]:
        """Options that differ between variants."""
        return [*(key for key in self.axes if key != ROWS), *_keys(self.rows)]

    @property
    def stops_early(self) -> bool:
        """Whether early stopping was asked for; it is off otherwise."""
        keys = [*self.options, *self._varied(), *_keys(self.overrides)]
        return any(key.startswith("early_stopping.") for key in keys)

    def completed(self, found: dict[str, dict[str, Any]]) -> "Comparison":
        """With options that were found for a model: a size that matches, a tuned rate.

        They rank as its overrides do. The identity stays that of what was asked for.
        """
        merged = {
            model: {**self.overrides.get(model, {}), **found.get(model, {})}
            for model in self.models
        }
        return replace(self, overrides={m: o for m, o in merged.items() if o})

    def variants(self) -> list[Variant]:
        """Every model at every point of the grid."""
        kind, amount = self.budget
        off = {} if self.stops_early else {"early_stopping.enabled": False}
        made = []
        for model, point in itertools.product(
            self.models, itertools.product(*self.axes.values())
        ):
            axes = dict(zip(self.axes, point, strict=True))
            options = {**off, **self.options, **self.overrides.get(model, {})}
            for key, value in axes.items():
                chosen = self.rows[value] if key == ROWS else _as_options(key, value)
                options.update(chosen)
            options[BUDGETS[kind]] = amount
            made.append(Variant(self._label(model, axes), model, axes, options))
        return made

    def cells(self) -> list[Cell]:
        """Seed by seed, so that what is interrupted is complete for the first ones."""
        cells, taken = [], set()
        for seed, variant in itertools.product(self.seeds, self.variants()):
            slug = re.sub(r"[^A-Za-z0-9._-]+", "-", variant.label).strip("-.")
            name = unique = f"{slug}-{seed}"
            for number in itertools.count(2):
                if unique not in taken:
                    break
                unique = f"{name}-{number}"
            taken.add(unique)
            cells.append(Cell(unique, variant, seed))
        return cells

    def identity(self) -> dict[str, Any]:
        """What makes it this comparison and no other, flat."""
        flat: dict[str, Any] = {
            "models": list(self.models),
            "seeds": list(self.seeds),
            f"budget.{self.budget[0]}": self.budget[1],
            "plugin": list(self.plugins),
            "parallel": self.parallel,
            "threads": self.threads,
            "launcher": self.launcher,
            **({"match.params": self.match} if self.match else {}),
            **({"tune.trials": self.trials} if self.trials else {}),
            **self.options,
        }
        flat.update({f"vary.{key}": values for key, values in self.axes.items()})
        for row, options in self.rows.items():
            flat.update({f"{ROWS}.{row}.{k}": v for k, v in options.items()})
        for model, options in self.overrides.items():
            flat.update({f"overrides.{model}.{k}": v for k, v in options.items()})
        return json.loads(json.dumps(flat))

    def _label(self, model: str, axes: dict[str, Any]) -> str:
        tails = [key.rpartition(".")[2] for key in self.axes]
        words = [model]
        for key, value in axes.items():
            tail = key.rpartition(".")[2]
            short = tail if tails.count(tail) == 1 else key
            plain = key in ("data.tokenizer", "data.corpus", ROWS)
            words.append(spelled(value) if plain else f"{short}={spelled(value)}")
        return " ".join(words)


def digest(identity: dict[str, Any]) -> str:
    """Eight hexadecimal digits of an identity."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def require_different(identities: dict[str, dict[str, Any]]) -> None:
    """Every axis changes the run: no two variants have one configuration.

    Args:
        identities: label -> the flat configuration that ``fit`` makes of it.

    Raises:
        UsageError: naming two labels that are the same run.
    """
    seen: dict[str, str] = {}
    for label, identity in identities.items():
        text = json.dumps(identity, sort_keys=True)
        if text in seen:
            raise UsageError(
                f"{seen[text]!r} and {label!r} are the same run: the value that "
                f"tells them apart changes nothing; leave it out of --vary"
            )
        seen[text] = label


def _as_options(key: str, value: Any) -> dict[str, Any]:
    sized = TOKENIZER.fullmatch(str(value)) if key == "data.tokenizer" else None
    if sized:
        return {key: sized[1], "data.tokenizer_size": int(sized[2])}
    return {key: value}


def _keys(overrides: dict[str, dict[str, Any]]) -> list[str]:
    return [key for options in overrides.values() for key in options]


def _distinct(what: str, values: Sequence[Any]) -> None:
    if not values:
        raise UsageError(f"{what}: nothing given")
    for value in values:
        if list(values).count(value) > 1:
            raise UsageError(f"{what}: {value} is given twice, which changes nothing")
