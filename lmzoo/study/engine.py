"""Runs a study: trains what is missing, looks, keeps what was found, writes the report.

Stopped at any moment and started again it goes on: runs by ``lmzoo fit``, findings by
their keys.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmzoo.analysis.history import History
from lmzoo.errors import UsageError
from lmzoo.report.finding import Finding
from lmzoo.study import cache, steps
from lmzoo.study.options import check, extra_probes
from lmzoo.study.recipe import Recipe
from lmzoo.study.steps import Open, Step
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
        UsageError: an option that nothing reads, the folder holds another study, or a
            training fails.
    """
    check(recipe)
    began = time.monotonic()

    def say(what: str, took: str) -> None:
        begin(what)
        end(took)

    study = Study(recipe, folder)
    study.places = train(recipe, folder, say, plugins=plugins, parallel=parallel)
    histories: dict[str, History] = {}

    def opened(path: str | Path) -> History:
        if str(path) not in histories:
            histories[str(path)] = History(path)
        return histories[str(path)]

    for step in steps.steps(recipe, study.places, folder):
        _take(study, step, opened, begin, end)
    last, missing = steps.attributions(recipe, study.places, folder, opened)
    for step in last:
        _take(study, step, opened, begin, end)
    study.refused |= missing
    order = list(steps.SECTIONS)
    study.found.sort(key=lambda pair: order.index(pair[0].section))
    study.seconds = time.monotonic() - began
    return study


def _take(study: Study, step: Step, opened: Open, begin: Begin, end: End) -> None:
    """One step: what was found before, or found now; a refusal is noted."""
    begin(f"{step.section:<5}{step.name}")
    folder = study.folder / "findings"
    started = time.monotonic()
    if kept := cache.read(folder, step):
        study.found.append((step, kept))
        end("kept")
        return
    try:
        found = cache.write(folder, step, step.run(opened))
        study.found.append((step, found))
        study.done.append(step.name)
    except UsageError as error:
        study.refused[step.name] = " ".join(str(error).split())
    except Exception as error:
        if step.probe not in extra_probes():
            raise
        # somebody's probe may fail in any way; the others are still worth their time
        why = " ".join(f"{type(error).__name__}: {error}".split())
        study.refused[step.name] = f"the probe {step.probe} failed: {why}"
    if step.name in study.refused:
        end(f"not possible: {study.refused[step.name]}")
    else:
        end(f"{time.monotonic() - started:.1f} s")
