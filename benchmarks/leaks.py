"""Does a long run leak? Memory and open files over many steps, after a warm-up.

python benchmarks/leaks.py --steps 100000 --out benchmarks/results/leaks.md

The command itself, looked at from outside while it trains, in a terminal of its own.
Two short runs beside it: a clean one, which must be flat too, and the control, whose
model keeps hold of memory at every step and of a file at every hundredth, and must not
be.
"""

import argparse
import os
import pty
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lmzoo.training.checkpoints import versions

LOOK = 0.25  # seconds between two looks
WIDTH = 20  # rows of the page's table, at most
FLAT = 0.01  # growth of memory, at most
SHORT = 5000  # steps of the control, and of the clean run beside it
LEAK = 1 << 14  # bytes that the control keeps hold of at every step
COMMAND = (
    "fit --data.corpus pydoc --data.batch_size 4 --data.max_val_tokens 20000 "
    "--model.d_model 16 --model.num_layers 1 --model.num_heads 2 "
    "--model.context_length 16 --samples.length 8 --freeze.embeddings true "
    "--spike_guard.enabled true --spike_guard.most 1000 "
    "--early_stopping.patience 1000000 --trainer.accelerator cpu"
)
LEAKY = f'''
import os

from lmzoo import register_model
from lmzoo.models.gpt import GPT

kept = []


@register_model("leaky")
class Leaky(GPT):
    """A gpt that keeps hold of what it should let go."""

    def training_step(self, batch, batch_idx):
        kept.append(bytearray(os.urandom({LEAK})))
        if batch_idx % 100 == 0:
            kept.append(open(os.devnull, "rb"))
        return super().training_step(batch, batch_idx)
'''


@dataclass(frozen=True)
class Look:
    """What the process had at one moment."""

    step: int
    memory: int  # bytes resident
    files: int

    @classmethod
    def of(cls, pid: int, run: Path) -> "Look":
        """At the last step of which a row is written; OSError if it has ended."""
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        files = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(_step(run), int(pages) * resource.getpagesize(), files)


def _step(run: Path) -> int:
    """The last of metrics.csv; 0 before the first."""
    with suppress(OSError, ValueError), (run / "metrics.csv").open("rb") as file:
        file.seek(max(0, os.path.getsize(file.name) - 4096))
        return int(file.read().splitlines()[-1].partition(b",")[0])
    return 0


def train(steps: int, leaky: bool = False) -> list[Look]:
    """Type the command, and look at it again and again until its last step.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryDirectory() as place:
        plugin, run, said = (Path(place) / name for name in ("leaky.py", "run", "said"))
        plugin.write_text(LEAKY, encoding="utf-8")
        model = f"--plugin {plugin} --model leaky" if leaky else "--model gpt"
        more = f"--trainer.max_steps {steps} --trainer.default_root_dir {run}"
        more += f" --trainer.val_check_interval {max(1, steps // 20)}"
        words = [sys.executable, "-m", "lmzoo", *f"{COMMAND} {model} {more}".split()]
        ours, theirs = pty.openpty()  # else there is no progress line
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        reader = threading.Thread(target=_read, args=(ours, said))
        reader.start()
        looks = []
        while process.poll() is None:
            with suppress(OSError):
                looks.append(Look.of(process.pid, run))
            time.sleep(LOOK)
        reader.join()
        if process.returncode:
            raise SystemExit(said.read_text(encoding="utf-8", errors="replace")[-2000:])
    return [look for look in looks if 0 < look.step < steps]


def _read(terminal: int, said: Path) -> None:
    """What it prints, until it ends, which Linux tells as an error."""
    screen = os.fdopen(terminal, "rb", buffering=0)
    with screen, said.open("wb") as file, suppress(OSError):
        while part := screen.read(1 << 16):
            file.write(part)


@dataclass(frozen=True)
class Growth:
    """What changed between the second and the last quarter of the steps."""

    memory: float  # the median of the last over that of the second, less 1
    files: int  # the number most often open in the last, less that in the second

    @property
    def flat(self) -> bool:
        return self.memory <= FLAT and self.files == 0


def growth(looks: list[Look], steps: int) -> Growth:
    """Of the looks at a run; in its first quarter allocators and caches fill."""
    early, late = (
        [look for look in looks if quarter == 4 * look.step // steps]
        for quarter in (1, 3)
    )
    memory = [statistics.median(look.memory for look in part) for part in (early, late)]
    files = [statistics.mode(look.files for look in part) for part in (early, late)]
    return Growth(memory[1] / memory[0] - 1, files[1] - files[0])


def page(
    steps: int, looks: list[Look], found: dict[str, Growth], seconds: float
) -> str:
    """The result as Markdown."""
    seen = ", ".join(f"{name} {version}" for name, version in versions().items())
    table = "\n".join(
        f"| {name} | {one.memory:+.2%} | {one.files:+} | "
        f"{'yes' if one.flat else 'no'} |"
        for name, one in found.items()
    )
    rows = "\n".join(
        f"| {look.step:,} | {look.memory / (1 << 20):.1f} | {look.files} |"
        for look in looks[:: -(-len(looks) // WIDTH)]
    )
    return f"""# A long run leaks nothing

The command as it is typed, in a terminal: TensorBoard events, metrics.csv, the progress
line, samples, health report, early stopping, checkpoints, frozen embeddings and the
spike guard. Not in it: `--ema.decay`, which the spike guard excludes, and the kept
features of a frozen classifier. Looked at from outside through /proc, {len(looks):,}
times; memory is what is resident. The first quarter of the steps is left out; of memory
the median of the last quarter is set against that of the second, of open files the
number seen most often. Flat is at most {FLAT:.0%} more memory, and as many files. The
control's model keeps hold of {LEAK:,} bytes at every step and of a file at every
hundredth. {seconds:.0f} s in all. {seen}.

    python benchmarks/leaks.py --steps {steps} --out benchmarks/results/leaks.md

    lmzoo {COMMAND}

| run | memory | open files | flat |
|---|---|---|---|
{table}

| step of the long run | resident MiB | open files |
|---|---|---|
{rows}
"""


def main() -> None:
    """The run, and two short ones, of which one leaks on purpose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args()
    began, short = time.monotonic(), min(SHORT, options.steps)
    looks = train(options.steps)
    long = growth(looks, options.steps)
    clean, control = (growth(train(short, leaky), short) for leaky in (False, True))
    found = {
        f"{options.steps:,} steps": long,
        f"{short:,} steps": clean,
        f"{short:,} steps that leak (the control)": control,
    }
    shown = page(options.steps, looks, found, time.monotonic() - began)
    print(shown)
    if options.out:
        options.out.write_text(shown, encoding="utf-8")
    caught = control.memory > FLAT and control.files > 0
    raise SystemExit(not (long.flat and clean.flat and caught))


if __name__ == "__main__":
    main()
