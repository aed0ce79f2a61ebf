"""Does ``--compile`` pay on a CPU, and after how many steps?

python benchmarks/compile.py --steps 2000 --rounds 3 --write

``lmzoo fit`` on nanoGPT's CPU size (4 layers, 4 heads, 128 wide, context 64, batch 12),
whole processes in turns: without, with ``--compile`` and an empty cache of the
compiler, and once more with the cache that it left. The first step's time is from the
start of the process to the first row of ``metrics.csv``; a step's is between two rows,
every step having one, and of those the tenth percentile and the median of the second
half of the run. What compiling costs is all that the process takes longer than its
steps would, validation's own compilation included, less the same without; divided by
what a median step gains it gives the steps after which it pays.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from blocks import tree
from race import HERE

from lmzoo.training.checkpoints import versions

MODELS, PRECISIONS = ("gpt", "palm"), ("32-true", "bf16-mixed")
WAYS = ("plain", "compiled, cold", "compiled, warm")
BATCH, CONTEXT = 12, 64
EVERY = 0.05  # seconds between looks at metrics.csv
RESULT = HERE / "results" / "compile.md"

PAGE = """\
# Compiled and plain, on a CPU

Tree {tree}, {versions}. {threads} thread(s) of {cores} cores, load average {before:.1f}
before and {after:.1f} after. 4 layers, 4 heads, 128 wide, context 64, batch 12, AdamW;
{given.rounds} round(s) of {given.steps} steps in turns, medians.

    OMP_NUM_THREADS={threads} python benchmarks/compile.py --steps {given.steps} \
--rounds {given.rounds}{only} --write

{rows}
"""
HEAD = """\
| model, precision | way | first step after, s | whole process, s | step, ms, p10 \
| median | plain p10 over this | pays after, steps |
|---|---|---|---|---|---|---|---|"""


class Run(NamedTuple):
    """One process, in seconds."""

    first: float  # until the first step was done
    wall: float
    p10: float  # of a step
    median: float

    def besides(self, steps: int) -> float:
        """What was no step."""
        return self.wall - steps * self.median


def words(model: str, precision: str, text: Path, steps: int) -> list[str]:
    """The command, as far as every way shares it."""
    given = {
        "model": model,
        "model.num_layers": 4,
        "model.num_heads": 4,
        "model.d_model": 128,
        "model.context_length": CONTEXT,
        "data.path": text,
        "data.batch_size": BATCH,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.log_every_n_steps": 1,
        "trainer.precision": precision,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "samples.length": 0,
    }
    told = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "lmzoo", "fit", *told]


def fit(line: list[str], compiled: bool, cache: Path) -> Run:
    """One run of ``lmzoo fit``.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryDirectory() as place:
        rows, first = Path(place) / "run" / "metrics.csv", 0.0
        line = [*line, "--trainer.default_root_dir", f"{place}/run"]
        line += ["--compile", str(compiled).lower()]
        settings = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
        with (Path(place) / "said").open("w+") as said:
            began = time.perf_counter()
            process = subprocess.Popen(line, stdout=said, stderr=said, env=settings)
            while process.poll() is None:
                if not first and rows.is_file() and rows.read_text().count("\n") > 1:
                    first = time.perf_counter() - began
                time.sleep(EVERY)
            wall = time.perf_counter() - began
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{' '.join(line)}\n{said.read()}")
        with rows.open(encoding="utf-8") as file:
            found = [row["tokens_per_second"] for row in csv.DictReader(file)]
    times = [BATCH * CONTEXT / float(speed) for speed in found if speed]
    times = times[len(times) // 2 :]
    p10 = statistics.quantiles(times, n=10)[0]
    return Run(first, wall, p10, statistics.median(times))


def measured(line: list[str], rounds: int) -> dict[str, list[Run]]:
    """Every way in every round, in turns."""
    found: dict[str, list[Run]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for way in WAYS:
                run = fit(line, way != "plain", Path(cache))
                found[way].append(run)
                print(json.dumps({"way": way, **run._asdict()}), flush=True)
    return found


def pays(plain: list[Run], compiled: list[Run], steps: int) -> str:
    """Steps after which the time for compiling is won back; medians of the rounds."""
    pairs = list(zip(plain, compiled, strict=True))
    gain = statistics.median(a.median - b.median for a, b in pairs)
    cost = statistics.median(b.besides(steps) - a.besides(steps) for a, b in pairs)
    return f"{max(0, cost) / gain:,.0f}" if gain > 0 else "never"


def table(what: str, found: dict[str, list[Run]], steps: int) -> list[str]:
    """A line for each way."""
    lines = []
    for way, runs in found.items():
        first, wall, p10, median = (
            statistics.median(getattr(run, key) for run in runs) for key in Run._fields
        )
        ratio = statistics.median(
            one.p10 / run.p10 for one, run in zip(found["plain"], runs, strict=True)
        )
        after = "" if way == "plain" else pays(found["plain"], runs, steps)
        lines.append(
            f"| {what} | {way} | {first:.1f} | {wall:.1f} | {1e3 * p10:.1f} "
            f"| {1e3 * median:.1f} | {ratio:.2f} | {after} |"
        )
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    corpora = Path(os.environ.get("LMZOO_CORPORA", "."))
    default = corpora / "tinyshakespeare" / "input.txt"
    parser.add_argument("--text", type=Path, default=default)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    parser.add_argument("--write", action="store_true", help="the page in results/")
    given = parser.parse_args()
    rows, load = [HEAD], os.getloadavg()[0]
    for model in given.model or MODELS:
        for precision in given.precision or PRECISIONS:
            line = words(model, precision, given.text, given.steps)
            found = measured(line, given.rounds)
            rows += table(f"{model}, {precision}", found, given.steps)
    only = "".join(f" --model {name}" for name in given.model or ())
    only += "".join(f" --precision {name}" for name in given.precision or ())
    page = PAGE.format(
        tree=tree(),
        only=only,
        versions=", ".join(f"{name} {value}" for name, value in versions().items()),
        threads=torch.get_num_threads(),
        cores=os.cpu_count(),
        before=load,
        after=os.getloadavg()[0],
        given=given,
        rows="\n".join(rows),
    )
    print(page)
    if given.write:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
