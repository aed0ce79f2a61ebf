"""nanoGPT's GPU recipe on a CUDA device: its plain loop and lmzoo, in turns.

python benchmarks/gpu.py --rounds 3 --rows gpu.jsonl
python benchmarks/gpu.py --rehearse

A round is every cell once, with a seed of its own, each a whole process:
``reference.py --size gpu`` and ``lmzoo fit`` with ``configs/gpt_shakespeare_gpu.yaml``,
both plain and compiled, lmzoo in float32, and the modern recipe of
``configs/palm_shakespeare_gpu.yaml``. Both sides draw 200 batches of 64 windows for the
sampled loss, as nanoGPT does: the reference at every validation, of which the least
counts; for lmzoo the checkpoint that is best by full pass is loaded and sampled.
Tokens/s are those of training alone, the median over the run after its first part.
Writes ``results/gpu.md``; ``--rows`` keeps each cell, so that a run cut off goes on.
Without CUDA it says so and exits with 3; ``--rehearse`` shows on a CPU, with a very
small network, that every line of it works, and writes nothing.
"""

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import reference
import torch
from blocks import tree
from race import HERE
from turns import shell

import lmzoo
from lmzoo.training.checkpoints import versions
from lmzoo.training.utilisation import matmul_peak, published_peak

NO_DEVICE = 3  # exit code
PUBLISHED = 1.4697  # nanoGPT's README: least sampled loss of this recipe
GAP = 0.01  # nats that bfloat16 may cost
SMALL = {
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.d_model": 32,
    "model.context_length": 32,
    "data.batch_size": 8,
}  # as the reference's size for rehearsals
Row = dict[str, Any]


class Cell(NamedTuple):
    """A contender: a configuration of lmzoo, or none for the plain loop."""

    config: str | None = None
    compiled: bool = False
    bf16: bool = True


CELLS = {
    "reference": Cell(),
    "lmzoo": Cell("gpt"),
    "reference, compiled": Cell(compiled=True),
    "lmzoo, compiled": Cell("gpt", compiled=True),
    "lmzoo, float32": Cell("gpt", bf16=False),
    "palm, Muon, compiled": Cell("palm", compiled=True),
}

PAGE = """\
# nanoGPT's GPU recipe on {device}

Tree {tree}, {versions}. {size.layers} layers, {size.heads} heads, {size.width} wide,
context {size.context}, batch {size.batch}, {steps:,} steps, tiny Shakespeare by
characters, the last tenth held out. {rounds} round(s) in turns, medians; a ratio is the
median of the rounds' own (least to most), to the reference that is compiled where the
cell is. MFU by the closed form 6 N + 12 L H Dh T, of the maker's bfloat16 peak {maker}
/ of the best bfloat16 matrix product measured here, {measured:.3g} TFLOP/s. The whole
process validates some 20 times, the reference on sampled batches of both parts
({size.batches} each), lmzoo on the whole held-out part.

    python benchmarks/gpu.py --rounds {rounds} --steps {steps}

{table}

{findings}
"""


