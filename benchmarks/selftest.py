"""The long form of ``lmzoo selftest``: more kills, every resume point, each as typed.

python benchmarks/selftest.py --out benchmarks/results/selftest.md
"""

import argparse
import sys
from pathlib import Path

from lmzoo.cli import main


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="benchmarks/results/selftest.md", type=Path)
    parser.add_argument("--only", help="some of the checks, with commas between")
    options = parser.parse_args()
    only = ["--only", options.only] if options.only else []
    return main(["selftest", "--long", "--report", str(options.out), *only])


if __name__ == "__main__":
    sys.exit(run())
