"""Does a long run leak? Memory and open files over many steps, after a warm-up.

python benchmarks/leaks.py --steps 100000
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmzoo.models.gpt import GPT
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training.checkpoints import Checkpoints, VerifiedCheckpointIO, versions
from lmzoo.training.early_stopping import EarlyStopping
from lmzoo.training.health import HealthReport
from lmzoo.training.telemetry import MetricsFile, Samples, Telemetry

SAMPLES = 40  # points of the record
WARM_UP = 0.25  # of the run: allocators and caches fill
FLAT = 0.01  # growth of memory after it, at most


class Record(Callback):
    """Memory and file handles, so many times during a run.

    Args:
        every: steps between two looks.
        leak: bytes to keep hold of at every step: the control.
    """

    def __init__(self, every: int, leak: int = 0) -> None:
        self.every, self.leak = every, leak
        self.rows: list[dict[str, int]] = []
        self.kept: list[bytearray] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self.leak:
            self.kept.append(bytearray(os.urandom(self.leak)))
        if trainer.global_step % self.every == 0:
            self.rows.append(
                {
                    "step": trainer.global_step,
                    "bytes": resident(),
                    "files": len(os.listdir("/proc/self/fd")),
                }
            )


def resident() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def train(steps: int, leak: int = 0) -> list[dict[str, int]]:
    """A small run with every callback and logger of ``lmzoo fit``; its record."""
    data = TextDataModule(corpus="pydoc", context_length=16, batch_size=4)
    record, checkpoints = Record(max(1, steps // SAMPLES), leak), Checkpoints()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.folder = Path(folder)
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=-1,
            val_check_interval=max(1, steps // 20),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
            limit_val_batches=20,
            gradient_clip_val=1.0,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=MetricsFile(Path(folder) / "metrics.csv"),
            plugins=[VerifiedCheckpointIO()],
            callbacks=[
                EarlyStopping(patience=10**6),
                Telemetry(),
                Samples(length=8),
                HealthReport(),
                record,
                checkpoints,
            ],
        )
        model = GPT(data.vocab_size, 16, d_model=16, num_layers=1, num_heads=2)
        trainer.fit(model, datamodule=data)
    return record.rows


def growth(rows: list[dict[str, int]]) -> dict[str, float]:
    """What changed after the warm-up: a share of the memory, a number of files."""
    settled = rows[int(len(rows) * WARM_UP) :]
    half = len(settled) // 2
    early = [row["bytes"] for row in settled[:half]]
    late = [row["bytes"] for row in settled[half:]]
    files = [row["files"] for row in settled]
    return {
        "memory": max(late) / max(early) - 1,
        "files": max(files) - min(files),
    }


def main() -> None:
    """The run, and a short one that leaks on purpose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args()
    began = time.monotonic()
    rows = train(options.steps)
    found = growth(rows)
    control = growth(train(min(2000, options.steps), leak=1 << 16))
    flat = found["memory"] <= FLAT and found["files"] == 0
    result = {
        "steps": options.steps,
        "flat": flat,
        "growth": found,
        "control": {"leaked_bytes_a_step": 1 << 16, "growth": control},
        "control_failed": control["memory"] > FLAT,
        "rows": rows[:: max(1, len(rows) // 10)],
        "seconds": round(time.monotonic() - began),
        "versions": versions(),
    }
    print(json.dumps(result, indent=1))
    raise SystemExit(not (flat and control["memory"] > FLAT))


if __name__ == "__main__":
    main()
