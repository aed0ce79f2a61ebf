"""lmzoo's training step beside a hand-written torch loop, same model, same batches.

python benchmarks/overhead.py --rounds 5 --steps 150
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lmzoo.models.gpt import GPT
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training import optimizers
from lmzoo.training.checkpoints import Checkpoints, VerifiedCheckpointIO, versions
from lmzoo.training.early_stopping import EarlyStopping
from lmzoo.training.health import HealthReport
from lmzoo.training.telemetry import MetricsFile, Samples, Telemetry

WARM_UP = 20
OPTIMIZER = {
    "class_path": "torch.optim.AdamW",
    "init_args": {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1, "fused": True},
}
SCHEDULE = {"class_path": "lmzoo.training.optimizers.WarmupCosine", "init_args": {}}


def model(data: TextDataModule) -> GPT:
    torch.manual_seed(0)
    return GPT(data.vocab_size, 64, d_model=128, num_layers=4, num_heads=4)


def by_hand(data: TextDataModule, steps: int) -> list[float]:
    """Seconds of each step of a plain loop: fused AdamW, clipping, cosine."""
    net = model(data).train()
    optimizer = torch.optim.AdamW(net.parameter_groups(), **OPTIMIZER["init_args"])
    schedule = optimizers.WarmupCosine(optimizer, total_steps=steps)
    times, batches = [], iter(data.train_dataloader())
    for _ in range(steps):
        started = time.perf_counter()
        batch = next(batches)
        logits = net(batch.tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        times.append(time.perf_counter() - started)
    return times[WARM_UP:]


class Clock(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.ends.append(time.perf_counter())


def by_lmzoo(data: TextDataModule, steps: int) -> list[float]:
    """Seconds of each step of ``lmzoo fit``: every callback and logger of a run."""
    net = model(data)
    optimizers.use(net, OPTIMIZER, SCHEDULE)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints()
        checkpoints.folder = Path(folder)
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=-1,
            val_check_interval=steps,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
            gradient_clip_val=1.0,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=1,
            logger=[
                TensorBoardLogger(folder, name="", version=""),
                MetricsFile(Path(folder) / "metrics.csv"),
            ],
            plugins=[VerifiedCheckpointIO()],
            callbacks=[
                EarlyStopping(),
                Telemetry(),
                Samples(length=0),
                HealthReport(),
                clock,
                checkpoints,
            ],
        )
        trainer.fit(net, datamodule=data)
    data.position, data.trainer = 0, None
    gaps = zip(clock.ends[1:], clock.ends, strict=False)
    return [later - earlier for later, earlier in gaps][WARM_UP:]


def main() -> None:
    """Interleaved rounds; medians and the ratio of each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    data = TextDataModule(context_length=64, batch_size=12)
    rows = []
    for _ in range(options.rounds):
        hand = statistics.median(by_hand(data, options.steps))
        ours = statistics.median(by_lmzoo(data, options.steps))
        rows.append(
            {"hand_ms": hand * 1e3, "lmzoo_ms": ours * 1e3, "ratio": ours / hand}
        )
        print(json.dumps(rows[-1]))
    result = {
        "ratio_median": statistics.median(row["ratio"] for row in rows),
        "rounds": rows,
        "parameters": sum(p.numel() for p in model(data).parameters()),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
