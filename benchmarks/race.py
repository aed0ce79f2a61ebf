"""Who is furthest when the reference's run is over, and who is at its end point first?

python benchmarks/race.py --text input.txt --cells gpt:1,gpt:0.38,lstm:1,lstm:0.15

Whole processes from the shell: imports, training and the closing full pass over the
held-out tenth. For every seed the reference (``reference.py``) runs first, then each
cell: ``configs/race_NAME.yaml`` with as many steps as fit into that share of the time
the reference took. What a step takes, and all that is no step, comes from the cell's
run before, at first from a short one that is not counted. Nats are those of the last
weights over the full held-out part in fresh windows of 64, on both sides. A model with
a state has a second line, with the state carried from window to window: there it sees
more of the text than the reference does.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmzoo.training.checkpoints import versions

HERE = Path(__file__).parent
STEPS = 2000  # of the reference
LEAST = 100  # steps of a run that only measures what a step takes


@dataclass
class Cell:
    """A contender and the share of the reference's time that it has."""

    name: str
    share: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    per_step: float = 0.0
    besides: float = 0.0  # seconds of the process that are no training

    @classmethod
    def of(cls, text: str) -> "Cell":
        """``lstm:0.15``."""
        name, _, share = text.partition(":")
        return cls(name, float(share or 1))

    def run(self, text: Path, steps: int, seed: int, more: list[str]) -> None:
        """One run; remembers what its steps took."""
        row = contender(self.name, text, steps, seed, more)
        self.per_step = row["training"] / steps
        self.besides = row["seconds"] - row["training"]
        self.rows.append(row)

    def steps(self, seconds: float) -> int:
        """Steps that fit into so many seconds of a whole process."""
        return max(LEAST, int((seconds * self.share - self.besides) / self.per_step))


def shell(line: list[str]) -> tuple[float, str]:
    """Seconds and output of a command.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr}")
    return seconds, done.stdout


def reference(text: Path, steps: int, seed: int) -> dict[str, Any]:
    """One run of the plain loop."""
    line = [sys.executable, str(HERE / "reference.py"), "--text", str(text)]
    seconds, said = shell([*line, "--steps", str(steps), "--seed", str(seed)])
    return {**json.loads(said), "seconds": seconds}


def contender(
    name: str, text: Path, steps: int, seed: int, more: list[str]
) -> dict[str, Any]:
    """One run of ``lmzoo fit``, validated once, at its end."""
    config = HERE.parent / "configs" / f"race_{name}.yaml"
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = shell(
            [
                *(sys.executable, "-m", "lmzoo", "fit", "--config", str(config)),
                *("--data.path", str(text), "--seed_everything", str(seed)),
                *("--trainer.max_steps", str(steps), "--trainer.accelerator", "cpu"),
                *("--trainer.val_check_interval", str(steps)),
                *("--trainer.enable_progress_bar", "false"),
                *("--trainer.default_root_dir", f"{folder}/run", *more),
            ]
        )
        summary = json.loads((Path(folder) / "run" / "summary.json").read_text())
    figures = [summary["last"], summary["other_protocol"]]
    own, other = (figure and figure["metrics"]["nll"] for figure in figures)
    carrying = "carried" in summary["context"]
    return {
        "seconds": seconds,
        "training": summary["seconds"],
        "steps": steps,
        "seed": seed,
        "nats": other if carrying else own,
        "carried": own if carrying else other,
        "parameters": summary["parameters"],
    }


def table(plain: list[dict[str, Any]], cells: list[Cell]) -> str:
    """Medians over the seeds; what a cell reached against the reference's end point."""
    took = statistics.median(row["seconds"] for row in plain)
    goal = statistics.median(row["nats"] for row in plain)
    lines = [
        "| contender | wall, s | steps | nats, full pass, by seed | median "
        f"| of the reference's wall | at {goal:.3f} or below |",
        "|---|---|---|---|---|---|---|",
    ]
    measured = [("reference", plain, "nats")]
    for cell in cells:
        measured.append((cell.name, cell.rows, "nats"))
        if cell.rows[0]["carried"] is not None:
            measured.append((f"{cell.name}, state carried", cell.rows, "carried"))
    for name, rows, figure in measured:
        wall, steps = (
            statistics.median(row[key] for row in rows) for key in ("seconds", "steps")
        )
        nats = [row[figure] for row in rows]
        there = sum(value <= goal for value in nats)
        said = f"{there} of {len(nats)}"
        if there == len(nats) and rows is not plain:
            said += f": {took / wall:.2f} x faster"
        lines.append(
            f"| {name} | {wall:.1f} | {steps:.0f} "
            f"| {', '.join(f'{value:.3f}' for value in nats)} "
            f"| {statistics.median(nats):.3f} | {wall / took:.2f} "
            f"| {said} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The race, and its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    corpora = Path(os.environ.get("LMZOO_CORPORA", "."))
    default = corpora / "tinyshakespeare" / "input.txt"
    parser.add_argument("--text", type=Path, default=default)
    parser.add_argument("--cells", default="gpt:1,gpt:0.38,lstm:1,lstm:0.15")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--scale", type=float, default=1.0, help="of the reference")
    options, more = parser.parse_known_args()
    cells = [Cell.of(text) for text in options.cells.split(",")]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for cell in cells:
        cell.run(options.text, LEAST, 0, more)
        cell.rows.clear()
    plain: list[dict[str, Any]] = []
    for seed in seeds:
        plain.append(reference(options.text, int(STEPS * options.scale), seed))
        for cell in cells:
            steps = cell.steps(plain[-1]["seconds"])
            cell.run(options.text, steps, seed, more)
            print(json.dumps({"contender": cell.name, **cell.rows[-1]}), flush=True)
    print(table(plain, cells))
    print(json.dumps({"reference": plain, **versions()}))


if __name__ == "__main__":
    main()
