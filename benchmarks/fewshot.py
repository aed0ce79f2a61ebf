"""200 steps and five samples of 500 characters: ours against a loop without a cache.

OMP_NUM_THREADS=1 python benchmarks/fewshot.py --write

Both train the same model (the lab's size: 2 layers, 2 heads, width 128, context 64) on
the same batches; they differ in how the samples are drawn. The other loop is the one
that nanoGPT made common: the last context_length tokens through the whole model for
every new token, softmax, multinomial. The contenders take turns in one process.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lmzoo.analysis.adaptation import adapt, begin, own_rate, target_text
from lmzoo.analysis.history import History
from lmzoo.analysis.transfer.corpora import corpus_of
from lmzoo.generation import generate_texts
from lmzoo.models.base import LanguageModel
from lmzoo.text.protocol import Tokenizer
from lmzoo.training.checkpoints import versions

AT, LENGTH, PROMPT = (1, 50, 100, 150, 200), 500, "The theorem states"
Draw = Callable[[LanguageModel, Tokenizer], str]


def cached(model: LanguageModel, tokenizer: Tokenizer) -> str:
    """Ours: through the decoding state."""
    return generate_texts(model, tokenizer, PROMPT, max_new_tokens=LENGTH, seed=1)[0]


@torch.no_grad()
def anew(model: LanguageModel, tokenizer: Tokenizer) -> str:
    """Every token from the last context_length tokens, computed anew."""
    ids = torch.from_numpy(tokenizer.encode(PROMPT)).long()[None]
    for _ in range(LENGTH):
        logits: Tensor = model(ids[:, -model.context_length :])[:, -1]
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], dim=1)
    return tokenizer.decode(ids[0].numpy())


def timed(history: History, draw: Draw) -> tuple[float, float]:
    """Seconds of one adaptation in all, and of its samples."""
    drawing = 0.0

    def watch(step: int, model: LanguageModel) -> None:
        nonlocal drawing
        begun = time.perf_counter()
        draw(model, data.tokenizer)
        drawing += time.perf_counter() - begun

    data, _ = target_text(history, corpus_of(history))
    model = begin(history, history.last, data, 1337)
    data.setup("fit")
    started = time.perf_counter()
    adapt(model, data, history, at=AT, lr=own_rate(history, 0.3), watch=watch)
    return time.perf_counter() - started, drawing


def trained(folder: Path, context: int) -> History:
    """A few steps are enough: speed does not depend on what was learned."""
    line = (
        f"lmzoo fit --model gpt --model.num_layers 2 --model.num_heads 2 "
        f"--model.d_model 128 --model.context_length {context} --data.corpus pydoc "
        f"--trainer.max_steps 10 --trainer.default_root_dir {folder / 'run'} "
        f"--samples.length 0"
    )
    subprocess.run(
        [sys.executable, "-m", *line.split()], check=True, capture_output=True
    )
    return History(folder / "run")


def main() -> None:
    """Take turns, print the ratio of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="into results/fewshot.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        history = trained(Path(folder), options.context)
        times: dict[str, list[tuple[float, float]]] = {"ours": [], "anew": []}
        for _ in range(options.rounds):
            times["ours"].append(timed(history, cached))
            times["anew"].append(timed(history, anew))
    middle = {
        name: [statistics.median(part) for part in zip(*found, strict=True)]
        for name, found in times.items()
    }
    ratio, drawn = (a / b for a, b in zip(middle["ours"], middle["anew"], strict=True))
    lines = [
        f"context {options.context}, {options.rounds} rounds, "
        f"{torch.get_num_threads()} thread of {os.cpu_count()} cores "
        f"({platform.machine()}), {versions()['torch']}",
        "",
        "| | all, s | samples, s | steps, s |",
        "|---|---|---|---|",
        *(
            f"| {label} | {middle[name][0]:.2f} | {middle[name][1]:.2f} | "
            f"{middle[name][0] - middle[name][1]:.2f} |"
            for name, label in (("ours", "lmzoo"), ("anew", "without a cache"))
        ),
        "",
        f"Ratio of medians: {ratio:.3f} in all, {drawn:.3f} of the samples alone.",
    ]
    print("\n".join(lines))
    if options.write:
        page = Path(__file__).parent / "results" / "fewshot.md"
        title = "# 200 steps and five samples of 500 characters\n\n"
        command = "    OMP_NUM_THREADS=1 python benchmarks/fewshot.py --write\n\n"
        page.write_text(title + command + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
