"""Sizes that give every model the same number of parameters, and tuned learning rates.

Both are options of single models that nobody typed; they are found before the cells
train, the sizes from the vocabulary alone, the rates by training inside the budget.
"""

import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmzoo.cli.compare_rehearsal import rehearse
from lmzoo.compare.jobs import Job, Launcher
from lmzoo.compare.matching import match, unmatched
from lmzoo.compare.plan import Cell, Comparison
from lmzoo.compare.tuning import (
    MakeJob,
    Tuned,
    divide,
    recipe_rate,
    require_optuna,
    tune,
)
from lmzoo.errors import UsageError
from lmzoo.registry import models

Found = dict[str, dict[str, Any]]  # model -> options of fit


def sized(comparison: Comparison) -> Comparison:
    """With the sizes that give each model ``comparison.match`` parameters.

    Raises:
        UsageError: a model that names no sizes or cannot come within 2 % of them, or
            none that can be sized.
    """
    if comparison.trials:  # before anything is written
        divide(*comparison.budget, comparison.trials)
        require_optuna()
    if comparison.match is None:
        return comparison
    found: Found = {}
    for variant in comparison.variants():
        cls = models.load(variant.model)
        if said := unmatched(cls, variant.model):
            if not (cls.counting or cls.exhibit):
                raise UsageError(f"--match.params: {said}")
            print(said, file=sys.stderr)
            continue
        given = {
            key.removeprefix("model."): value
            for key, value in variant.options.items()
            if key.startswith("model.")
        }
        text = rehearse(comparison, variant).text
        vocabulary = text["tokenizer"]["vocab_size"]
        sizes = match(variant.model, comparison.match, given, vocabulary)
        found[variant.model] = {f"model.{key}": size for key, size in sizes.items()}
    if not found:
        raise UsageError(
            "--match.params: none of the models can be sized; leave it out"
        )
    return comparison.completed(found)


def tuned(
    comparison: Comparison,
    folder: Path,
    launcher: Launcher,
    excluded: Collection[str] = (),
) -> tuple[Comparison, Tuned]:
    """With the learning rates that a search found, and what is left of the budget.

    Every architecture gets the same number of trials and the same share of the budget.
    Labels that are ``excluded`` get none: nothing of them trains.
    """
    (kind, amount), trials = comparison.budget, comparison.trials
    each, rest = divide(kind, amount, trials)
    trained = [v for v in comparison.variants() if v.label not in excluded]
    rates = {
        model: rate
        for model in dict.fromkeys(variant.model for variant in trained)
        if (rate := recipe_rate(models.load(model))) is not None
    }
    comparison = replace(comparison, trials=0)  # found here: the rates are given now
    trial = replace(comparison, budget=(kind, each))
    result = tune(
        rates,
        trials,
        _maker(trial, excluded),
        launcher,
        folder,
        seed=comparison.seeds[0],
    )
    left = replace(comparison, budget=(kind, rest))
    return left.completed(dict(result.chosen)), result


def _maker(comparison: Comparison, excluded: Collection[str]) -> MakeJob:
    """A trial: the model's first variant, the first seed, the rate in question."""

    def job(label: str, name: str, rate: float, run: Path) -> Job:
        one = comparison.completed({label: {"optimizer.lr": rate}})
        own = [v for v in one.variants() if v.model == label]
        variant = next(v for v in own if v.label not in excluded)
        cell = Cell(name, variant, comparison.seeds[0])
        argv = [*cell.argv(run.parent, comparison.plugins)[:-1]]
        argv.append(f"--trainer.default_root_dir={run}")
        return Job(name, tuple(argv), run, comparison.threads)

    return job
