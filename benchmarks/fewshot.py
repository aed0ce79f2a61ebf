"""200 steps with samples at five of them: ours against loops without a cache.

OMP_NUM_THREADS=1 python benchmarks/fewshot.py --write

All train the same model (the lab's size: 2 layers, 2 heads, width 128, context 64) on
the same batches; they differ in how the samples are drawn. A sample is what nanoGPT's
sample.py prints by default, ten texts of 500 characters. The lab's log fits that: its
sample took 26 s, as long as its 200 steps, and so it is here (a fifth of the samples'
time against the steps', in the last row). ``one by one`` is that script's loop: the
last context_length tokens through the whole model for every new token of each text in
turn; ``side by side`` does the same for the ten texts at once. The contenders take
turns in one process. Exit code 1 if ours takes a quarter of the time of ``one by one``
or more.
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
TEXTS, LIMIT = 10, 0.25
Draw = Callable[[LanguageModel, Tokenizer], list[str]]


def cached(model: LanguageModel, tokenizer: Tokenizer) -> list[str]:
    """Ours: side by side, through the decoding state."""
    return generate_texts(
        model,
        tokenizer,
        PROMPT,
        max_new_tokens=LENGTH,
        num_samples=TEXTS,
        seed=1,
    )


@torch.no_grad()
def anew(model: LanguageModel, tokenizer: Tokenizer, rows: int) -> list[str]:
    """Every token from the last context_length tokens, computed anew."""
    ids = torch.from_numpy(tokenizer.encode(PROMPT)).long().repeat(rows, 1)
    for _ in range(LENGTH):
        logits: Tensor = model(ids[:, -model.context_length :])[:, -1]
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], dim=1)
    return [tokenizer.decode(row.numpy()) for row in ids]


def one_by_one(model: LanguageModel, tokenizer: Tokenizer) -> list[str]:
    """One text after the other, without a cache."""
    return [anew(model, tokenizer, 1)[0] for _ in range(TEXTS)]


def side_by_side(model: LanguageModel, tokenizer: Tokenizer) -> list[str]:
    """All texts at once, without a cache."""
    return anew(model, tokenizer, TEXTS)


CONTENDERS: dict[str, Draw] = {
    "lmzoo": cached,
    "without a cache, side by side": side_by_side,
    "without a cache, one by one": one_by_one,
}


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


def main() -> int:
    """Take turns, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="into results/fewshot.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        history = trained(Path(folder), options.context)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name, draw in CONTENDERS.items():
                times[name].append(timed(history, draw))
    middle = {
        name: [statistics.median(part) for part in zip(*found, strict=True)]
        for name, found in times.items()
    }
    whole, drawn = middle["lmzoo"]
    lines = [
        f"context {options.context}, {options.rounds} rounds, medians, "
        f"{torch.get_num_threads()} thread of {os.cpu_count()} cores "
        f"({platform.machine()}), torch {versions()['torch']}",
        "",
        "| | all, s | samples, s | steps, s | lmzoo's share of all | of the samples |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {total:.2f} | {part:.2f} | {total - part:.2f} | "
            f"{whole / total:.3f} | {drawn / part:.3f} |"
            for name, (total, part) in middle.items()
        ),
    ]
    print("\n".join(lines))
    if options.write:
        page = Path(__file__).parent / "results" / "fewshot.md"
        title = "# 200 steps, and ten texts of 500 characters at five of them\n\n"
        command = "    OMP_NUM_THREADS=1 python benchmarks/fewshot.py --write\n\n"
        page.write_text(title + command + "\n".join(lines) + "\n")
    ratio = whole / middle["without a cache, one by one"][0]
    print(f"ratio {ratio:.3f}, limit {LIMIT}")
    return int(ratio >= LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
