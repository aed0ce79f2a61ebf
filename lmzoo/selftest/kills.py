"""A run that is killed, and started again by the same command, is the same run."""

import itertools
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmzoo import files, runs
from lmzoo.report.words import plural
from lmzoo.selftest import stock
from lmzoo.selftest.forks import BEGIN, Ended, Fuse
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.sameness import ALL, differences
from lmzoo.selftest.stories import SIZES, STEPS, Recipe, Stage, spread
from lmzoo.selftest.typed import Typed

CLAIM = (
    "killed at any moment and started again by the same command, a run ends with the "
    "weights, optimizer, schedule, callbacks and curve of one that was not killed, "
    "to the bit"
)
STOPS = "--early_stopping.patience 2 --early_stopping.min_relative_improvement 0.9"
DDP = "--trainer.devices 2 --trainer.strategy ddp --model.bias false"
BF16 = "--trainer.precision bf16-mixed"
BETWEEN = Recipe("ff", 1, "--trainer.max_steps 20", "ff-ends-between-validations")
QUICK = (Recipe("gpt", 4), Recipe("lstm"), Recipe("ff", 4, BF16, "ff-4-bf16"))
RECIPES = (
    *QUICK,
    Recipe("gpt"),
    Recipe("lstm", 4),
    Recipe("ff"),
    Recipe("ff", 4),
    Recipe("gpt", 4, BF16, "gpt-4-bf16"),
    Recipe("lstm", 4, BF16, "lstm-4-bf16"),
    Recipe("gpt", 1, STOPS, "gpt-stops-early"),
    Recipe("lstm", 1, "--model.carry_state true", "lstm-carried"),
    BETWEEN,
)
EACH = [  # a checkpoint at every step, and gone on with from each
    Recipe("gpt", 4, "--checkpoints.every_n_steps 1", "gpt-4-each-step"),
    Recipe("lstm", 1, "--checkpoints.every_n_steps 1", "lstm-each-step"),
    Recipe("ff", 4, "--checkpoints.every_n_steps 1", "ff-4-each-step"),
]
IN_A_ROW = 3  # kills of one run, at most
TURNS = 4  # at a kill that comes too late, each sooner
CHECKPOINT, MANIFEST = "checkpoints/step-", "manifest.json"
STEP = "lmzoo.models.steps:TrainingSteps"
SAVING = "lmzoo.training.checkpoints:Checkpoints"
STOPPING = "lmzoo.training.early_stopping:EarlyStopping"
# of a run whose last step is saved, and measured, although no validation falls on it
LAST = Fuse(f"{STEP}.validation_step", 4)
POINTS = {
    "inside accumulation": Fuse(f"{STEP}.training_step", 31),
    "at validation": Fuse(f"{STEP}.validation_step", 2),
    "before a checkpoint has its name": Fuse("pathlib:Path.replace", 3, CHECKPOINT),
    "before the summary": Fuse("lmzoo.cli.report:finish", 1),
    "before the manifest has its name": Fuse("pathlib:Path.replace", 1, MANIFEST),
    "before the optimizer steps": Fuse(
        "lmzoo.models.member:Member.configure_gradient_clipping", 8
    ),
    "after validation is judged": Fuse(f"{STOPPING}.check", 2, after=True),
    "after a checkpoint has its name": Fuse(
        "pathlib:Path.replace", 3, CHECKPOINT, after=True
    ),
    "inside a step": Fuse(f"{STEP}.training_step", 9),
    "before the schedule steps": Fuse("torch.optim.lr_scheduler:LRScheduler.step", 14),
    "before validation is judged": Fuse(f"{STOPPING}.check", 2),
    "before the index is written": Fuse(f"{SAVING}.write_index", 2),
    "before an old checkpoint goes": Fuse("pathlib:Path.unlink", 1, CHECKPOINT),
    "after the last step": Fuse(f"{SAVING}.on_train_end", 1, after=True),
    "after the summary": Fuse("lmzoo.cli.terminal:show", 1),
    "before the run folder is made": Fuse("lmzoo.cli.folders:RunFolder.begin", 1),
    "before the text is noted": Fuse("pathlib:Path.replace", 1, runs.SPANS),
    "before the first step": Fuse(BEGIN, 1),
}


@dataclass
class Story:
    """One run and what becomes of it."""

    stage: Stage
    name: str
    fuse: Fuse | None = None
    shares: tuple[float, ...] = ()  # of what is left of it, at which it is killed
    step: int = 0  # it goes on from here, killed right after that save


