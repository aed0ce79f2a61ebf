"""What is not finite stops a run before it does harm; a spike is taken back."""

import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmzoo import runs
from lmzoo.selftest import forks, stock
from lmzoo.selftest.forks import Fuse
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.saves import Tally
from lmzoo.selftest.stories import Recipe, Stage, spread

CLAIM = (
    "a loss, a gradient or weights that are not finite end a run before any harm, with "
    "the step and the reason, and the last good checkpoint goes on exactly; the spike "
    "guard rolls back, leaves the batches out, and is exact under kills"
)
STEP = "lmzoo.models.steps:TrainingSteps.training_step"
BATCH = 4  # samples
AT = 13  # the first step that does not come to its end
SAVED = 15  # a step after which weights would be saved
GUARD = (
    "--spike_guard.enabled true --spike_guard.back 5 --spike_guard.skip 3 "
    "--spike_guard.window 8"
)
SPIKE, RESTORED, SKIPPED = 15, 10, 3  # steps


def check(folder: Path, effort: Effort) -> Outcome:
    """Put losses, gradients and weights into small runs that no run should have."""
    started = time.perf_counter()
    tally = Tally()
    recipes, faults = [Recipe("gpt", 4)], list(FAULTS)[:2]
    if not effort.quick:
        faults = list(FAULTS)
        bf16 = "--trainer.precision bf16-mixed"
        recipes += [Recipe("lstm"), Recipe("ff", 1, bf16, "ff-1-bf16")]
    for recipe in recipes:
        stage = Stage(recipe, folder / str(recipe))
        if said := stage.play():
            tally.add([said])
            continue
        for wrong in spread(partial(stops, stage), faults):
            tally.add(wrong)
    unnoticed = _guarded(folder / "guarded", effort, tally)
    code, finite = stock.not_finite(folder / "stock")
    left = "finite" if finite else "not finite"
    return Outcome(
        name="divergence",
        claim=CLAIM,
        tried=tally.tried,
        held=tally.tried - tally.broken,
        control="the same spike without the guard: "
        + ("trained through" if unnoticed else "noticed"),
        control_failed=not finite and unnoticed,
        details=tally.wrong,
        seconds=time.perf_counter() - started,
        stock=f"trains on through a loss of NaN; exit {code}, its weights are {left}",
    )


# ---- not finite ----------------------------------------------------------------------


def _loss_is(value: float, position: int) -> None:
    """In this process: the loss of the batch at ``position`` has ``value`` added."""
    _change_loss(position, lambda model, loss: loss + value)


def _gradient_is_nan(position: int) -> None:
    """In this process: the loss of a batch is finite, its gradient is not."""

    def change(model: Any, loss: torch.Tensor) -> torch.Tensor:
        del model
        loss.register_hook(lambda gradient: gradient * math.nan)
        return loss

    _change_loss(position, change)


