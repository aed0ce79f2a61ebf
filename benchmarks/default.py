"""Does the README's first command beat counting, and how long does it take?

python benchmarks/default.py --seeds 1337,1338,1339

``lmzoo fit --model gpt`` and nothing else but a seed, whole processes from the shell,
on the default corpus; beside each run the counting and compressing floors of the same
text. The command fails where a run does not end below the 5-gram floor.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import shell

from lmzoo.training.checkpoints import versions

FLOOR = "5-gram"


def fit(seed: int, more: list[str]) -> dict[str, Any]:
    """One run; its figures and its floors."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        line = [sys.executable, "-m", "lmzoo", "fit", "--model", "gpt"]
        where = ["--trainer.default_root_dir", str(run)]
        seconds, _ = shell([*line, "--seed_everything", str(seed), *where, *more])
        summary = json.loads((run / "summary.json").read_text())
    best = summary["best"]["metrics"]["bits_per_char"]
    floors = {name: row["bits_per_char"] for name, row in summary["floors"].items()}
    return {
        "seed": seed,
        "seconds": seconds,
        "steps": summary["steps"],
        "bits_per_char": best,
        "test": summary["test"]["bits_per_char"],
        "below": floors[FLOOR] - best,
        "floors": floors,
        "parameters": summary["parameters"],
    }


def main() -> None:
    """A line for each seed, and the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1337")
    options, more = parser.parse_known_args()
    rows = []
    print("| seed | wall, s | steps | bits/char, val | test | below the 5-gram |")
    print("|---|---|---|---|---|---|")
    for seed in options.seeds.split(","):
        row = fit(int(seed), more)
        rows.append(row)
        print(
            f"| {seed} | {row['seconds']:.0f} | {row['steps']:,} "
            f"| {row['bits_per_char']:.3f} | {row['test']:.3f} | {row['below']:.3f} |",
            flush=True,
        )
    median = statistics.median(row["bits_per_char"] for row in rows)
    print(f"\nMedian {median:.3f} bits per character.")
    print(json.dumps({"rows": rows, **versions()}))
    if not all(row["below"] > 0 for row in rows):
        sys.exit(f"not below the {FLOOR} floor in every run")


if __name__ == "__main__":
    main()