@dataclass
class Tally:
    """Kills of one story that came in time, and what was wrong after them."""

    story: Story
    tried: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        """Of the run that was killed."""
        return self.story.stage.recipe.model

    def add(self, ended: Ended) -> bool:
        """Whether it was killed; what ends by itself must end well."""
        self.tried += ended.killed
        if ended.code and not ended.killed:
            of = f"{self.story.stage.recipe} {self.story.name}"
            self.wrong.append(f"{of}: exit {ended.code}: {ended.said}")
        return ended.killed


def check(folder: Path, effort: Effort) -> Outcome:
    """Kill small runs of gpt, lstm and ff, at random and at chosen moments."""
    started = time.perf_counter()
    recipes = QUICK if effort.quick else (*RECIPES, *EACH)
    stages = [Stage(recipe, folder / str(recipe)) for recipe in recipes]
    wrong = [line for line in spread(Stage.play, stages) if line]
    killed, resumed, typed = [], [], []
    if not wrong:
        killed = kill([s for s in stages if s.recipe not in EACH], effort)
        resumed = spread(tell, _resumed(stages, effort))
    if not wrong and not effort.quick:
        typed = spread(lambda recipe: _typed(recipe, folder), _as_typed())
    tallies = [*killed, *resumed, *typed]
    short = lacking(killed, effort)
    wrong += [line for tally in tallies for line in tally.wrong]
    wrong += [f"{m}: {n} kills too few came in time" for m, n in short.items()]
    noticed = bool(killed) and moved(stages[0])
    exact, points = stock.resumes(folder / "stock")
    tried = sum(tally.tried for tally in tallies)
    return Outcome(
        name="kills",
        claim=f"{CLAIM} ({_counts(killed, resumed, typed)})",
        tried=tried + sum(short.values()),
        held=tried - sum(bool(tally.wrong) for tally in tallies),
        control="a run that goes on one batch too far in the text: "
        + ("ends with other weights" if noticed else "is not told from the others"),
        control_failed=exact < points and noticed,
        details=wrong,
        seconds=time.perf_counter() - started,
        stock=f"{exact} of {points} resumed runs end the same",
    )