def _weights_are_inf(position: int) -> None:
    """In this process: a step ends with a weight that is too large for its type."""

    def change(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(scheduler: Any, *given: Any) -> Any:
            if scheduler.last_epoch == position - 1:
                group = scheduler.optimizer.param_groups[0]
                group["params"][0].data.view(-1)[0] = math.inf
            return step(scheduler, *given)

        return stepped

    forks.replace("torch.optim.lr_scheduler:LRScheduler.step", change)


def _change_loss(position: int, change: Callable[[Any, Any], Any]) -> None:
    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(model: Any, batch: Any, index: int) -> Any:
            loss = step(model, batch, index)
            return change(model, loss) if batch.position == position else loss

        return stepped

    forks.replace(STEP, wrapped)


FAULTS = {  # what is put in, and what must be said
    "the loss is NaN": (
        partial(_loss_is, math.nan),
        f"the loss is nan at step {AT};",
    ),
    "the weights are infinite": (
        _weights_are_inf,
        f"the weights are not finite after step {SAVED}; they were not saved",
    ),
    "the loss is infinite, its gradient is not": (
        partial(_loss_is, math.inf),
        f"the loss is inf at step {AT};",
    ),
    "the gradient is NaN, the loss is not": (
        _gradient_is_nan,
        f"the gradient is not finite at step {AT};",
    ),
}


def stops(stage: Stage, fault: str) -> list[str]:
    """The run ends at the step, keeps what it had, and goes on without the fault."""
    name = fault.replace(" ", "-").replace(",", "")
    put, reason = FAULTS[fault]
    # the second micro-batch of the step where there are several
    micro = (AT - 1) * stage.recipe.accumulate + min(1, stage.recipe.accumulate - 1)
    where = SAVED if put is _weights_are_inf else micro * BATCH
    ended = stage.run(name, prepare=partial(put, where))
    wrong = []
    if ended.code != 2 or "training diverged" not in ended.said:
        wrong.append(f"{stage.recipe} {fault}: exit {ended.code}: {ended.said}")
    elif reason not in ended.said:
        wrong.append(
            f"{stage.recipe} {fault}: not the reason, or the step: {ended.said}"
        )
    kept = runs.newest_first(stage.folder / name)
    if not kept or runs.step_of(kept[0]) != 12 or not _finite(kept[0]):
        wrong.append(f"{stage.recipe} {fault}: kept are {[file.name for file in kept]}")
    said = (stage.folder / f"{name}.log").read_text(encoding="utf-8")
    if "kept: the last checkpoint, of step 12" not in said:
        wrong.append(f"{stage.recipe} {fault}: what is kept is not said")
    return wrong + stage.finish(name)


def _finite(file: Path) -> bool:
    state = runs.read_checkpoint(file)["state_dict"]
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


# ---- spikes --------------------------------------------------------------------------


def _spike(position: int, seen: Path) -> None:
    """In this process: one batch costs far too much; what is trained on is noted."""

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(model: Any, batch: Any, index: int) -> Any:
            with seen.open("a", encoding="utf-8") as file:
                file.write(f"{batch.position}\n")
            loss = step(model, batch, index)
            return loss * 50 if batch.position == position else loss

        return stepped

    forks.replace(STEP, wrapped)


def _guarded(folder: Path, effort: Effort, tally: Tally) -> bool:
    """Runs with a spike in them; whether one without the guard trains through it."""
    recipe = Recipe("gpt", 4, GUARD, "guarded")
    micro = (SPIKE - 1) * recipe.accumulate + 1
    prepare = partial(_spike, micro * BATCH, folder / "seen.txt")
    stage = Stage(recipe, folder, prepare)
    if said := stage.play():
        tally.add([said])
        return False
    tally.add(_rolled_back(stage))
    moments = [
        Fuse(STEP, 4 * SPIKE),  # in the step of the spike
        Fuse(STEP, 4 * SPIKE + 1),  # right after the rollback
        Fuse("pathlib:Path.replace", 5, "rollback/step-"),
        Fuse(STEP, 4 * SPIKE + 9),
    ]
    for number, fuse in enumerate(moments[: 1 if effort.quick else None]):
        killed = stage.run(f"killed-{number}", fuse).killed
        wrong = [] if killed else [f"guarded: not killed by {fuse}"]
        tally.add(wrong + stage.finish(f"killed-{number}"))
    plain = Stage(Recipe("gpt", 4, name="plain"), folder / "plain", prepare)
    plain.play()
    said = (plain.folder / "whole.log").read_text(encoding="utf-8")
    return "spike" not in said and (plain.whole / "summary.json").is_file()


def _rolled_back(stage: Stage) -> list[str]:
    """What was wrong with the way in which the spike was taken back."""
    wrong, notes = [], json.loads((stage.whole / "summary.json").read_text())["notes"]
    told = [note for note in notes if "was a spike" in note]
    if len(told) != 1 or f"the loss of step {SPIKE}," not in told[0]:
        wrong.append(f"guarded: the spike is not told of: {told}")
    name = runs.checkpoint_name
    after = runs.read_checkpoint(stage.whole / "checkpoints" / name(SPIKE))
    before = runs.read_tensors(stage.whole / "rollback" / name(RESTORED))
    for key, tensor in before["state_dict"].items():
        if not torch.equal(tensor, after["state_dict"][key]):
            wrong.append(f"guarded: {key} is not that of step {RESTORED}")
    seen = (stage.folder / "seen.txt").read_text(encoding="utf-8").split()
    first = 4 * SPIKE * BATCH + BATCH  # one batch was fetched before
    left_out = range(first, first + 4 * SKIPPED * BATCH, BATCH)
    if set(map(int, seen)) & set(left_out) or str(left_out.stop) not in seen:
        wrong.append("guarded: not the batches after the spike are left out")
    return wrong
