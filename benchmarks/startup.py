"""Seconds until the commands that need no torch have answered; median of several runs.

python benchmarks/startup.py --runs 11
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "lmzoo --help": [sys.executable, "-m", "lmzoo", "--help"],
    "lmzoo models": [sys.executable, "-m", "lmzoo", "models"],
    "lmzoo fit --help": [sys.executable, "-m", "lmzoo", "fit", "--help"],
    "lmzoo fit --model gtp": [sys.executable, "-m", "lmzoo", "fit", "--model", "gtp"],
}


def main() -> None:
    """Print one line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    print("| command | median s | least s |\n|---|---|---|")
    for name, line in COMMANDS.items():
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            subprocess.run(line, capture_output=True, check=False)
            times.append(time.perf_counter() - started)
        print(f"| `{name}` | {statistics.median(times):.3f} | {min(times):.3f} |")


if __name__ == "__main__":
    main()
