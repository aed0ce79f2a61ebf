"""What was typed for ``lmzoo compare``, and its YAML file, as a ``Comparison``.

The comparison's own options are few; every other one is an option of ``lmzoo fit``, and
goes to every cell. No torch here: a typing error is answered at once.
"""

import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmzoo.cli.arguments import pairs
from lmzoo.cli.configurations import load_yaml
from lmzoo.compare import plan
from lmzoo.compare.plan import Comparison
from lmzoo.compare.values import amount, budget, near, seeds
from lmzoo.errors import UsageError
from lmzoo.registry import load_plugin, models

OWN = (
    "models",
    "model",
    "seeds",
    "vary",
    "tokenizers",
    "corpora",
    *("overrides", plan.ROWS),
    "out",
    "parallel",
    "threads",
    "launcher",
    "plugin",
    "match.params",
    "tune.trials",
    "timing",
)
SECTIONS = ("overrides", plan.ROWS)  # of a file: a name, and options under it
LISTS = {"tokenizers": "data.tokenizer", "corpora": "data.corpus"}  # short for axes
FIT = (  # sections of fit
    "data",
    "model",
    "optimizer",
    "lr_scheduler",
    "trainer",
    "early_stopping",
    "freeze",
    "ema",
    "spike_guard",
    "checkpoints",
    "samples",
    "compile",
    "activation_checkpointing",
)
DEFAULT_SEEDS = "3"
MOST_AT_ONCE = 4  # cells by default: each holds a process of some hundred MB
ITEM = re.compile(r"(?:\[[^\[\]]*\]|[^,])+")  # of a list that may hold lists
RECORD = "comparison.json"  # in the folder: which comparison it holds


@dataclass
class Request:
    """A comparison, where it lives, and what its launcher was told."""

    comparison: Comparison
    out: Path | None
    launching: dict[str, str] = field(default_factory=dict)  # --launcher.KEY
    timing: bool = True  # time against length, after training


def read(argv: list[str]) -> Request:
    """Understand ``argv`` (without the command) and the file it names.

    Raises:
        UsageError: an unknown option, model or file, or a value that cannot be meant.
    """
    typed: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for key, value in pairs(argv):
        if not value:
            raise UsageError(f"--{key} needs a value; see lmzoo compare --help")
        if key == "config":
            files.update(_flat(load_yaml(value)))
        elif key == "vary":
            axis, equals, values = value.partition("=")
            if not equals:
                raise UsageError(f"--vary {value}: give KEY=VALUE,VALUE")
            typed.setdefault("vary", {})[axis] = [_value(v) for v in _items(values)]
        elif key == "plugin":
            typed.setdefault("plugin", []).append(value)
        elif (section := key.partition(".")[0]) in SECTIONS:
            raise UsageError(f"--{key}: {section} stand in a file, --config FILE.yaml")
        else:
            typed[key] = value if key in OWN else _value(value)
    return _request(_stronger(files, typed))


