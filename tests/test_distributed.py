"""Two processes learn what one learns."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lmzoo import runs
from tests.cli.runner import SMALL

STEPS = 30


def fit(text: Path, folder: Path, processes: int, more: str = "") -> dict:
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
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lmzoo", *line.split()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return runs.read_checkpoint(folder / "checkpoints" / runs.checkpoint_name(STEPS))[
        "state_dict"
    ]


def curve(folder: Path, column: str) -> list[float]:
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [float(row[column]) for row in rows if row[column]]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_equal_one(story: Path, tmp_path: Path) -> None:
    one = fit(story, tmp_path / "one", 1)
    two = fit(story, tmp_path / "two", 2)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=0)
    for column in ("train/nll", "val/nll", "val/bits_per_char"):
        left, right = (curve(tmp_path / name, column) for name in ("one", "two"))
        assert len(left) == len(right) > 0
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= 1e-6
    other = fit(story, tmp_path / "seed", 1, "--seed_everything 7")  # the control
    assert any(not torch.allclose(other[name], one[name], atol=1e-3) for name in one)
