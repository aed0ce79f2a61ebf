"""Is a budget in seconds kept? Training seconds of ``lmzoo fit`` against its budget.

python benchmarks/budget.py --models ff,gpt,lstm --seconds 10,30,60 --rounds 2

Start-up, rehearsal and evaluation are outside the budget and outside the clock. Beside
the ratio stands the share of a core that the process got while it ran (processor time
by wall time): far below the number of threads, the machine was doing something else,
and the ratio says little about lmzoo. There, ``--clock processor`` lets the run take
its processor time for the time of day (1 thread), which tells how well the rehearsal
foresees the run, whatever the neighbours do.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lmzoo.training.budget import TOLERANCE
from lmzoo.training.checkpoints import versions

CLOCKS = {
    "wall": ("-m", "lmzoo"),
    "processor": (
        "-c",
        "import sys, time; time.perf_counter = time.process_time; "
        "from lmzoo.cli import main; sys.exit(main(sys.argv[1:]))",
    ),
}


def run(
    model: str, seconds: float, threads: int, clock: str, options: list[str]
) -> dict[str, Any]:
    """One fit; its training seconds, steps and share of a core."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        line = [
            *(sys.executable, *CLOCKS[clock], "fit", "--model", model),
            *("--budget.seconds", str(seconds)),
            *("--trainer.default_root_dir", f"{folder}/run"),
            *("--trainer.enable_progress_bar", "false", "--samples.length", "0"),
            *("--early_stopping.enabled", "false", *options),
        ]
        done = subprocess.run(
            line,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(line)}\n{done.stderr}")
        summary = json.loads((Path(folder) / "run" / "summary.json").read_text())
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "model": model,
        "budget": seconds,
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "ratio": summary["seconds"] / seconds,
        "cores": spent / wall,
    }


def main() -> None:
    """Interleaved rounds; the median and the worst ratio of each budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="ff,gpt,lstm,conv,mlp,rnn")
    parser.add_argument("--seconds", default="10,30,60")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options, more = parser.parse_known_args()
    rows = []
    print("| round | model | budget, s | steps | training, s | ratio | cores |")
    print("|---|---|---|---|---|---|---|")
    for number in range(1, options.rounds + 1):
        for seconds in map(float, options.seconds.split(",")):
            for model in options.models.split(","):
                row = run(model, seconds, options.threads, options.clock, more)
                rows.append(row)
                print(
                    f"| {number} | {model} | {seconds:g} | {row['steps']:,} "
                    f"| {row['seconds']:.2f} | {row['ratio']:.3f} "
                    f"| {row['cores']:.2f} |",
                    flush=True,
                )
    print("\n| budget, s | runs | median ratio | worst ratio | within 5 % |")
    print("|---|---|---|---|---|")
    for seconds in sorted({row["budget"] for row in rows}):
        ratios = [row["ratio"] for row in rows if row["budget"] == seconds]
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        kept = sum(abs(ratio - 1) <= TOLERANCE for ratio in ratios)
        print(
            f"| {seconds:g} | {len(ratios)} | {statistics.median(ratios):.3f} "
            f"| {worst:.3f} | {kept} of {len(ratios)} |"
        )
    print(
        "\n"
        + json.dumps({"threads": options.threads, "clock": options.clock, **versions()})
    )


if __name__ == "__main__":
    main()
