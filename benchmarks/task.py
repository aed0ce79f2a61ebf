"""The take-home task as a whole: its four settings beside what they must beat.

python benchmarks/task.py --path input.txt

Fits ``configs/task_*.yaml`` by the command, one after another, and prints one table:
the template (refused), the 0-1 loss made to run (which trains nothing), the repaired
feed-forward model and gpt-nano, then what counting reaches on the same 70/30 split. A
run that was cut off goes on, a finished one is kept. ``--steps 50`` is a rehearsal.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lmzoo.compare.surroundings import commit, machine
from lmzoo.metrics import bits_per
from lmzoo.models.ngram import NGram
from lmzoo.report.words import count, decimals
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training.checkpoints import versions

HERE = Path(__file__).resolve().parent
CONFIGS, RESULT = HERE.parent / "configs", HERE / "results" / "task.md"
SETTINGS = {
    "template": "heaviside, 0-1 loss",
    "debug": "heaviside, 0-1 loss detached",
    "ff": "ff, repaired",
    "gpt_nano": "gpt-nano, context 10",
}
MUST = {"ff": 1.86, "gpt_nano": 1.86}  # nats: the best counted floor, as published
ORDERS = ("unigram", "bigram", "trigram", "4-gram", "5-gram")
PUBLISHED = {
    "debug": "accuracy 0.0272",
    "always-space": "accuracy 0.1517",
    "unigram": "3.315 (0.152)",
    "bigram": "2.509 (0.264)",
    "trigram": "2.138 (0.377)",
    "4-gram": "1.900 (0.454)",
    "5-gram": "1.86",
}
HEADS = ("model", "parameters", "steps", "what stopped it", "nats", "perplexity",
         "bits/char", "accuracy", "published")  # fmt: skip
CHUNK = 20_000  # characters whose rows of V probabilities are held at a time
NOTE = """\
Nats, perplexity, bits per character and accuracy of the best weights on the whole 30 %
part, every character from a full window. The published figures are the exercise's and
those counted for it before (add-0.1; the last one Witten-Bell, on every fifth
character); the floors here are lmzoo's own, Witten-Bell, on every character. 0.0272 is
the best of the exercise's twelve untrained initialisations; the detached setting here
is one initialisation, as untrained. The settings were chosen on this same part. The
commit is that of the sitting that printed the table; it keeps the finished runs of
earlier ones."""


def main() -> int:
    """Fit, measure, print, write; 1 where a repaired model misses its mark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", help="the text; default: the corpus of the files")
    parser.add_argument("--steps", type=int, help="a rehearsal; nothing is written")
    parser.add_argument("--out", help="run folders; default: runs/task")
    options = parser.parse_args()
    out = Path(options.out or ("runs/task-rehearsal" if options.steps else "runs/task"))
    source = ["--data.path", options.path] if options.path else []
    found = {name: fitted(name, source, out, options.steps) for name in SETTINGS}
    rows = [row(name, one) for name, one in found.items()]
    rows += references(data(options.path))
    text = "\n".join(line(cells) for cells in (HEADS, ["---"] * len(HEADS), *rows))
    verdict, good = judged(found)
    print(f"{text}\n\n{verdict}")
    if not options.steps:
        RESULT.write_text(page(text, verdict), encoding="utf-8")
        print(f"\n{RESULT}")
    return 0 if good or options.steps else 1


# ---- the four settings ---------------------------------------------------------------


