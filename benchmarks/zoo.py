"""Every member for the same seconds on the same text, one table beside the floors.

python benchmarks/zoo.py --seconds 60 --path tinyshakespeare/input.txt
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

MEMBERS = {
    "ngram": [],
    "bare": [],
    "mlp": [],
    "ff": [],
    "rnn": [],
    "gru": [],
    "lstm": [],
    "mingru": [],
    "mamba2": [],
    "conv": [],
    "gpt": [],
    "heaviside detached": ["--model.setting", "detached"],
    "heaviside cross-entropy": ["--model.setting", "cross-entropy"],
    "heaviside surrogate": ["--model.setting", "surrogate"],
    "conv-noncausal": [],
    "transformer-unmasked": [],
}
SPLIT = ["--data.val_fraction", "0.1", "--data.test_fraction", "0"]


def fit(name: str, options: list[str], folder: Path) -> dict:
    """Run one member in a process of its own; its summary."""
    line = [sys.executable, "-m", "lmzoo", "fit", "--model", name.split()[0], *options]
    line += ["--trainer.default_root_dir", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads((folder / "summary.json").read_text())


def main() -> None:
    """Print a Markdown table, the best first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--path", help="a text file; default: the named corpus")
    parser.add_argument("--out", default="runs/zoo")
    parser.add_argument(
        "--reuse", action="store_true", help="take the summaries that are there"
    )
    parser.add_argument("--only", nargs="*", default=list(MEMBERS))
    options = parser.parse_args()
    source = ["--data.path", options.path] if options.path else []
    source = source or ["--data.corpus", "tinyshakespeare"]
    rows, floors = [], {}
    for name in options.only:
        line = [*MEMBERS[name], *source, *SPLIT]
        if name != "ngram":
            line += ["--budget.seconds", str(options.seconds)]
        folder = Path(options.out) / name.replace(" ", "-")
        done = folder / "summary.json"
        if options.reuse and done.is_file():
            summary = json.loads(done.read_text())
        else:
            shutil.rmtree(folder, ignore_errors=True)
            summary = fit(name, line, folder)
        floors = summary["floors"]
        rows.append((name, summary))
        print(name, summary["best"]["metrics"]["bits_per_char"], file=sys.stderr)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(
        f"{options.seconds:g} seconds each, {threads} thread(s) of {os.cpu_count()} "
        f"({platform.machine()}), seed 1337, {json.dumps(rows[0][1]['versions'])}\n"
    )
    print(
        "| model | parameters | steps | tokens/s | nats/token | bits/char | context |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, s in sorted(rows, key=lambda r: r[1]["best"]["metrics"]["nll"]):
        best = s["best"]["metrics"]
        print(
            f"| {name} | {s['parameters']:,} | {s['steps']:,} | "
            f"{s['tokens_per_second']:,.0f} | {best['nll']:.3f} | "
            f"{best['bits_per_char']:.3f} | {s['context']} |"
        )
    for name, row in floors.items():
        nats = f"{row['nll']:.3f}" if row.get("nll") is not None else ""
        print(f"| floor: {name} | | | | {nats} | {row['bits_per_char']:.3f} | |")


if __name__ == "__main__":
    main()
