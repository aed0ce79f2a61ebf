"""Who is furthest when the reference's run is over, and who is at its end point first?

python benchmarks/race.py --text input.txt --cells gpt:1,gpt:0.38,lstm:1,lstm:0.15

Whole processes from the shell: imports, training and the closing full pass over the
held-out tenth. All runs of a seed, the reference (``reference.py``) among them, run in
turns of a second, stopped and continued by signals; a run's time is the sum of its
turns. A machine whose speed drifts is so equally slow for each. A cell is
``configs/race_NAME.yaml`` with as many steps as fit into that share of the reference's
time, by a rehearsal of two short runs of each; every seed has the same number. Nats are
those of the last weights over the full held-out part in fresh windows of 64, on both
sides. A model with a state has a second line, with the state carried from window to
window: there it sees more of the text than the reference does.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turns import Process, in_turns, last_line

from lmzoo.training.checkpoints import versions

HERE = Path(__file__).parent
STEPS = 2000  # of the reference
REHEARSED = (200, 600)  # steps of the two short runs


def reference(text: Path, steps: int, seed: int) -> Process:
    """The plain loop."""
    line = [sys.executable, str(HERE / "reference.py"), "--text", str(text)]
    line += ["--steps", str(steps), "--seed", str(seed)]
    return Process(line, last_line)


def contender(
    name: str, text: Path, steps: int, seed: int, folder: Path, more: list[str]
) -> Process:
    """``lmzoo fit``, validated once, at its end."""
    config = HERE.parent / "configs" / f"race_{name}.yaml"
    line = [
        *(sys.executable, "-m", "lmzoo", "fit", "--config", str(config)),
        *("--data.path", str(text), "--seed_everything", str(seed)),
        *("--trainer.max_steps", str(steps), "--trainer.accelerator", "cpu"),
        *("--trainer.val_check_interval", str(steps)),
        *("--trainer.enable_progress_bar", "false"),
        *("--trainer.default_root_dir", f"{folder}/{name}-{steps}-{seed}", *more),
    ]

    def read(_: str) -> dict[str, Any]:
        run = folder / f"{name}-{steps}-{seed}"
        summary = json.loads((run / "summary.json").read_text())
        figures = [summary["last"], summary["other_protocol"]]
        own, other = (figure and figure["metrics"]["nll"] for figure in figures)
        carrying = "carried" in summary["context"]
        return {
            "contender": name,
            "steps": steps,
            "seed": seed,
            "nats": other if carrying else own,
            "carried": own if carrying else other,
            "parameters": summary["parameters"],
        }

    return Process(line, read)


@dataclass
class Cell:
    """A contender, the share of the reference's time that it has, and its runs."""

    name: str
    share: float
    steps: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> "Cell":
        """``lstm:0.15``."""
        name, _, share = text.partition(":")
        return cls(name, float(share or 1))


def plan(cells: list[Cell], text: Path, steps: int, more: list[str]) -> None:
    """Give every cell its steps, by two short runs of each contender, all in turns.

    Raises:
        SystemExit: a share in which nothing can be trained.
    """
    names = list(dict.fromkeys(cell.name for cell in cells))
    with tempfile.TemporaryDirectory() as place:
        short = [reference(text, n, 0) for n in REHEARSED]
        for name in names:
            short += [contender(name, text, n, 0, Path(place), more) for n in REHEARSED]
        took = [row["seconds"] for row in in_turns(short)]
    costs = []  # seconds of a step, and those that no step takes
    for few, many in zip(took[::2], took[1::2], strict=True):
        step = (many - few) / (REHEARSED[1] - REHEARSED[0])
        costs.append((step, few - REHEARSED[0] * step))
    step, besides = costs[0]
    whole = besides + steps * step
    by_name = dict(zip(names, costs[1:], strict=True))
    for cell in cells:
        step, besides = by_name[cell.name]
        cell.steps = int((whole * cell.share - besides) / step)
        if cell.steps < 1:
            raise SystemExit(
                f"{cell.name}:{cell.share:g} is {whole * cell.share:.1f} s, and "
                f"{besides:.1f} s pass without a step; give it a larger share"
            )


# ---- the table -----------------------------------------------------------------------


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
    length = int(STEPS * options.scale)
    plan(cells, options.text, length, more)
    plain: list[dict[str, Any]] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            runs = [reference(options.text, length, seed)]
            for number, cell in enumerate(cells):
                folder = Path(place) / str(number)
                runs.append(
                    contender(cell.name, options.text, cell.steps, seed, folder, more)
                )
            first, *rows = in_turns(runs)
        plain.append(first)
        for cell, row in zip(cells, rows, strict=True):
            cell.rows.append(row)
            print(json.dumps(row), flush=True)
    print(table(plain, cells))
    print(json.dumps({"reference": plain, **versions()}))


if __name__ == "__main__":
    main()
