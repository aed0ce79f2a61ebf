"""lmzoo's training step beside a hand-written torch loop, same model, same batches.

python benchmarks/overhead.py --rounds 5 --steps 150 --size small
python benchmarks/overhead.py --rounds 5 --steps 1500 --size tiny

At the tiny size a step of the model takes a millisecond, and what is around it shows.
Beside the two stand Lightning's own Trainer with its defaults, ``self.log`` every step,
and the loop of ``reference.py``, on the same model.

Each contender is a process, and all run in turns of half a second; the few steps that
a turn's end interrupts are above the figures that are taken. On a busy machine
``--clock processor`` tells more, with one thread.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import reference
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from plain_gpt import Size
from turns import OF_STEPS, rounds_of

from lmzoo.models.gpt import GPT
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training import optimizers
from lmzoo.training.checkpoints import Checkpoints, VerifiedCheckpointIO, versions
from lmzoo.training.divergence import SpikeGuard
from lmzoo.training.early_stopping import EarlyStopping
from lmzoo.training.freezing import Freezing
from lmzoo.training.frozen_features import FrozenFeatures
from lmzoo.training.health import HealthReport
from lmzoo.training.progress import TrainingProgress
from lmzoo.training.telemetry import MetricsFile, Samples, Telemetry
from lmzoo.training.watcher import Unprofiled

WARM_UP = 20
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
CLOCK = CLOCKS["wall"]
OPTIMIZER = {
    "class_path": "torch.optim.AdamW",
    "init_args": {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1, "fused": True},
}
SCHEDULE = {"class_path": "lmzoo.training.optimizers.WarmupCosine", "init_args": {}}
SIZES = {  # context, batch, and the model's own
    "small": (64, 12, {"d_model": 128, "num_layers": 4, "num_heads": 4}),
    "tiny": (8, 4, {"d_model": 16, "num_layers": 1, "num_heads": 2}),
}


def model(data: TextDataModule, size: str) -> GPT:
    torch.manual_seed(0)
    return GPT(data.vocab_size, SIZES[size][0], **SIZES[size][2])


def by_hand(data: TextDataModule, steps: int, size: str) -> list[float]:
    """Seconds of each step of a plain loop: fused AdamW, clipping, cosine."""
    net = model(data, size).train()
    optimizer = torch.optim.AdamW(net.parameter_groups(), **OPTIMIZER["init_args"])
    schedule = optimizers.WarmupCosine(optimizer, total_steps=steps)
    times, batches = [], iter(data.train_dataloader())
    for _ in range(steps):
        started = CLOCK()
        batch = next(batches)
        logits = net(batch.tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        times.append(CLOCK() - started)
    return times[WARM_UP:]


def by_reference(data: TextDataModule, steps: int, size: str) -> list[float]:
    """Seconds of each step of the loop that nanoGPT's figures describe."""
    context, batch, of = SIZES[size]
    shape = (of["num_layers"], of["num_heads"], of["d_model"], context, batch)
    sizes = Size(*shape, dropout=0.0, steps=steps, batches=0, keep=False)
    on, net = reference.Machine(torch.device("cpu")), model(data, size).train()
    optimizer = reference.optimizer_of(net, on)
    ids, times = torch.from_numpy(data.train_tokens.astype("int64")), []
    for step in range(steps):
        started = CLOCK()
        for group in optimizer.param_groups:
            group["lr"] = reference.rate(step, steps)
        reference.update(net, optimizer, ids, sizes, on)
        times.append(CLOCK() - started)
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
        self.ends.append(CLOCK())


def by_lmzoo(data: TextDataModule, steps: int, size: str) -> list[float]:
    """Seconds of each step of ``lmzoo fit``: every callback and logger of a run."""
    net = model(data, size)
    optimizers.use(net, OPTIMIZER, SCHEDULE)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, telemetry = Checkpoints(), Telemetry()
        samples = Samples(length=0)
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
            enable_progress_bar=True,
            enable_model_summary=False,
            limit_val_batches=1,
            logger=[
                TensorBoardLogger(folder, name="", version=""),
                MetricsFile(Path(folder) / "metrics.csv"),
            ],
            plugins=[VerifiedCheckpointIO()],
            profiler=Unprofiled(),
            callbacks=[
                EarlyStopping(),
                telemetry,
                samples,
                HealthReport(),
                Freezing(),
                FrozenFeatures(),
                SpikeGuard(),
                TrainingProgress(telemetry, samples),
                clock,
                checkpoints,
            ],
        )
        trainer.fit(net, datamodule=data)
    data.position, data.trainer = 0, None
    return gaps(clock.ends)


class Plain(LightningModule):
    """The same model as Lightning's documentation would train it."""

    def __init__(self, net: GPT, steps: int) -> None:
        super().__init__()
        self.net, self.steps = net, steps

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        logits = self.net(batch.tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        groups = self.net.parameter_groups()
        optimizer = torch.optim.AdamW(groups, **OPTIMIZER["init_args"])
        schedule = optimizers.WarmupCosine(optimizer, total_steps=self.steps)
        scheduler = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def by_lightning(data: TextDataModule, steps: int, size: str) -> list[float]:
    """Seconds of each step of a Trainer with its defaults."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=-1,
            gradient_clip_val=1.0,
            callbacks=[clock],
            default_root_dir=folder,
            logger=TensorBoardLogger(folder),
        )
        trainer.fit(Plain(model(data, size), steps), data.train_dataloader())
    data.position, data.trainer = 0, None
    return gaps(clock.ends)


def gaps(ends: list[float]) -> list[float]:
    """Seconds between ends of steps, the first few left out."""
    return [later - earlier for earlier, later in pairwise(ends)][WARM_UP:]


def p10(times: list[float]) -> float:
    """The time that a tenth of the steps stay below: what the machine can do."""
    return statistics.quantiles(times, n=10)[0]


CONTENDERS = {
    "hand": by_hand,
    "lmzoo": by_lmzoo,
    "lightning": by_lightning,
    "reference": by_reference,
}


def figures(times: list[float]) -> dict[str, float]:
    """What is kept of a contender's steps.

    Raises:
        SystemExit: a turn holds so few steps that many were interrupted by its end.
    """
    found = {"p10_ms": p10(times) * 1e3, "median_ms": statistics.median(times) * 1e3}
    if found["median_ms"] > OF_STEPS * 1e3 / 4:
        sys.exit(f"a turn of {OF_STEPS} s holds too few steps on this busy machine")
    return found


def main() -> None:
    """Rounds in turns, every other one in reversed order; each one's own ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", choices=CONTENDERS, help="one of them, alone")
    options = parser.parse_args()
    global CLOCK
    CLOCK = CLOCKS[options.clock]
    context, batch, _ = SIZES[options.size]
    data = TextDataModule(context_length=context, batch_size=batch)
    if options.only:
        times = CONTENDERS[options.only](data, options.steps, options.size)
        print(json.dumps(figures(times)))
        return
    rows = rounds_of(__file__, list(CONTENDERS), options.rounds, sys.argv[1:])
    ratios = {
        f"{name}, {figure}": statistics.median(
            row[name][figure] / row["hand"][figure] for row in rows
        )
        for name in CONTENDERS
        for figure in ("p10_ms", "median_ms")
    }
    result = {
        "ratio to the hand-written loop, median of rounds": ratios,
        "size": options.size,
        "clock": options.clock,
        "parameters": sum(p.numel() for p in model(data, options.size).parameters()),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
