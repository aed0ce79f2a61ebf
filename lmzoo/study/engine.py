"""Runs a study: trains what is missing, looks, keeps what was found, writes the report.

Stopped at any moment and started again it goes on: runs by ``lmzoo fit``, findings by
their keys.
"""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmzoo.analysis.history import History
from lmzoo.errors import UsageError
from lmzoo.registry import probes
from lmzoo.report.finding import Finding
from lmzoo.study import cache, steps
from lmzoo.study.recipe import Recipe
from lmzoo.study.steps import OWN, Step
from lmzoo.study.training import train

Begin = Callable[[str], None]
End = Callable[[str], None]


@dataclass
class Study:
    """What a study has found so far.

    Attributes:
        found: (section, step) and its finding, in the lab's order.
        refused: step name -> why it could not be done, one line.
        places: name of each run -> its folder.
        done: steps that ran now; the others were kept.
        seconds: all of it took, this time.
    """

    recipe: Recipe
    folder: Path
    found: list[tuple[Step, Finding]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, section: str) -> list[tuple[Step, Finding]]:
        """What a section found."""
        return [pair for pair in self.found if pair[0].section == section]


def conduct(
    recipe: Recipe,
    folder: Path,
    begin: Begin,
    end: End,
    *,
    plugins: Sequence[str] = (),
    parallel: int = 1,
) -> Study:
    """Train and look.

    Args:
        recipe: the study.
        folder: where it lives.
        begin: told what is running.
        end: told how long that took, or that it was kept, or why it could not be.
        plugins: files that register models.
        parallel: trainings at a time.

    Raises:
        UsageError: the folder holds another study, or a training fails.
    """
    began = time.monotonic()

    def say(what: str, took: str) -> None:
        begin(what)
        end(took)

    study = Study(recipe, folder)
    study.places = train(recipe, folder, say, plugins=plugins, parallel=parallel)
    opened: dict[str, History] = {}
    for step in steps.steps(recipe, study.places, folder):
        _take(study, step, opened, begin, end)
    for step in steps.attributions(recipe, study.places, folder):
        _take(study, step, opened, begin, end)
    order = list(steps.SECTIONS)
    study.found.sort(key=lambda pair: order.index(pair[0].section))
    study.seconds = time.monotonic() - began
    return study


def _take(
    study: Study, step: Step, opened: dict[str, History], begin: Begin, end: End
) -> None:
    """One step: what was found before, or found now; a refusal is noted."""
    begin(f"{step.section:<5}{step.name}")
    kept = study.folder / "findings"
    started = time.monotonic()
    if found := cache.read(kept, step):
        study.found.append((step, found))
        end("kept")
        return
    try:
        found = step.run(_subject(step, opened))
    except UsageError as error:
        study.refused[step.name] = " ".join(str(error).split())
        end(f"not possible: {study.refused[step.name]}")
        return
    study.found.append((step, cache.write(kept, step, found)))
    study.done.append(step.name)
    end(f"{time.monotonic() - started:.1f} s")


def _subject(step: Step, opened: dict[str, History]) -> Any:
    """The open run where a probe takes one, so that a checkpoint is read once."""
    if not isinstance(step.subject, str):
        return step.subject
    function = OWN[step.probe] if step.probe in OWN else probes.load(step.probe)
    first = next(iter(inspect.signature(function).parameters.values()))
    if "History" not in str(first.annotation):
        return step.subject
    if step.subject not in opened:
        opened[step.subject] = History(step.subject)
    return opened[step.subject]
