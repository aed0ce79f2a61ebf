"""Blocks of palm against one another: serial, parallel; fused, separate; key heads.

OMP_NUM_THREADS=2 python benchmarks/blocks.py --write

Training (forward and backward) of the same model with one choice exchanged, and
decoding with one head of keys and values against one for each head of queries. The
contenders take turns; a ratio is the median of the rounds' own ratios (least to most),
above 1 where the first is the faster. ``--profile`` says instead what one training step
of palm spends, beside gpt at the same size.
"""

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lmzoo.models.base import LanguageModel
from lmzoo.models.gpt import GPT
from lmzoo.models.palm import PaLM
from lmzoo.training.checkpoints import versions

VOCABULARY = 65
# layers, heads, width, context, batch
SIZES = [(4, 4, 128, 64, 12), (6, 6, 384, 256, 4), (2, 16, 1024, 256, 2)]
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "parallel : serial": ({"block": "parallel"}, {"block": "serial"}),
    "fused : separate, parallel": (
        {"block": "parallel"},
        {"block": "parallel", "fused": False},
    ),
    "fused : separate, serial": ({}, {"fused": False}),
    "layer norm : RMS norm": ({}, {"norm": "rms"}),
    "without : with QK-norm": ({"qk_norm": False}, {}),
    "learned : rotary positions": ({"position": "learned"}, {}),
    "one key head : one for each": ({"num_kv_heads": 1}, {}),
}
RESULT = Path(__file__).parent / "results" / "blocks.md"

PAGE = """\
# Blocks of palm

{about}.
{threads} thread(s) of {cores} cores, load average {before:.1f} before and {after:.1f}
after (1.0 is this run alone). float32, random weights, vocabulary {vocabulary};
training is a forward and a backward pass, decoding the second half of the context token
by token. Medians of {given.rounds} rounds in turns, {given.repeats} passes each; above
1 the first is the faster.

    OMP_NUM_THREADS={threads} python benchmarks/blocks.py --rounds {given.rounds} \
--repeats {given.repeats} --write

{rows}
"""

Size = tuple[int, int, int, int, int]


def build(cls: type[LanguageModel], size: Size, **choice: Any) -> LanguageModel:
    """A model of one size, random weights."""
    layers, heads, width, context, _ = size
    torch.manual_seed(0)
    sizes = {"num_layers": layers, "num_heads": heads, "d_model": width}
    return cls(VOCABULARY, context, **sizes, **choice)


def training(model: LanguageModel, size: Size) -> Callable[[], float]:
    """One forward and backward pass; its seconds."""
    tokens = torch.randint(VOCABULARY, (size[-1], size[-2] + 1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    model.train()

    def step() -> float:
        started = time.perf_counter()
        model.loss(model(inputs), targets).backward()
        seconds = time.perf_counter() - started
        model.zero_grad()
        return seconds

    return step


def decoding(model: LanguageModel, size: Size) -> Callable[[], float]:
    """The second half of the context, token by token; its seconds."""
    context = size[-2]
    prompt = torch.randint(VOCABULARY, (size[-1], context // 2))
    model.eval()

    @torch.inference_mode()
    def decode() -> float:
        _, state = model.step(prompt)
        token = prompt[:, :1]
        started = time.perf_counter()
        for _ in range(context - context // 2):
            logits, state = model.step(token, state)
            token = logits.argmax(-1, keepdim=True)
        return time.perf_counter() - started

    return decode


def ratios(
    first: Callable[[], float], other: Callable[[], float], rounds: int, repeats: int
) -> tuple[list[float], float, float]:
    """Other's time over first's in each round, and the medians of both in ms."""
    for warm in (first, other):
        for _ in range(2):
            warm()
    found, ours, theirs = [], [], []
    for turn in range(rounds):
        pair = [first, other] if turn % 2 else [other, first]
        seconds = {
            one: statistics.median(one() for _ in range(repeats)) for one in pair
        }
        ours.append(seconds[first])
        theirs.append(seconds[other])
        found.append(theirs[-1] / ours[-1])
    return found, 1e3 * statistics.median(ours), 1e3 * statistics.median(theirs)


def line(what: str, size: Size, question: str, measured: Any) -> str:
    """One row of the table."""
    found, ours, theirs = measured
    layers, heads, width, context, batch = size
    spread = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
    cells = [
        what,
        f"{layers}/{heads}/{width}, {batch} x {context}",
        question,
        f"{ours:,.1f}",
        f"{theirs:,.1f}",
        spread,
    ]
    return f"| {' | '.join(cells)} |"


HEAD = """\
| what | layers/heads/width, batch x context | first : other | first, ms | other, ms \
| other's time over first's |
|---|---|---|---|---|---|"""


def table(sizes: list[Size], rounds: int, repeats: int) -> list[str]:
    """All rows, printed as they come."""
    rows = [HEAD]
    print(HEAD, flush=True)
    for size in sizes:
        jobs = [
            ("training", question, training, PaLM, *choices)
            for question, choices in PAIRS.items()
        ]
        many, one = ({"num_kv_heads": n} for n in (size[1], 1))
        jobs.append(("decoding", "one key head : one each", decoding, PaLM, one, many))
        for what, question, make, cls, *pair in jobs:
            first, other = (make(build(cls, size, **choice), size) for choice in pair)
            measured = ratios(first, other, rounds, repeats)
            rows.append(line(what, size, question, measured))
            print(rows[-1], flush=True)
        pair = [training(build(cls, size), size) for cls in (PaLM, GPT)]
        measured = ratios(*pair, rounds, repeats)
        rows.append(line("training", size, "palm's defaults : gpt's", measured))
        print(rows[-1], flush=True)
    return rows


def spent(size: Size, steps: int) -> None:
    """What a training step spends, by operation, palm and then gpt."""
    for cls in (PaLM, GPT):
        step = training(build(cls, size), size)
        for _ in range(3):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(steps):
                step()
        print(f"{cls.__name__}, {steps} steps")
        averages = seen.key_averages()
        print(averages.table(sort_by="self_cpu_time_total", row_limit=18))


def tree() -> str:
    """The commit, and whether files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=10, help="of each in a round")
    parser.add_argument(
        "--sizes", type=int, default=len(SIZES), help="the first so many"
    )
    parser.add_argument("--profile", action="store_true", help="by operation, no table")
    parser.add_argument("--write", action="store_true", help="the page in results/")
    given = parser.parse_args()
    if given.profile:
        spent(SIZES[0], given.repeats)
        return
    commit, load = tree(), os.getloadavg()[0]
    rows = table(SIZES[: given.sizes], given.rounds, given.repeats)
    seen = ", ".join(f"{name} {version}" for name, version in versions().items())
    page = PAGE.format(
        about=f"Tree {commit}, {seen}",
        threads=torch.get_num_threads(),
        cores=os.cpu_count(),
        before=load,
        after=os.getloadavg()[0],
        vocabulary=VOCABULARY,
        given=given,
        rows="\n".join(rows),
    )
    if given.write:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