def _stronger(files: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
    """What is typed replaces what the file says of the same thing."""
    groups = (("model", "models"), ("data.corpus", "data.path", "corpora"))
    groups += (("data.tokenizer", "tokenizers"),)
    kept = dict(files)
    for group in groups:
        if any(key in typed for key in group):
            kept = {key: value for key, value in kept.items() if key not in group}
    if any(key.startswith("budget.") for key in typed):
        kept = {k: v for k, v in kept.items() if not k.startswith("budget.")}
    varied = typed.get("vary", {})
    filed = {k: v for k, v in kept.pop("vary", {}).items() if k not in typed}
    kept = {key: value for key, value in kept.items() if key not in varied}
    return {**kept, **typed, "vary": {**filed, **varied}}


def _threads(share: int) -> int:
    """Of each cell: its share of the cores, fewer where OMP_NUM_THREADS says so."""
    wished = os.environ.get("OMP_NUM_THREADS", "")
    most = int(wished) if wished.isdecimal() and int(wished) else share
    return max(1, min(share, most))


def _request(given: dict[str, Any]) -> Request:
    _require_known(given)
    plugins = tuple(str(path) for path in _listed(given.get("plugin", [])))
    for path in plugins:
        load_plugin(path)
    names = _models(given)
    for name in names:
        models.entry(name)  # a mistyped one is said now
    comparison = Comparison(
        models=names,
        seeds=_seeds(given.get("seeds", DEFAULT_SEEDS)),
        budget=_budget(given),
        options={k: v for k, v in given.items() if _is_fit(k) and v is not None},
        axes=_axes(given),
        rows=_sections(plan.ROWS, "row", given.get(plan.ROWS) or {}),
        overrides=_sections("overrides", "model", given.get("overrides") or {}),
        plugins=plugins,
        launcher=str(given.get("launcher", "local")),
        match=_params(given.get("match.params")),
        trials=_trials(given.get("tune.trials")),
    )
    launching = {
        key.removeprefix("launcher."): str(value)
        for key, value in given.items()
        if key.startswith("launcher.")
    }
    out = given.get("out")
    timing = _switch("timing", given.get("timing", True))
    parallel, threads = _shares(given, comparison.launcher)
    comparison = replace(comparison, parallel=parallel, threads=threads)
    return Request(comparison, Path(str(out)) if out else None, launching, timing)


def _shares(given: dict[str, Any], launcher: str) -> tuple[int, int]:
    """Cells at a time, and threads of each.

    Raises:
        UsageError: together more than this machine has cores.
    """
    cores = os.cpu_count() or 1
    parallel = _at_once(given, launcher)
    threads = _whole("threads", given.get("threads", _threads(cores // parallel)))
    if launcher == "local" and parallel * threads > cores:
        raise UsageError(
            f"--parallel {parallel} with {threads} threads each: this machine has "
            f"{cores} cores, so cells would take each other's time; give less"
        )
    return parallel, threads


def _at_once(given: dict[str, Any], launcher: str) -> int:
    """Cells side by side: on a small model a core does more alone than with others."""
    if "parallel" in given:
        return _whole("parallel", given["parallel"])
    if launcher != "local":
        return 1
    if str(given.get("trainer.accelerator", "auto")) != "cpu":
        import torch  # last: after a typing error had its answer

        if torch.accelerator.is_available():
            return 1
    threads = _whole("threads", given.get("threads", 1))
    return max(1, min(MOST_AT_ONCE, (os.cpu_count() or 1) // threads))


def _require_known(given: dict[str, Any]) -> None:
    budgets = [f"budget.{kind}" for kind in plan.BUDGETS]
    known = [*OWN, *budgets, *(f"{section}." for section in FIT), "config"]
    for key in given:
        if key in OWN or key in budgets or _is_fit(key) or key in plan.DECIDED:
            continue
        if key.startswith("launcher."):
            continue
        raise UsageError(
            f"unknown option --{key}; lmzoo compare --help lists them{near(key, known)}"
        )


def _is_fit(key: str) -> bool:
    """Whether an option is one of fit's that all cells get."""
    head, dot, _ = key.partition(".")
    if key in plan.DECIDED:
        return True  # the comparison refuses it, and says what to give
    return head in FIT and (bool(dot) or head not in ("data", "model", "trainer"))


def _models(given: dict[str, Any]) -> tuple[str, ...]:
    if given.get("model") and given.get("models"):
        raise UsageError("--model and --models: give one of them")
    names = _listed(given.get("models") or given.get("model") or [])
    if not names:
        raise UsageError(
            "nothing to compare: --models NAME,NAME, or --model NAME with --vary"
        )
    return tuple(str(name) for name in names)


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, list):
        value = ",".join(map(str, value)) + ","
    return seeds(str(value))


def _params(value: Any) -> int | None:
    return None if value is None else int(amount("match.params", value))


def _trials(value: Any) -> int:
    if value is None:
        return 0
    return _whole("tune.trials", value)


def _budget(given: dict[str, Any]) -> tuple[str, float]:
    asked = [key for key in given if key.startswith("budget.")]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]}: give one budget")
    if not asked:
        raise UsageError(
            "how long may each cell train? --budget.seconds N, .steps N or .tokens N"
        )
    return budget(asked[0].removeprefix("budget."), given[asked[0]])


def _axes(given: dict[str, Any]) -> dict[str, list[Any]]:
    axes = {key: _listed(given[name]) for name, key in LISTS.items() if name in given}
    for name, key in LISTS.items():
        if name in given and not axes[key]:
            raise UsageError(f"{name}: nothing is listed; name some, or leave it out")
    if given.get(plan.ROWS):
        axes[plan.ROWS] = list(map(str, given[plan.ROWS]))
    for key, values in (given.get("vary") or {}).items():
        if key in axes:
            raise UsageError(f"--vary {key}: it is varied twice")
        if not _is_fit(key):
            known = [f"{section}." for section in FIT]
            raise UsageError(
                f"--vary {key}: no option of fit{near(key, known)}; axes are as "
                f"model.num_layers, data.tokenizer, optimizer.lr"
            )
        axes[key] = values if isinstance(values, list) else [values]
    return axes


def _sections(section: str, noun: str, given: Any) -> dict[str, dict[str, Any]]:
    """Name -> options of fit, of a part of a file."""
    if not isinstance(given, dict):
        raise UsageError(f"{section}: give a section for each {noun}")
    made = {}
    for name, options in given.items():
        if not isinstance(options, dict):
            raise UsageError(f"{section}: {name}: give options, as optimizer.lr: 2e-3")
        made[str(name)] = _flat(options)
        for key in made[str(name)]:
            if not _is_fit(key):
                raise UsageError(f"{section}: {name}: {key} is no option of fit")
    return made


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; ``vary`` and ``SECTIONS`` stay as they are."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        key = f"{prefix}{name}"
        if key == "vary":
            if not isinstance(value or {}, dict):
                raise UsageError("vary: give KEY: [VALUE, VALUE] for each axis")
            flat[key] = {k: _listed(v) for k, v in _flat(value or {}).items()}
        elif isinstance(value, dict) and key not in SECTIONS:
            flat.update(_flat(value, f"{key}."))
        else:
            flat[key] = value
    return flat


def _listed(value: Any) -> list[Any]:
    if value is None or isinstance(value, list):
        return value or []
    return _words(value) if isinstance(value, str) else [value]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _items(text: str) -> list[str]:
    """What commas part, but for those inside brackets: ``[0.9,0.95],[0.9,0.99]``."""
    return [item.strip() for item in ITEM.findall(text) if item.strip()]


def _value(text: str) -> Any:
    """A number, a truth value or a list where the text is one in JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _switch(key: str, value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise UsageError(f"--{key} {value}: give true or false")
    return text == "true"


def _whole(key: str, value: Any) -> int:
    text = str(value)
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise UsageError(f"--{key} {value}: give 1 or more")
    return int(text)
