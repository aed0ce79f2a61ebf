"""A run that is killed, and started again by the same command, is the same run."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmzoo import files, runs
from lmzoo.selftest import stock
from lmzoo.selftest.forks import Fuse
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.stories import SIZES, Recipe, Stage, spread
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
CHECKPOINT, STEP = "checkpoints/step-", "lmzoo.models.steps:TrainingSteps"
SAVING = "lmzoo.training.checkpoints:Checkpoints"
STOPPING = "lmzoo.training.early_stopping:EarlyStopping"
# of a run whose last step is saved, and measured, although no validation falls on it
LAST = Fuse(f"{STEP}.validation_step", 4)
POINTS = {
    "inside accumulation": Fuse(f"{STEP}.training_step", 31),
    "at validation": Fuse(f"{STEP}.validation_step", 2),
    "before a checkpoint has its name": Fuse("pathlib:Path.replace", 3, CHECKPOINT),
    "before the summary": Fuse("lmzoo.cli.report:finish", 1),
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
}


@dataclass
class Tally:
    """Kills that were tried, of which model, and what was wrong after them."""

    tried: int
    wrong: list[str]
    model: str = ""


def check(folder: Path, effort: Effort) -> Outcome:
    """Kill small runs of gpt, lstm and ff, at random and at chosen moments."""
    started = time.perf_counter()
    recipes = QUICK
    if not effort.quick:
        recipes = (*RECIPES, *EACH[: None if effort.full else 1])
    stages = [Stage(recipe, folder / str(recipe)) for recipe in recipes]
    wrong = [line for line in spread(Stage.play, stages) if line]
    tallies = [] if wrong else spread(tell, list(_stories(stages, effort)))
    if tallies and not effort.quick:
        tallies += _typed(folder / "typed", effort)
    wrong += [line for tally in tallies for line in tally.wrong]
    broken = sum(bool(tally.wrong) for tally in tallies)
    models = {model: 0 for model in SIZES}
    for tally in tallies:
        models[tally.model] += tally.tried
    noticed = bool(tallies) and moved(stages[0])
    exact, points = stock.resumes(folder / "stock")
    return Outcome(
        name="kills",
        claim=f"{CLAIM} ({', '.join(f'{m} {count}' for m, count in models.items())})",
        tried=sum(models.values()),
        held=sum(models.values()) - broken if tallies else -1,
        control="a run that goes on one batch too far in the text: "
        f"{'ends otherwise' if noticed else 'ends the same'}",
        control_failed=exact < points and noticed,
        details=wrong,
        seconds=time.perf_counter() - started,
        stock=f"{exact} of {points} resumed runs end the same",
    )


# ---- stories -------------------------------------------------------------------------


@dataclass
class Story:
    """One run and what becomes of it."""

    stage: Stage
    name: str
    fuse: Fuse | None = None
    shares: tuple[float, ...] = ()  # of what is left of it, at which it is killed
    step: int = 0  # it goes on from here, killed right after that save


def _stories(stages: list[Stage], effort: Effort) -> Iterator[Story]:
    """A third of the kills at random moments, the rest at chosen ones."""
    rng = random.Random(effort.kills)
    chosen = 2 * effort.kills // 3
    names = list(POINTS)
    models = [[s for s in stages if s.recipe.model == model] for model in SIZES]

    def turn(number: int) -> Stage:  # as many for each model, its recipes in turn
        of_model = models[number % len(models)]
        return of_model[number // len(models) % len(of_model)]

    for number in range(chosen):
        name = names[(number + number // len(names)) % len(names)]
        stage = turn(number)
        yield Story(stage, f"{number}-{name.replace(' ', '-')}", POINTS[name])
    left, number = effort.kills - chosen, 0
    while left:
        stage, count = turn(number), min(left, IN_A_ROW)
        shares = tuple(rng.random() for _ in range(count))
        yield Story(stage, f"random-{number}", shares=shares)
        left, number = left - count, number + 1
    for stage in stages:
        if stage.recipe == BETWEEN:
            yield Story(stage, "in-the-last-validation", LAST)
        if stage.recipe in EACH or effort.full:
            for file in runs.newest_first(stage.whole):
                step = runs.step_of(file)
                yield Story(stage, f"from-{step}", step=step)


def tell(story: Story) -> Tally:
    """Let it happen, then let the same command bring the run to its end."""
    stage, name, model = story.stage, story.name, story.stage.recipe.model
    if story.step:
        as_killed_at(stage, name, story.step)
        return Tally(1, stage.finish(name), model)
    if story.fuse is not None:
        killed = stage.run(name, story.fuse).killed  # not every recipe comes there
        return Tally(int(killed), stage.finish(name), model)
    tally = Tally(0, [], model)
    for number in range(2 * len(story.shares)):  # some come too late: it has ended
        if tally.tried == len(story.shares):
            break
        share = story.shares[number % len(story.shares)] / (1 + number // IN_A_ROW)
        ended = stage.run(name, delay=share * stage.left(name))
        tally.tried += ended.killed
        if not ended.killed:
            tally.wrong += stage.finish(name)
            name += "-"
    tally.wrong += stage.finish(name)
    return tally


def _typed(folder: Path, effort: Effort) -> Iterator[Tally]:
    """The command as it is typed, killed with all of its processes."""
    recipes = [Recipe("gpt", 4)]
    if effort.full:
        recipes += [Recipe("lstm"), Recipe("ff")]
    if (os.cpu_count() or 1) > 1:
        recipes.append(Recipe("gpt", 4, DDP, "gpt-4-ddp"))
    for recipe in recipes:
        stage = Typed(recipe, folder / str(recipe))
        if said := stage.play():
            yield Tally(1, [said], recipe.model)
            continue
        rng = random.Random(0)
        shares = tuple(rng.uniform(0, 0.5) for _ in range(IN_A_ROW))
        yield tell(Story(stage, "killed", shares=shares if effort.full else shares[:1]))


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
    """The control: a run that goes on from a wrong place in the text is noticed."""
    name = "moved"
    as_killed_at(stage, name, 10)
    file = stage.folder / name / "checkpoints" / runs.checkpoint_name(10)
    content = runs.read_checkpoint(file)
    content["TextDataModule"]["position"] += 4
    runs.write_checkpoint(content, file)
    return bool(stage.finish(name))
