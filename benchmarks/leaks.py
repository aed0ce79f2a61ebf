"""Does a long run leak? Memory and open files over many steps, after a warm-up.

python benchmarks/leaks.py --steps 100000 --out benchmarks/results/leaks.md

Two short runs beside it: a clean one, which must be flat too, and the control, which
keeps hold of memory at every step and of a file at every look, and must not be.
"""

import argparse
import os
import resource
import tempfile
import time
from dataclasses import dataclass
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
SHORT = 5000  # steps of the control, and of the clean run beside it
LEAK = 1 << 14  # bytes that the control keeps hold of at every step


class Record(Callback):
    """Memory and file handles, so many times during a run.

    Args:
        every: steps between two looks.
        leak: bytes to keep hold of at every step, with a file at every look: for the
            control.
    """

    def __init__(self, every: int, leak: int = 0) -> None:
        self.every, self.leak = every, leak
        self.rows: list[dict[str, int]] = []
        self.kept: list[Any] = []

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
            if self.leak:
                self.kept.append(open(os.devnull, "rb"))  # noqa: SIM115
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


@dataclass(frozen=True)
class Growth:
    """What changed after the warm-up."""

    memory: (
        float  # the largest of the second half over the largest of the first, less 1
    )
    files: int  # most open at a look, less fewest

    @property
    def flat(self) -> bool:
        return self.memory <= FLAT and self.files == 0


def growth(rows: list[dict[str, int]]) -> Growth:
    """Of a record, its first part left out."""
    settled = rows[int(len(rows) * WARM_UP) :]
    half = len(settled) // 2
    early = [row["bytes"] for row in settled[:half]]
    late = [row["bytes"] for row in settled[half:]]
    files = [row["files"] for row in settled]
    return Growth(max(late) / max(early) - 1, max(files) - min(files))


def page(
    steps: int, rows: list[dict[str, int]], found: dict[str, Growth], seconds: float
) -> str:
    """The result as Markdown."""
    seen = ", ".join(f"{name} {version}" for name, version in versions().items())
    table = "\n".join(
        f"| {name} | {one.memory:+.2%} | {one.files} | {'yes' if one.flat else 'no'} |"
        for name, one in found.items()
    )
    looks = "\n".join(
        f"| {row['step']:,} | {row['bytes'] / (1 << 20):.1f} | {row['files']} |"
        for row in rows[:: max(1, len(rows) // 10)]
    )
    return f"""# A long run leaks nothing

A gpt of one layer, every callback and logger of `lmzoo fit`, on the CPU. Memory is what
the process has resident, looked at {len(rows)} times; the first {WARM_UP:.0%}
are left out, and the largest of the second half of the rest is set against the
largest of the first half. Flat is at most {FLAT:.0%} more, and no file handle more or
fewer. The control keeps hold of {LEAK:,} bytes at every step and of a file at every
look.
{seconds:.0f} s in all, on a machine with other work. {seen}.

    python benchmarks/leaks.py --steps {steps} --out benchmarks/results/leaks.md

| run | memory | file handles | flat |
|---|---|---|---|
{table}

| step of the long run | resident MiB | open files |
|---|---|---|
{looks}
"""


def main() -> None:
    """The run, and two short ones, of which one leaks on purpose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args()
    began, short = time.monotonic(), min(SHORT, options.steps)
    rows = train(options.steps)
    long, clean, control = (
        growth(one) for one in (rows, train(short), train(short, LEAK))
    )
    found = {
        f"{options.steps:,} steps": long,
        f"{short:,} steps": clean,
        f"{short:,} steps that leak (the control)": control,
    }
    shown = page(options.steps, rows, found, time.monotonic() - began)
    print(shown)
    if options.out:
        options.out.write_text(shown, encoding="utf-8")
    caught = control.memory > FLAT and control.files > 0
    raise SystemExit(not (long.flat and clean.flat and caught))


if __name__ == "__main__":
    main()