def fitted(
    name: str, source: list[str], out: Path, steps: int | None
) -> dict[str, Any]:
    """The summary of one setting's run, or the ``error`` with which it was refused."""
    words = [sys.executable, "-m", "lmzoo", "fit"]
    words += ["--config", str(CONFIGS / f"task_{name}.yaml"), *source]
    words += ["--trainer.default_root_dir", str(out / name)]
    if steps:
        every = max(1, steps // 2)
        words += ["--trainer.max_steps", str(steps), "--data.max_val_tokens", "4000"]
        words += ["--trainer.val_check_interval", str(every)]
    print(f"{name}: {' '.join(words[1:])}", file=sys.stderr)
    refused = name == "template"
    done = subprocess.run(
        words,
        stdout=sys.stderr,
        stderr=subprocess.PIPE if refused else None,
        text=True,
    )
    if refused and done.returncode == 2:
        return {"error": done.stderr.strip().removeprefix("error: ")}
    if done.returncode or refused:
        raise SystemExit(f"{name}: lmzoo fit ended with exit code {done.returncode}")
    return json.loads((out / name / "summary.json").read_text(encoding="utf-8"))


def row(name: str, found: dict[str, Any]) -> list[str]:
    """One setting's row."""
    label, published = SETTINGS[name], PUBLISHED.get(name, "")
    if "error" in found:
        return [label, "", "0", f"refused: {found['error']}", "", "", "", "", published]
    best = found["best"]["metrics"]
    return [
        label,
        count(found["parameters"]),
        count(found["steps"]),
        found["stopped"],
        *figures(best["nll"], best["bits_per_char"], best["accuracy"]),
        published,
    ]


def judged(found: dict[str, dict[str, Any]]) -> tuple[str, bool]:
    """Whether the repaired models are worth their training."""
    said, good = [], True
    for name, mark in MUST.items():
        nll = found[name]["best"]["metrics"]["nll"]
        good = good and nll < mark
        verb = "beats" if nll < mark else "does NOT beat"
        said.append(f"{SETTINGS[name]}: {decimals(nll)} {verb} {mark} nats.")
    return " ".join(said), good


# ---- what they must beat -------------------------------------------------------------


def data(path: str | None) -> TextDataModule:
    """The exercise's text and split, as the configuration has them."""
    config = yaml.safe_load((CONFIGS / "task_ff.yaml").read_text(encoding="utf-8"))
    given = dict(config["data"]["init_args"])
    if path:
        given["corpus"], given["path"] = None, path
    return TextDataModule(**given)


def references(text: TextDataModule) -> list[list[str]]:
    """Always a space, then n-grams of every order, on all targets of the 30 % part."""
    tokens = torch.from_numpy(np.asarray(text.val_tokens).astype(np.int64))
    space = int(text.tokenizer.encode(" ")[0])
    share = float((tokens[1:] == space).double().mean())
    blank = ["", "", "", ""]
    rows = [["always a space", *blank, "", "", f"{share:.4f}"]]
    rows[0].append(PUBLISHED["always-space"])
    chars = text.lengths("val")[0][tokens[1:]].sum()
    for order, name in enumerate(ORDERS, start=1):
        print(f"counting: {name}", file=sys.stderr)
        total, right = counted(text, tokens, order)
        n = len(tokens) - 1
        told = figures(total / n, bits_per(total, float(chars)), right / n)
        rows.append([f"floor: {name}", "", "", "counted once", *told, PUBLISHED[name]])
    return rows


def counted(
    text: TextDataModule, tokens: torch.Tensor, order: int
) -> tuple[float, int]:
    """Summed nats and correct guesses of an n-gram, each with its full context."""
    model = NGram(vocab_size=text.vocab_size, order=order)
    model.count(np.asarray(text.train_tokens))
    total, right = 0.0, 0
    for start in range(0, len(tokens) - 1, CHUNK):
        before = max(0, start - model.window)
        end = min(start + CHUNK, len(tokens) - 1)
        with torch.no_grad():
            logits = model(tokens[None, before:end])[0, start - before :]
        targets = tokens[start + 1 : end + 1]
        nats = torch.nn.functional.cross_entropy(
            logits.double(), targets, reduction="sum"
        )
        total += float(nats)
        right += int((logits.argmax(dim=-1) == targets).sum())
    return total, right


# ---- words ---------------------------------------------------------------------------


def figures(nll: float, bits: float, accuracy: float) -> list[str]:
    """Nats, perplexity, bits per character, accuracy."""
    return [
        decimals(nll),
        decimals(math.exp(nll), 2),
        decimals(bits),
        f"{accuracy:.4f}",
    ]


def line(cells: Any) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def page(table: str, verdict: str) -> str:
    """The result as it is kept."""
    made = machine()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    libraries = ", ".join(f"{k} {v}" for k, v in versions().items())
    return (
        f"# The take-home task\n\n"
        f"Commit {commit()}, {libraries}, {made['cpu']} with {made['cores']} cores, "
        f"{threads} thread(s), seed 3407.\n\n"
        f"    python benchmarks/task.py --path tinyshakespeare/input.txt\n\n"
        f"{table}\n\n{verdict}\n\n{NOTE}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
