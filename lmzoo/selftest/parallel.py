"""Two processes learn what one learns, and each goes on from the other's checkpoint."""

import csv
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lmzoo import runs
from lmzoo.selftest.commands import Commands, Job
from lmzoo.selftest.lab import SMALL, TEXT
from lmzoo.selftest.outcome import Effort, Outcome

CLAIM = "two processes equal one, and each resumes what the other began"
STEPS, HALF = 30, 15
SINGLE, DOUBLE = 1e-6, 1e-13  # largest difference of a weight or a loss
# No biases: a key's has a gradient of exactly zero but for rounding, and Adam would
# divide rounding by rounding. A constant rate, for a run is resumed with more steps.
RECIPE = (
    f"fit --model gpt {SMALL} --model.bias false --trainer.accelerator cpu "
    f"--trainer.val_check_interval 15 --trainer.log_every_n_steps 5 "
    f"--lr_scheduler.warmup_steps 0 --lr_scheduler.final_ratio 1"
)


@dataclass(frozen=True)
class Trial:
    """A run that has to end as one process alone ends it.

    Attributes:
        name: what it is.
        processes: of its first and of its second half.
        precision: as in fit.
        within: the largest difference.
    """

    name: str
    processes: tuple[int, int]
    precision: str = "32-true"
    within: float = SINGLE


TRIALS = (
    Trial("two processes, float32", (2, 2)),
    Trial("two processes, float64", (2, 2), "64-true", DOUBLE),
    Trial("two, then one", (2, 1)),
    Trial("one, then two", (1, 2)),
)


def check(folder: Path, effort: Effort) -> Outcome:
    """Train alone and together, and compare every weight; see ``Outcome``."""
    del effort
    began = time.monotonic()
    text = folder / "text.txt"
    folder.mkdir(parents=True, exist_ok=True)
    text.write_text(TEXT, encoding="utf-8")
    details = []
    with Commands(folder) as commands:
        alone = {
            precision: trained(commands, folder / precision, (1, 1), precision)
            for precision in ("32-true", "64-true")
        }
        for number, trial in enumerate(TRIALS):
            made = trained(
                commands, folder / f"trial-{number}", trial.processes, trial.precision
            )
            worst = difference(made, alone[trial.precision])
            if not worst <= trial.within:
                details.append(f"{trial.name}: {worst:.1e}, above {trial.within:.0e}")
        control = astray(commands, folder, alone["32-true"])
    return Outcome(
        name="parallel",
        claim=CLAIM,
        tried=len(TRIALS),
        held=len(TRIALS) - len(details),
        control=f"a run resumed at the beginning of its data differs by {control:.1e}",
        control_failed=control > SINGLE,
        details=details,
        seconds=time.monotonic() - began,
    )


def trained(
    commands: Commands, folder: Path, processes: tuple[int, int], precision: str
) -> Path:
    """A run of 30 steps, begun by some processes and finished by others.

    Raises:
        RuntimeError: one of them failed.
    """
    for count, steps in zip(processes, (HALF, STEPS), strict=True):
        fit(commands, folder, count, steps, precision)
    return folder


def fit(
    commands: Commands,
    folder: Path,
    processes: int,
    steps: int,
    precision: str = "32-true",
    more: str = "",
) -> None:
    """Train up to ``steps`` with so many processes.

    Raises:
        RuntimeError: one of them failed.
    """
    strategy = "--trainer.strategy ddp" if processes > 1 else ""
    line = (
        f"{RECIPE} --data.path {folder.parent / 'text.txt'} "
        f"--trainer.max_steps {steps} --trainer.devices {processes} {strategy} "
        f"--trainer.precision {precision} --trainer.default_root_dir {folder} {more}"
    )
    port = free_port()
    jobs = [
        Job.of(line, environment=rank(n, processes, port)) for n in range(processes)
    ]
    for done in commands.together(jobs):
        if why := done.wrong_success():
            raise RuntimeError(f"{processes} processes: {why}")


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
    """How far a run ends that is resumed at the beginning of its data: the control."""
    broken = folder / "astray"
    fit(commands, broken, 1, HALF)
    file = runs.find_checkpoint(broken, "last")
    content = runs.read_checkpoint(file)
    for state in content.values():
        if isinstance(state, dict) and set(state) == {"position"}:
            state["position"] = 0
    runs.write_checkpoint(content, file)
    fit(commands, broken, 1, STEPS)
    mine, theirs = weights(broken), weights(whole)
    return max(float((mine[key] - theirs[key]).abs().max()) for key in theirs)
