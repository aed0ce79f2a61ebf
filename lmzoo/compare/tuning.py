"""Learning-rate fairness: the same small search for every architecture.

The rule, the same for all: a quarter of a cell's budget goes to the search, in equal
parts to its N trials, and the cell has the other three quarters. The first trial is at
the recipe's own rate; the others are drawn by Optuna's TPE sampler (Bergstra et al.
2011) between a tenth and ten times of it, on a logarithmic scale. Every trial has the
same seed. What is chosen is the rate with the fewest bits per character; a rate that
suits a short run need not be the best for a longer one, which the report should say.

Each trial's sampler is seeded by (seed, number of the trial) and the trials are kept in
a journal, so a search that was interrupted goes on, and ends as if it had not been.
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmzoo.compare.jobs import Job, Launcher, Outcome
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel

SHARE = 0.25  # of a cell's budget, for all trials of one architecture together
REACH = 10.0  # the range is from a REACH-th of the recipe's rate to REACH times it
JOURNAL = "tuning.jsonl"

MakeJob = Callable[[str, str, float, Path], Job]
Row = dict[str, Any]


@dataclass
class Tuned:
    """What a search found, in the form that results.json has it.

    Attributes:
        trials: of each architecture.
        sweeps: label -> a row per trial: "lr", "bits_per_char" (None: it failed) and,
            where it failed, "reason".
        chosen: label -> {"optimizer.lr": rate}; empty where every trial failed.
    """

    trials: int
    sweeps: dict[str, list[Row]] = field(default_factory=dict)
    chosen: dict[str, dict[str, float]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For results.json, the rule included."""
        return {
            "trials": self.trials,
            "share": SHARE,
            "reach": REACH,
            "sweeps": self.sweeps,
            "chosen": self.chosen,
        }


def divide(kind: str, amount: float, trials: int) -> tuple[float, float]:
    """A cell's budget as (what one trial gets, what is left for the cell itself).

    Steps and tokens are whole, rounded down: together never more than the budget.

    Raises:
        UsageError: too many trials for any of them to get a step.
    """
    each, rest = amount * SHARE / trials, amount * (1 - SHARE)
    if kind not in ("steps", "tokens"):
        return each, rest
    if each < 1:
        raise UsageError(
            f"--tune.trials {trials}: a quarter of {amount:,} {kind} is less than 1 "
            f"for each; give fewer, or --budget.{kind} {math.ceil(trials / SHARE)}"
        )
    return int(each), int(rest)


def recipe_rate(cls: type[LanguageModel]) -> float | None:
    """The learning rate that a model's own recipe has; None where nothing is tuned."""
    if cls.counting or cls.exhibit:
        return None
    return float(cls.recipe.get("optimizer.lr", 1e-3))


def require_optuna() -> None:
    """Refuse a search where its library is missing.

    Raises:
        UsageError: how to install it.
    """
    try:
        import optuna  # noqa: F401  # optional: the tune extra
    except ImportError as error:
        raise UsageError(
            "--tune.trials needs Optuna: pip install 'lmzoo[tune]'"
        ) from error


def tune(
    rates: Mapping[str, float],
    trials: int,
    job: MakeJob,
    launcher: Launcher,
    folder: Path,
    *,
    seed: int = 1337,
    quality: Callable[[Path], float | None] | None = None,
) -> Tuned:
    """Search a learning rate for every architecture.

    The architectures take their trials in turns: round k runs trial k of each of them
    through the launcher, which may run them side by side.

    Args:
        rates: label of each architecture -> its recipe's rate (``recipe_rate``).
        trials: for each of them.
        job: (label, name of the job, rate, run folder) -> the ``fit`` to run, with a
            trial's share of the budget (``divide``).
        launcher: runs the jobs.
        folder: of the comparison; the search lives in ``tuning`` in it.
        seed: of the sampler.
        quality: reads the bits per character of a finished run folder; None: the best
            validation of its summary.json.

    Raises:
        UsageError: fewer than 1 trial, or no Optuna.
    """
    if trials < 1:
        raise UsageError(f"--tune.trials {trials}: give 1 or more")
    folder = folder / "tuning"
    studies = _studies(rates, folder)
    for number in range(trials):
        jobs: list[Job] = []
        owner: dict[str, str] = {}
        for label, rate in rates.items():
            trial = _trial(studies[label], number, rate, seed)
            if trial is not None:
                name = f"{label}-trial-{number}"
                owner[name] = label
                jobs.append(job(label, name, trial.params["lr"], folder / name))

        def done(outcome: Outcome, number: int = number, owner: Any = owner) -> None:
            run = folder / outcome.name
            found = (quality or best_bits)(run) if outcome.code == 0 else None
            _tell(studies[owner[outcome.name]], number, found, outcome.reason)

        if jobs:
            launcher.run(jobs, done)
    return _result(studies, trials)


def best_bits(run: Path) -> float | None:
    """Bits per character of the best validation of a finished run."""
    try:
        summary = json.loads((run / "summary.json").read_text("utf-8"))
        found = summary["best"]["metrics"]["bits_per_char"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(found)


# ---- Optuna --------------------------------------------------------------------------


def _studies(rates: Mapping[str, float], folder: Path) -> dict[str, Any]:
    """One study per architecture, all in one journal; begun or gone on with."""
    require_optuna()
    import optuna  # optional: extra tune
    from optuna.storages.journal import JournalFileBackend  # optional: extra tune

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    journal = JournalFileBackend(str(folder / JOURNAL))
    storage = optuna.storages.JournalStorage(journal)
    return {
        label: optuna.create_study(
            study_name=f"{label} around {rate:g}", storage=storage, load_if_exists=True
        )
        for label, rate in rates.items()
    }


def _trial(study: Any, number: int, rate: float, seed: int) -> Any | None:
    """Trial ``number``: asked for, or begun before; None where it is over."""
    import optuna  # optional: extra tune

    known = study.get_trials(deepcopy=False)
    if number < len(known):
        trial = known[number]
        begun = not trial.state.is_finished()
        if begun and "lr" in trial.params:
            return trial
        if not begun:
            return None
    elif number == 0:
        study.enqueue_trial({"lr": rate})
    study.sampler = optuna.samplers.TPESampler(
        seed=(seed * 1_000_003 + number) % 2**32, n_startup_trials=4
    )
    trial = study.ask()
    trial.suggest_float("lr", rate / REACH, rate * REACH, log=True)
    return trial


def _tell(study: Any, number: int, found: float | None, reason: str) -> None:
    """Keep what a trial gave; a loss that is not finite is a failure."""
    import optuna  # optional: extra tune

    if found is not None and math.isfinite(found):
        study.tell(number, found)
        return
    said = reason or "no finite validation loss"
    trial = study.get_trials(deepcopy=False)[number]
    study._storage.set_trial_user_attr(trial._trial_id, "reason", said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.tell(number, state=optuna.trial.TrialState.FAIL)


def _result(studies: dict[str, Any], trials: int) -> Tuned:
    tuned = Tuned(trials)
    for label, study in studies.items():
        rows: list[Row] = []
        for trial in study.get_trials(deepcopy=False)[:trials]:
            row = {"lr": trial.params["lr"], "bits_per_char": trial.value}
            if trial.value is None:
                row["reason"] = trial.user_attrs.get("reason", "")
            rows.append(row)
        done = [row for row in rows if row["bits_per_char"] is not None]
        best = min(done, key=lambda row: row["bits_per_char"], default=None)
        tuned.sweeps[label] = rows
        tuned.chosen[label] = {"optimizer.lr": best["lr"]} if best else {}
    return tuned