class Bench(NamedTuple):
    """What all cells share."""

    text: Path
    steps: int
    device: torch.device
    small: bool  # a rehearsal

    @property
    def size(self) -> reference.Size:
        """Of the network and of a sampled validation."""
        return reference.SIZES["rehearsal" if self.small else "gpu"]

    def plain(self, cell: Cell, seed: int) -> Row:
        """One run of the plain loop."""
        name = "rehearsal" if self.small else "gpu"
        wall, said = shell(
            [
                *(sys.executable, str(HERE / "reference.py"), "--size", name),
                *("--text", str(self.text), "--steps", str(self.steps)),
                *("--seed", str(seed), "--device", self.device.type),
                *("--precision", "bf16" if cell.bf16 else "float32"),
                *(["--compile"] if cell.compiled else []),
            ]
        )
        result = json.loads(said)
        speeds = result["speeds"]
        rate = statistics.median(speeds[1:] or speeds)
        return {"wall": wall, "rate": rate, "end": result["nats"], **result["least"]}

    def lmzoo(self, cell: Cell, seed: int) -> Row:
        """One run of ``lmzoo fit``, and its best checkpoint sampled."""
        config = HERE.parent / "configs" / f"{cell.config}_shakespeare_gpu.yaml"
        every = max(1, reference.EVERY * self.steps // self.size.steps)
        given = {
            "config": config,
            "data.path": self.text,
            "seed_everything": seed,
            "compile": str(cell.compiled).lower(),
            "trainer.max_steps": self.steps,
            "trainer.val_check_interval": every,
            "trainer.accelerator": "cpu" if self.small else "gpu",
            "trainer.devices": 1,
            "trainer.precision": "bf16-mixed" if cell.bf16 else "32-true",
            "trainer.enable_progress_bar": "false",
            **(SMALL if self.small else {}),
        }
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "run"
            given["trainer.default_root_dir"] = folder
            words = [word for key, value in given.items()
                     for word in (f"--{key}", str(value))]  # fmt: skip
            wall, _ = shell([sys.executable, "-m", "lmzoo", "fit", *words])
            summary = json.loads((folder / "summary.json").read_text())
            with (folder / "metrics.csv").open(encoding="utf-8") as file:
                found = [row["tokens_per_second"] for row in csv.DictReader(file)]
            sampled = self.sampled(folder, cell, seed)
        speeds = [float(speed) for speed in found if speed]
        return {
            "wall": wall,
            "rate": statistics.median(speeds[1:] or speeds),
            "flops": summary["training_flops"] / summary["tokens"],
            "step": summary["best"]["step"],
            "nats": summary["best"]["metrics"]["nll"],
            "end": summary["last"]["metrics"]["nll"],
            "sampled": sampled,
        }

    def sampled(self, folder: Path, cell: Cell, seed: int) -> float:
        """The best checkpoint's loss by the reference's own sampling, in nats."""
        run = lmzoo.load(folder)
        text = self.text.read_text(encoding="utf-8")
        held = run.tokenizer.encode(text[int(0.9 * len(text)) :])
        torch.manual_seed(seed)
        on = reference.Machine(self.device, cell.bf16)
        model = run.model.to(self.device)
        ids = torch.tensor([int(i) for i in held])
        return reference.estimate(model, ids, self.size, on)

    def run(self, name: str, seed: int) -> Row:
        """One cell."""
        cell = CELLS[name]
        row = (self.lmzoo if cell.config else self.plain)(cell, seed)
        return {"cell": name, "seed": seed, "steps": self.steps, **row}


def of(rows: list[Row], name: str, key: str) -> dict[int, float]:
    """A figure of one cell, by seed."""
    return {row["seed"]: row[key] for row in rows if row["cell"] == name}


def ratios(rows: list[Row], name: str, other: str) -> str:
    """Tokens/s of one cell over another's, round by round."""
    ours, theirs = of(rows, name, "rate"), of(rows, other, "rate")
    found = [ours[seed] / theirs[seed] for seed in ours if seed in theirs]
    if not found:
        return "not measured"
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def table(rows: list[Row], peaks: tuple[float | None, float]) -> str:
    """One line for each cell that was run."""
    costs = {row["cell"]: row["flops"] for row in rows if "flops" in row}
    lines = [
        "| cell | tokens/s | of the reference's | MFU, maker's / measured peak "
        "| whole process, s | sampled nats, by seed | full pass, by seed | at step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["cell"] for row in rows):
        seen = {
            key: list(of(rows, name, key).values())
            for key in ("rate", "wall", "sampled", "nats", "step")
        }
        rate, cost = statistics.median(seen["rate"]), costs.get(name)
        if CELLS[name].config is None:  # the same network as lmzoo's
            cost = next((c for n, c in costs.items() if CELLS[n].config == "gpt"), None)
        shares = [f"{rate * cost / p:.1%}" if p and cost else "-" for p in peaks]
        plain = "reference, compiled" if CELLS[name].compiled else "reference"
        cells = [
            name,
            f"{rate:,.0f}",
            ratios(rows, name, plain),
            " / ".join(shares),
            f"{statistics.median(seen['wall']):.1f}",
            ", ".join(f"{nats:.4f}" for nats in seen["sampled"]),
            ", ".join(f"{nats:.4f}" for nats in seen["nats"]),
            ", ".join(f"{step:.0f}" for step in seen["step"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def findings(rows: list[Row]) -> str:
    """The questions that the rows answer, a line each."""
    half, full = of(rows, "lmzoo", "nats"), of(rows, "lmzoo, float32", "nats")
    gaps = [half[seed] - full[seed] for seed in half if seed in full]
    lines = ["- bfloat16 against float32: not measured"]
    if gaps:
        gap = statistics.median(gaps)
        said = "within" if abs(gap) <= GAP else "NOT within"
        each = ", ".join(f"{one:+.4f}" for one in gaps)
        lines = [
            f"- bf16-mixed less float32, full pass: {gap:+.4f} nats ({each}), {said} "
            f"{GAP}"
        ]
    lines += [
        f"- compiled, tokens/s over plain: {side} "
        + ratios(rows, f"{side}, compiled", side)
        for side in ("lmzoo", "reference")
    ]
    for name in dict.fromkeys(row["cell"] for row in rows):
        least = of(rows, name, "sampled").values()
        there = sum(nats <= PUBLISHED for nats in least)
        lines.append(
            f"- {name}: at {PUBLISHED} sampled or below in {there} of {len(least)}, "
            f"least {min(least):.4f}"
        )
    return "\n".join(lines)


def measured(
    bench: Bench, names: list[str], rounds: int, kept: Path | None
) -> list[Row]:
    """Every cell of every round that ``kept`` does not hold already."""
    rows: list[Row] = []
    if kept is not None and kept.is_file():
        rows = [json.loads(line) for line in kept.read_text().splitlines()]
        rows = [row for row in rows if row["steps"] == bench.steps]
    done = {(row["cell"], row["seed"]) for row in rows}
    for seed in range(1, rounds + 1):
        for name in names:
            if (name, seed) in done:
                continue
            rows.append(bench.run(name, seed))
            print(json.dumps(rows[-1]), flush=True)
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    return rows


def page(bench: Bench, rows: list[Row]) -> str:
    """All of it, as it is published."""
    cuda, half = bench.device.type == "cuda", torch.bfloat16
    peaks = published_peak(bench.device, half), matmul_peak(bench.device, half, 0.5)
    maker = f"{peaks[0] / 1e12:,.0f} TFLOP/s" if peaks[0] else "(not known)"
    return PAGE.format(
        device=torch.cuda.get_device_name() if cuda else "a CPU: REHEARSAL",
        tree=tree(),
        versions=", ".join(f"{name} {value}" for name, value in versions().items()),
        size=bench.size,
        steps=bench.steps,
        rounds=max(row["seed"] for row in rows),
        maker=maker,
        measured=peaks[1] / 1e12,
        table=table(rows, peaks),
        findings=findings(rows),
    )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    corpora = Path(os.environ.get("LMZOO_CORPORA", "."))
    default = corpora / "tinyshakespeare" / "input.txt"
    parser.add_argument("--text", type=Path, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default: 5,000; 40 in a rehearsal")
    parser.add_argument("--cell", action="append", choices=CELLS, help="default: all")
    parser.add_argument("--rows", type=Path, help="keeps rows as they come")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, very small")
    given = parser.parse_args()
    if not given.rehearse and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return NO_DEVICE
    small = given.rehearse
    steps = given.steps or (40 if small else reference.SIZES["gpu"].steps)
    device = torch.device("cpu" if small else "cuda")
    bench = Bench(given.text, steps, device, small)
    rounds = 1 if small else given.rounds
    kept = None if small else given.rows
    rows = measured(bench, given.cell or list(CELLS), rounds, kept)
    found = page(bench, rows)
    print(found)
    if not small:
        (HERE / "results" / "gpu.md").write_text(found, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
