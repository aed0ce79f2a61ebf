"""A budget becomes a number of optimizer steps, once, before the run begins.

Tokens and FLOPs are divided by what one step takes; seconds by what a step took in a
short rehearsal. A schedule is a function of the step, so the number is then frozen.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lmzoo.errors import UsageError
from lmzoo.models.member import Member
from lmzoo.training.telemetry import MetricsFile, Telemetry

KINDS = ("seconds", "tokens", "flops")
TOLERANCE = 0.05  # of a budget in seconds
FEWEST = 10  # steps: half a step more or less is then within the tolerance
REHEARSAL = (
    2.5,
    6.0,
)  # seconds at least and at most; a twentieth of the budget between
WARM_UP = (5, 0.3)  # steps and seconds that are not looked at
CHUNKS = 8  # stretches of a rehearsal; the median of them ignores a few slow ones
KEPT = (
    "accelerator",
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "log_every_n_steps",
)


def steps_within(kind: str, amount: float, per_step: float) -> int:
    """Optimizer steps that a budget amounts to: the nearest number, tokens rounded up.

    Args:
        kind: "seconds", "tokens" or "flops".
        amount: the budget.
        per_step: what one optimizer step takes of it.

    Raises:
        UsageError: a budget for less than one step, or in seconds for so few that it
            could not be kept.
    """
    if kind == "tokens":
        return -(-int(amount) // int(per_step))
    steps, fewest = round(amount / per_step), FEWEST if kind == "seconds" else 1
    if steps < fewest:
        raise UsageError(
            f"--budget.{kind} {amount:g}: one step takes {per_step:.3g} {kind} here, "
            f"so this is {steps} steps; give {fewest * per_step:.2g} or more"
        )
    return steps


def flops_per_step(model: Member, tokens: int) -> int:
    """Training FLOPs of an optimizer step over ``tokens`` tokens.

    By the model's closed form at its training context: products with weights and
    attention, forward and backward.

    Raises:
        UsageError: a model without a closed form.
    """
    if (flops := model.flops_per_token(model.context_length)) is None:
        raise UsageError(
            f"--budget.flops: {type(model).__name__} does not say what a token costs "
            f"(flops_per_token); give --budget.tokens or --budget.seconds"
        )
    return flops * tokens


def training_flops(model: Member, tokens: int) -> int | None:
    """What training on ``tokens`` tokens takes; None where the model does not say."""
    flops = model.flops_per_token(model.context_length)
    return None if flops is None else flops * tokens


def missed(budget: dict[str, Any], seconds: float, all_done: bool) -> str | None:
    """One line where a budget in seconds was not kept to 5 %.

    Args:
        budget: as the manifest has it.
        seconds: of training, evaluation and restarts excluded.
        all_done: whether every step was taken; a run that stops early keeps it.
    """
    given = budget.get("seconds")
    if not given or not all_done or abs(seconds - given) <= TOLERANCE * given:
        return None
    return (
        f"training took {seconds:.1f} s of a budget of {given:g} s "
        f"({seconds / given - 1:+.0%}): a step was not as fast as in the rehearsal; "
        f"was the machine doing something else?"
    )


# ---- the rehearsal -------------------------------------------------------------------


def seconds_per_step(
    model: LightningModule, data: Any, settings: dict[str, Any], budget: float
) -> float:
    """What an optimizer step takes: a copy of the model trains for a few seconds.

    With the precision, clipping, optimizer, schedule and logs of the run; neither the
    model nor the position in the data changes.

    Args:
        model: as it will be trained.
        data: the data module.
        settings: the Trainer's arguments.
        budget: seconds of the run; a twentieth of it is rehearsed, 2.5 to 6 s.
    """
    watch = _Stopwatch(min(max(budget / 20, REHEARSAL[0]), REHEARSAL[1]))
    position = data.position
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            **{key: settings[key] for key in KEPT if key in settings},
            devices=1,
            max_steps=1_000_000,
            max_epochs=-1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=[Telemetry(), watch],
            logger=[
                TensorBoardLogger(folder, name="", version=""),
                MetricsFile(Path(folder) / "metrics.csv"),
            ],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(copy.deepcopy(model), datamodule=data)
        for logger in trainer.loggers:
            logger.finalize("success")
    data.position, data.trainer = position, None
    return typical(watch.ends)


def typical(ends: Sequence[float]) -> float:
    """Seconds per step: the median over equal stretches, from the ends of steps.

    Args:
        ends: times at which steps ended, two or more, the warm-up left out.
    """
    size = max(1, (len(ends) - 1) // CHUNKS)
    stretches = [
        (ends[start + size] - ends[start]) / size
        for start in range(0, len(ends) - size, size)
    ]
    return statistics.median(stretches)


class _Stopwatch(Callback):
    """When each step ended, after the warm-up, until ``seconds`` have gone by."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: list[float] = []
        self.began: float | None = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the end of a step; stop when enough were seen for long enough."""
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        now = time.perf_counter()
        self.began = self.began or now
        passed = now - self.began
        early = trainer.global_step <= WARM_UP[0] and passed < self.seconds
        if early or passed < WARM_UP[1]:
            return
        self.ends.append(now)
        enough = CHUNKS if passed < 3 * self.seconds else 1  # steps may take seconds
        if len(self.ends) > enough and now - self.ends[0] >= self.seconds:
            trainer.should_stop = True
