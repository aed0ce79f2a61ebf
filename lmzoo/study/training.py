"""Trains what a study lacks: each run is one ``lmzoo fit`` in its own process."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lmzoo import runs
from lmzoo.compare.jobs import Job, Outcome
from lmzoo.compare.local import Local
from lmzoo.errors import UsageError
from lmzoo.files import write_json
from lmzoo.study.recipe import Recipe

RECORD = "training.json"
Say = Callable[[str, str], None]  # what, and how long it took or why not


def train(
    recipe: Recipe,
    folder: Path,
    say: Say,
    *,
    plugins: Sequence[str] = (),
    parallel: int = 1,
) -> dict[str, Path]:
    """Train every run of a recipe that is not finished; a stopped one goes on.

    Args:
        recipe: what to train.
        folder: of the study; runs are in ``runs/NAME``.
        say: told of each run.
        plugins: files that register models.
        parallel: trainings at a time.

    Returns:
        Name of each run -> its folder.

    Raises:
        UsageError: the folder holds another study, or a training fails.
    """
    _require_same(recipe, folder)
    places = {name: folder / "runs" / name for name in recipe.runs()}
    threads = max(1, (os.cpu_count() or 1) // parallel)
    jobs = []
    for name, place in places.items():
        if finished(place):
            say(f"trained {name}", "kept")
            continue
        named = [f"--plugin={path}" for path in plugins]
        arguments = [*recipe.arguments(name), f"--trainer.default_root_dir={place}"]
        jobs.append(Job(name, ("fit", *named, *arguments), place, threads))
    if not jobs:
        return places
    failed: list[str] = []
    began = time.monotonic()

    def done(outcome: Outcome) -> None:
        took = f"{time.monotonic() - began:.1f} s"
        if outcome.code:
            failed.append(f"{outcome.name}: {outcome.reason}")
        say(f"trained {outcome.name}", "failed" if outcome.code else took)

    say(f"training {', '.join(job.name for job in jobs)}", "")
    Local(parallel).run(jobs, done)
    if failed:
        raise UsageError(f"training failed: {'; '.join(failed)}")
    return places


def finished(place: Path) -> bool:
    """Whether a run folder holds a training that ended."""
    if not (place / "manifest.json").is_file():
        return False
    return runs.read_manifest(place).get("status") == "finished"


def _require_same(recipe: Recipe, folder: Path) -> None:
    file = folder / RECORD
    wanted = {
        "runs": {name: recipe.arguments(name) for name in recipe.runs()},
        "texts": recipe.texts(),
    }
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read: {error}") from error
        if before != wanted:
            how = "otherwise"
            if isinstance(before, dict) and before.get("runs") == wanted["runs"]:
                how = "on other texts: a file has changed since"
            raise UsageError(
                f"{folder} holds a study whose models were trained {how}; choose "
                f"another --out, or leave it out"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--out {folder}: it holds something else; name a new folder")
    write_json(file, wanted)