def lacking(killed: Sequence[Tally], effort: Effort) -> dict[str, int]:
    """Of each model, the kills that are still to be made; none where all are."""
    left = dict.fromkeys(SIZES, effort.kills // len(SIZES))
    for tally in killed:
        left[tally.model] -= tally.tried
    return {model: count for model, count in left.items() if count > 0}


def _counts(
    killed: Sequence[Tally], resumed: Sequence[Tally], typed: Sequence[Tally]
) -> str:
    """How many kills there were, of which model and of which kind."""
    of = dict.fromkeys(SIZES, 0)
    for tally in killed:
        of[tally.model] += tally.tried
    chosen = [tally for tally in killed if tally.story.fuse and tally.tried]
    said = ", ".join(f"{model} {count}" for model, count in of.items())
    said += (
        f": {sum(of.values()) - len(chosen)} at random moments, {len(chosen)} at "
        f"{plural(len({tally.story.fuse for tally in chosen}), 'chosen place')}"
    )
    if resumed:
        said += f"; gone on with from each of {len(resumed)} checkpoints"
    if typed:
        names = [f"{tally.story.stage.recipe} {tally.tried}" for tally in typed]
        said += f"; as typed, the process group killed: {', '.join(names)}"
        said += "" if _cores() > 1 else "; no two processes, for want of a second core"
    return said


# ---- stories -------------------------------------------------------------------------


def kill(stages: Sequence[Stage], effort: Effort) -> list[Tally]:
    """Of each model's kills half at chosen places, all others at random moments."""
    rng, half = random.Random(effort.kills), effort.kills // len(SIZES) // 2
    of = {m: [s for s in stages if s.recipe.model == m] for m in SIZES}
    first = [_chosen(of[model], half, turn * half) for turn, model in enumerate(SIZES)]
    first.append(_last(stages))
    tallies = spread(tell, list(itertools.chain(*first)))
    for turn in range(TURNS):  # a kill that comes too late is made up for
        left = lacking(tallies, effort)
        made = [_random(of[m], f"{turn}", left[m], rng) for m in left]
        tallies += spread(tell, list(itertools.chain(*made)))
    return tallies


def _chosen(stages: Sequence[Stage], count: int, first: int) -> Iterator[Story]:
    """The places in turn, each in the next recipe whose runs come there."""
    names = list(POINTS)
    for number in range(first, first + count):
        name, lap = names[number % len(names)], number // len(names)
        calls = POINTS[name].count
        there = [s for s in stages if calls <= STEPS * s.recipe.accumulate]
        stage = there[(number + lap) % len(there)] if there else stages[0]
        yield Story(stage, f"{number}-{name.replace(' ', '-')}", POINTS[name])


def _last(stages: Sequence[Stage]) -> Iterator[Story]:
    for stage in stages:
        if stage.recipe == BETWEEN:
            yield Story(stage, "in-the-last-validation", LAST)


def _random(
    stages: Sequence[Stage], turn: str, count: int, rng: random.Random
) -> Iterator[Story]:
    for number in range(-(-count // IN_A_ROW)):
        stage, row = stages[number % len(stages)], min(count, IN_A_ROW)
        shares = tuple(rng.random() for _ in range(row))
        yield Story(stage, f"random-{turn}-{number}", shares=shares)
        count -= row


def _resumed(stages: Sequence[Stage], effort: Effort) -> list[Story]:
    """Every checkpoint that was kept of a run."""
    return [
        Story(stage, f"from-{runs.step_of(file)}", step=runs.step_of(file))
        for stage in stages
        if stage.recipe in EACH or effort.full
        for file in runs.newest_first(stage.whole)
    ]


def tell(story: Story) -> Tally:
    """Let it happen, then let the same command bring the run to its end."""
    stage, name, tally = story.stage, story.name, Tally(story)
    if story.step:
        as_killed_at(stage, name, story.step)
        tally.tried = 1
    elif story.fuse is not None:
        tally.add(stage.run(name, story.fuse))
    for share in story.shares:
        for turn in range(TURNS):
            delay = share / 4**turn * stage.left(name)
            if tally.add(stage.run(name, delay=delay)):
                break
            tally.wrong += stage.finish(name)  # too late: it had ended
            name += "-"
    tally.wrong += stage.finish(name)
    return tally


def _as_typed() -> list[Recipe]:
    """One run of each model, and one of two processes where there are two cores."""
    each = [Recipe("gpt", 4), Recipe("lstm"), Recipe("ff", 4)]
    return [*each, Recipe("gpt", 4, DDP, "gpt-4-ddp")][: None if _cores() > 1 else -1]


def _typed(recipe: Recipe, folder: Path) -> Tally:
    """The command as it is typed, killed with all of its processes."""
    stage, rng = Typed(recipe, folder / "typed" / str(recipe)), random.Random(0)
    shares = tuple(rng.random() for _ in range(IN_A_ROW))
    if said := stage.play():
        return Tally(Story(stage, "whole"), wrong=[said])
    tally = tell(Story(stage, "killed", shares=shares))
    if tally.tried < IN_A_ROW:
        short = f"killed {tally.tried} of {IN_A_ROW} times"
        tally.wrong.append(f"{recipe}, as typed: {short}")
    return tally


def _cores() -> int:
    return os.cpu_count() or 1


def as_killed_at(stage: Stage, name: str, step: int) -> None:
    """A copy of the whole run as a kill after the save of ``step`` leaves it."""
    copy = stage.folder / name
    shutil.copytree(stage.whole, copy)
    for file in runs.newest_first(copy):
        if runs.step_of(file) > step:
            file.unlink()
    manifest = runs.read_manifest(copy)
    files.write_json(copy / "manifest.json", {**manifest, "status": "running"})
    for sample in (copy / "samples").glob("*.txt"):
        if runs.step_of(sample) > step:
            sample.unlink()
    (copy / "summary.json").unlink()


def moved(stage: Stage) -> bool:
    """The control: a run that goes on from a wrong place learns other weights."""
    name, weights = "moved", "checkpoint/state_dict/"
    shutil.rmtree(stage.folder / name, ignore_errors=True)
    as_killed_at(stage, name, 10)
    file = stage.folder / name / "checkpoints" / runs.checkpoint_name(10)
    content = runs.read_checkpoint(file)
    content["TextDataModule"]["position"] += 4
    runs.write_checkpoint(content, file)
    if stage.run(name).code:  # a crash is noticed too, and shows nothing
        return False
    unlike = differences(stage.whole, stage.folder / name, most=ALL)
    return any(
        line.startswith(weights) and line.endswith("tensors differ") for line in unlike
    )
