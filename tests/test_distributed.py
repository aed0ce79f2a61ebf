"""Two processes learn what one learns."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lmzoo import runs
from lmzoo.cli.folders import CHECKPOINT, FOLDER, TELLER
from lmzoo.models import divergence
from lmzoo.models.steps import TrainingSteps
from tests.cli.runner import SMALL, lmzoo
from tests.processes import together

STEPS = 30


def fit(text: Path, folder: Path, processes: int, more: str = "") -> None:
    # No biases: a key's has a gradient of exactly zero but for rounding, and Adam would
    # divide rounding by rounding.
    line = (
        f"fit --model gpt {SMALL} --model.bias false --data.path {text} "
        f"--trainer.max_steps {STEPS} "
        f"--trainer.val_check_interval 10 --trainer.log_every_n_steps 5 "
        f"--trainer.accelerator cpu --trainer.devices {processes} "
        f"--trainer.default_root_dir {folder} {more}"
    )
    if processes > 1:
        line += " --trainer.strategy ddp"
    codes = together(line, processes, folder.with_suffix(".log"))
    said = folder.with_suffix(".log.0").read_text()
    assert codes == [0] * processes, said[-2000:]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "checkpoints" / runs.checkpoint_name(STEPS)
    return runs.read_checkpoint(file)["state_dict"]


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def curve(folder: Path, column: str) -> list[float]:
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [float(row[column]) for row in rows if row[column]]


needs_two_cores = pytest.mark.skipif(
    (os.cpu_count() or 1) < 2, reason="needs two cores"
)


@needs_two_cores
def test_two_processes_learn_and_are_judged_as_one(story: Path, tmp_path: Path) -> None:
    # An improvement that nothing reaches: the third validation is the last.
    early = "--early_stopping.min_relative_improvement 0.9 --early_stopping.patience 2"
    fit(story, tmp_path / "one", 1, early)
    fit(story, tmp_path / "two", 2, early)
    fit(story, tmp_path / "seed", 1, f"{early} --seed_everything 7")  # the control
    one, two, other = (weights(tmp_path / name) for name in ("one", "two", "seed"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=0)
    assert any(not torch.allclose(other[name], one[name], atol=1e-3) for name in one)
    for column in ("train/nll", "val/nll", "val/bits_per_char"):
        left, right = (curve(tmp_path / name, column) for name in ("one", "two"))
        assert len(left) == len(right) > 0
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= 1e-6
    found = [summary(tmp_path / name) for name in ("one", "two")]
    assert found[0]["stopped"] == found[1]["stopped"]
    assert "did not beat" in found[0]["stopped"]
    assert found[0]["steps"] == found[1]["steps"] == STEPS
    codes = [[finding["code"] for finding in run["health"]] for run in found]
    assert codes[0] == codes[1]
    assert codes[0]  # so short a run is no better than counting


def test_counting_is_refused_in_several_processes(story: Path, tmp_path: Path) -> None:
    done = lmzoo(
        f"fit --model ngram --data.path {story} --trainer.devices 2 --trainer.strategy "
        f"ddp --trainer.accelerator cpu --trainer.default_root_dir {tmp_path / 'run'}"
    )
    assert done.code == 2
    assert [line for line in done.err.splitlines() if "error" in line] == [
        "error: NGram counts in one process, and 2 were asked for; "
        "give --trainer.devices 1"
    ]
    assert not (tmp_path / "run").exists()


def misled() -> None:
    """As in a shell or notebook that another run has told its own processes in."""
    os.environ |= {FOLDER: "/nowhere", CHECKPOINT: "/nowhere/a.ckpt", TELLER: "1"}


def told_by_the_parent() -> None:
    """The control: the same, said by the process that started this one."""
    misled()
    os.environ |= {TELLER: str(os.getppid()), "RANK": "1", "LOCAL_RANK": "1"}


def test_what_another_run_told_its_own_misleads_nobody(
    story: Path, tmp_path: Path
) -> None:
    line = (
        f"fit --model gpt {SMALL} --data.path {story} --trainer.max_steps 4 "
        f"--trainer.val_check_interval 4 --trainer.accelerator cpu "
        f"--trainer.devices {{}} --trainer.default_root_dir {tmp_path / 'run'}"
    )

    assert together(line.format(2), 2, tmp_path / "a", misled) == [0, 0]
    assert summary(tmp_path / "run")["steps"] == 4
    (code,) = together(line.format(1), 1, tmp_path / "b", told_by_the_parent)
    assert code == 2
    assert "/nowhere" in (tmp_path / "b.0").read_text()


BAD = 5  # the step whose loss is infinite, in the second process


def infinite() -> None:
    """The loss of the second of two processes is infinite, its gradient is not."""
    step = TrainingSteps.training_step

    def spoilt(self: TrainingSteps, batch: Any, index: int) -> torch.Tensor:
        bad = self.global_rank and self.global_step == BAD - 1
        return step(self, batch, index) + (math.inf if bad else 0.0)

    TrainingSteps.training_step = spoilt  # type: ignore[method-assign]


def infinite_and_not_told() -> None:
    """The control: and its gradient stays as it is."""
    infinite()
    divergence._spoilt = lambda loss, gradient: gradient


@needs_two_cores
def test_one_loss_that_is_infinite_stops_all_processes(
    story: Path, tmp_path: Path
) -> None:
    line = (
        f"fit --model gpt {SMALL} --data.path {story} --trainer.max_steps 8 "
        f"--trainer.val_check_interval 4 --trainer.accelerator cpu "
        f"--trainer.devices 2 --trainer.strategy ddp --trainer.default_root_dir "
    )
    log = tmp_path / "a"
    assert together(f"{line}{tmp_path / 'run'}", 2, log, infinite) == [2, 2]
    said = [log.with_suffix(f".{rank}").read_text() for rank in (0, 1)]
    assert f"the gradient is not finite at step {BAD}; nothing was updated" in said[0]
    assert f"kept: the last checkpoint, of step {BAD - 1}, in" in said[0]
    assert f"the loss is inf at step {BAD}; nothing was updated" in said[1]
    untold = f"{line}{tmp_path / 'untold'}"
    assert together(untold, 2, tmp_path / "b", infinite_and_not_told) == [0, 0]
