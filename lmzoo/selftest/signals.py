"""A signal finishes the optimizer step and saves; a second one stops at once."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lmzoo import runs
from lmzoo.selftest import stock
from lmzoo.selftest.forks import Fuse
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.stories import Recipe, Stage, spread

CLAIM = (
    "SIGINT, SIGTERM, a closed terminal and SLURM's requeue signal finish the "
    "optimizer step, save and exit with 128 + the signal, another one stops at once; "
    "so does the first in the closing passes; the same command then ends with the same "
    "bits"
)
STEP = "lmzoo.models.steps:TrainingSteps"
# where the signal comes, and the step then saved: of four micro-batches to a step, and
# 20 steps, the last of which is measured although no validation falls on it
PLACES = {
    "inside accumulation": (Fuse(f"{STEP}.training_step", 30), 8),
    "at validation": (Fuse(f"{STEP}.validation_step", 2), 12),
    "inside a step": (Fuse(f"{STEP}.training_step", 9), 3),
    "before the optimizer steps": (
        Fuse("lmzoo.models.member:Member.configure_gradient_clipping", 7),
        7,
    ),
    "amid a save": (Fuse("pathlib:Path.replace", 3, "checkpoints/step-"), 11),
    "in the last validation": (Fuse(f"{STEP}.validation_step", 4), 20),
    "in the test pass": (Fuse(f"{STEP}.test_step", 1), 20),
}
JOB = "77"
SCONTROL = '#!/bin/sh\necho "$@" >> "{said}"\n'


@dataclass
class Case:
    """One signal, or two, and what must come of it.

    The same one twice is one.
    """

    name: str
    numbers: tuple[int, ...]
    place: str
    slurm: bool = False


def check(folder: Path, effort: Effort) -> Outcome:
    """Send signals to small runs at chosen places, then let them go on."""
    started = time.perf_counter()
    stage = Stage(Recipe("gpt", 4, "--trainer.max_steps 20"), folder / "runs")
    said = stage.play()
    cases = list(_cases(effort))
    found = [] if said else spread(lambda case: tell(stage, case), cases)
    exact, tried, codes = stock.signals(folder / "stock")
    return Outcome(
        name="signals",
        claim=CLAIM,
        tried=len(cases),
        held=sum(not wrong for wrong in found),
        control="stock Lightning with save_on_exception, as beside",
        control_failed=exact < tried,
        details=[line for wrong in found for line in wrong] + [said] * bool(said),
        seconds=time.perf_counter() - started,
        stock=f"{exact} of {tried} end the same; exit codes "
        + ", ".join(map(str, codes)),
    )


def _cases(effort: Effort) -> list[Case]:
    places = list(PLACES)[: 1 if effort.quick else None]
    made = [
        Case(f"{signal.Signals(number).name} {place}", (number,), place)
        for number in (signal.SIGINT, signal.SIGTERM)
        for place in places
    ]
    first = places[0]
    made.append(Case("two", (signal.SIGINT, signal.SIGTERM), first))
    made.append(Case("SIGUSR1 in SLURM", (signal.SIGUSR1,), first, slurm=True))
    if not effort.quick:
        made.append(Case("SIGHUP", (signal.SIGHUP,), first))
        made.append(Case("SIGHUP twice", (signal.SIGHUP, signal.SIGHUP), first))
        ended = list(PLACES)[-1]
        made.append(Case("SLURM at the end", (signal.SIGUSR1,), ended, slurm=True))
    return made


def tell(stage: Stage, case: Case) -> list[str]:
    """Send it, look at how the run ended, let the same command end it."""
    name = case.name.replace(" ", "-")
    fuse, step = PLACES[case.place]
    fuses = [
        Fuse(fuse.place, fuse.count + later, fuse.naming, number=number)
        for later, number in enumerate(case.numbers)
    ]
    prepare: Callable[[], None] | None = None
    if case.slurm:
        prepare = partial(_in_slurm, stage.folder / f"{name}-bin")
    ended = stage.run(name, *fuses, prepare=prepare)
    wrong, number, single = [], case.numbers[-1], len({*case.numbers}) == 1
    if ended.code != 128 + number:
        wrong.append(f"{case.name}: exit {ended.code}, not {128 + number}")
    kept = runs.newest_first(stage.folder / name)
    saved = runs.step_of(kept[0]) if kept else 0
    if not single and saved >= step:
        wrong.append(f"{case.name}: the step was finished, which takes time")
    if single and saved != step:
        wrong.append(f"{case.name}: saved at step {saved}, not {step}")
    if single and f"goes on after step {step:,}" not in ended.said:
        wrong.append(f"{case.name}: not said where it stands: {ended.said}")
    if case.slurm and _asked(stage.folder / f"{name}-bin") != f"requeue {JOB}":
        wrong.append(f"{case.name}: the job was not put back into the queue")
    return wrong + stage.finish(name)


def _in_slurm(folder: Path) -> None:
    """In this process, as a task of a SLURM job, with a ``scontrol`` that notes."""
    folder.mkdir()
    script = folder / "scontrol"
    script.write_text(SCONTROL.format(said=folder / "said"), encoding="utf-8")
    script.chmod(0o755)
    os.environ.update(
        PATH=f"{folder}{os.pathsep}{os.environ['PATH']}",
        SLURM_NTASKS="1",
        SLURM_JOB_NAME="lmzoo",
        SLURM_JOB_ID=JOB,
        SLURM_PROCID="0",
        SLURM_LOCALID="0",
        SLURM_NODEID="0",
        SLURM_NODELIST="here",
    )


def _asked(folder: Path) -> str:
    said = folder / "said"
    return said.read_text(encoding="utf-8").strip() if said.is_file() else ""
