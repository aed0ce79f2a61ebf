"""Seconds until commands have answered, and until ``lmzoo fit`` takes its first step.

python benchmarks/startup.py --runs 11

The first table is of commands that need no torch. The second sets ``lmzoo fit``, from
the shell to the end of the first optimizer step with the text's store already built,
beside ``import lightning.pytorch.cli`` alone, in turns; both are ended there and then.
``--clock processor`` counts processor time, which a busy machine moves less.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "lmzoo --help": [sys.executable, "-m", "lmzoo", "--help"],
    "lmzoo models": [sys.executable, "-m", "lmzoo", "models"],
    "lmzoo fit --help": [sys.executable, "-m", "lmzoo", "fit", "--help"],
    "lmzoo fit --model gtp": [sys.executable, "-m", "lmzoo", "fit", "--model", "gtp"],
}
FIRST_STEP = """\
import os
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *_: os._exit(0))
import sys
from lmzoo.cli import main
sys.exit(main(sys.argv[1:]) or 1)
"""
FIT = ["fit", "--model", "gpt", "--samples.length", "0"]
IMPORT = "import lightning.pytorch.cli"
BARE = f"{IMPORT}, os; os._exit(0)"  # neither side waits for Python to tidy up
GOAL = 1.5


def spent() -> float:
    """Processor seconds of all that has been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": spent}


def seconds(line: list[str], clock: str, check: bool = False) -> float:
    """Of one process."""
    started = CLOCKS[clock]()
    subprocess.run(line, capture_output=True, check=check)
    return CLOCKS[clock]() - started


def first_step(clock: str) -> float:
    """Of ``lmzoo fit`` up to the end of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        where = ["--trainer.default_root_dir", f"{folder}/run"]
        line = [sys.executable, "-c", FIRST_STEP, *FIT, *where]
        return seconds(line, clock, check=True)


def answers(runs: int, clock: str) -> None:
    """One line a command."""
    print("| command | median s | least s |\n|---|---|---|")
    for name, line in COMMANDS.items():
        times = [seconds(line, clock) for _ in range(runs)]
        print(f"| `{name}` | {statistics.median(times):.3f} | {min(times):.3f} |")


def starts(runs: int, clock: str) -> None:
    """The first step against the import, in turns."""
    first_step(clock)  # builds the store
    fits, imports = [], []
    for _ in range(runs):
        imports.append(seconds([sys.executable, "-c", BARE], clock, check=True))
        fits.append(first_step(clock))
    print("\n| until | median s | least s |\n|---|---|---|")
    for name, times in ((IMPORT, imports), ("first step of lmzoo fit", fits)):
        print(f"| `{name}` | {statistics.median(times):.2f} | {min(times):.2f} |")
    pairs = zip(fits, imports, strict=True)
    ratio = statistics.median(fit / only for fit, only in pairs)
    print(f"\nMedian ratio {ratio:.2f} (at most {GOAL}).")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    answers(options.runs, options.clock)
    starts(options.runs, options.clock)


if __name__ == "__main__":
    main()
