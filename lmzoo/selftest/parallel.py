"""Two processes learn what one learns; each goes on from the other's checkpoint."""

import csv
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lmzoo import runs
from lmzoo.selftest.commands import Commands, Job
from lmzoo.selftest.lab import SMALL, TEXT
from lmzoo.selftest.outcome import Effort, Outcome

CLAIM = (
    "two processes learn what one learns, with copied weights (DDP) and with "
    "shared-out ones (FSDP2), and each goes on from what the other saved"
)
STEPS, HALF = 30, 15
SINGLE, DOUBLE = 1e-6, 1e-13  # largest difference of a weight or a loss
TAKEN = "address already in use"
# No biases: a key's has a gradient of exactly zero but for rounding, and Adam would
# divide rounding by rounding. A constant rate, for a run is resumed with more steps.
RECIPE = (
    f"fit --model gpt {SMALL} --model.bias false --trainer.accelerator cpu "
    f"--trainer.val_check_interval 15 --trainer.log_every_n_steps 5 "
    f"--lr_scheduler.warmup_steps 0 --lr_scheduler.final_ratio 1"
)
SAME_ROWS = """
import runpy, sys
from lmzoo.text import datamodule

loader = datamodule.WindowLoader
datamodule.WindowLoader = lambda *given: loader(*given[:6], 0, *given[7:])  # the rank
sys.argv[0] = "lmzoo"
runpy.run_module("lmzoo", run_name="__main__")
"""


@dataclass(frozen=True)
class Trial:
    """A run that has to end as one process alone ends it.

    Attributes:
        name: what it is.
        processes: of its first and of its second half; a single number if it is not
            interrupted.
        precision: as in fit.
        within: the largest difference.
        strategy: of several processes.
        script: that is run in place of lmzoo, with its arguments.
    """

    name: str
    processes: tuple[int, ...]
    precision: str = "32-true"
    within: float = SINGLE
    strategy: str = "ddp"
    script: Path | None = None


TRIALS = (
    Trial("two processes, float32", (2,)),
    Trial("two processes, float64", (2,), "64-true", DOUBLE),
    Trial("two, then one", (2, 1)),
    Trial("one, then two", (1, 2)),
    Trial("two with shared-out weights", (2,), strategy="fsdp2"),
    Trial("two with shared-out weights, then one", (2, 1), strategy="fsdp2"),
    Trial("one, then two with shared-out weights", (1, 2), strategy="fsdp2"),
)


def check(folder: Path, effort: Effort) -> Outcome:
    """Train alone and together, and compare every weight; see ``Outcome``."""
    del effort
    began = time.monotonic()
    text = folder / "text.txt"
    commands = Commands(folder)
    text.write_text(TEXT, encoding="utf-8")
    alone = {
        precision: trained(commands, folder / precision, Trial("", (1,), precision))
        for precision in ("32-true", "64-true")
    }
    details, worst = [], dict.fromkeys(alone, 0.0)
    for number, trial in enumerate(TRIALS):
        made = trained(commands, folder / f"trial-{number}", trial)
        apart = difference(made, alone[trial.precision])
        worst[trial.precision] = max(worst[trial.precision], apart)
        if not apart <= trial.within:
            details.append(f"{trial.name}: {apart:.1e}, above {trial.within:.0e}")
    control = astray(commands, folder, alone["32-true"])
    single, double = worst.values()
    return Outcome(
        name="parallel",
        claim=f"{CLAIM}; weights and losses differ by {single:.1e} at most in float32, "
        f"{double:.1e} in float64",
        tried=len(TRIALS),
        held=len(TRIALS) - len(details),
        control=f"two processes that learn from the same rows: differ by {control:.1e}",
        control_failed=control > SINGLE,
        details=details,
        seconds=time.monotonic() - began,
    )


def trained(commands: Commands, folder: Path, trial: Trial) -> Path:
    """A run of 30 steps, begun by some processes and finished by others.

    Raises:
        RuntimeError: one of them failed.
    """
    ends = (HALF, STEPS)[-len(trial.processes) :]
    for count, steps in zip(trial.processes, ends, strict=True):
        fit(commands, folder, steps, replace(trial, processes=(count,)))
    return folder


def fit(commands: Commands, folder: Path, steps: int, trial: Trial) -> None:
    """Train up to ``steps`` with the processes of the trial's first half.

    Raises:
        RuntimeError: one of them failed.
    """
    processes = trial.processes[0]
    strategy = f"--trainer.strategy {trial.strategy}" if processes > 1 else ""
    line = (
        f"{RECIPE} --data.path {folder.parent / 'text.txt'} "
        f"--trainer.max_steps {steps} --trainer.devices {processes} {strategy} "
        f"--trainer.precision {trial.precision} --trainer.default_root_dir {folder}"
    )
    ended = []
    for _ in range(2):  # another program may take the port before they do
        port = free_port()
        jobs = [
            Job.of(line, environment=rank(n, processes, port)) for n in range(processes)
        ]
        if trial.script is not None:
            argv = [str(trial.script), *jobs[0].argv[1:]]
            jobs = [replace(job, argv=argv) for job in jobs]
        ended = commands.together(jobs)
        if not any(TAKEN in done.err.lower() for done in ended):
            break
    # where one fails the others wait for it, so what they say is not the reason
    for done in sorted(ended, key=lambda one: one.timed_out):
        if why := done.wrong_success():
            raise RuntimeError(f"{trial.name}, {processes} processes: {why}")


def rank(number: int, processes: int, port: int) -> dict[str, str]:
    """What a launcher tells one of several processes; nothing to a single one."""
    if processes == 1:
        return {}
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(number),
        "RANK": str(number),
    }


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def difference(one: Path, other: Path) -> float:
    """The largest difference of a weight, or of a loss of the curve."""
    mine, theirs = weights(one), weights(other)
    apart = [float((mine[key] - theirs[key]).abs().max()) for key in theirs]
    for column in ("train/nll", "val/nll"):
        pairs = zip(curve(one, column), curve(other, column), strict=True)
        apart += [abs(a - b) for a, b in pairs]
    return max(apart)


def weights(folder: Path) -> dict[str, Tensor]:
    """The last weights of a run."""
    return last(folder)["state_dict"]


def last(folder: Path) -> dict[str, Any]:
    """The last checkpoint of a run."""
    return runs.read_checkpoint(runs.find_checkpoint(folder, "last"))


def curve(folder: Path, column: str) -> list[float]:
    """The logged values of one column."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def astray(commands: Commands, folder: Path, whole: Path) -> float:
    """How far two processes end that both learn from the first one's rows."""
    script = folder.resolve() / "same_rows.py"
    script.write_text(SAME_ROWS, encoding="utf-8")
    trial = Trial("two processes, the same rows", (2,), script=script)
    return difference(trained(commands, folder / "astray", trial), whole)
