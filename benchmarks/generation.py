"""Tokens a second: with the cache, without it, and transformers' generate, one run.

OMP_NUM_THREADS=1 python benchmarks/generation.py --write benchmarks/results/generation.md

Both sides have the same weights (transformers' GPT2LMHeadModel, tied head), start from
the same prompt of 8 tokens and fill the context to its last position, greedily, so that
the texts can be compared: the run fails if they differ in more than one token in a
hundred. The contenders take turns, and every round gives its own ratios.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
import transformers
from torch import Tensor

from lmzoo.generation import generate
from lmzoo.models.gpt import GPT
from lmzoo.training.checkpoints import versions

VOCABULARY, PROMPT = 65, 8
SIZES = [(4, 4, 128, 64), (6, 6, 384, 256)]  # layers, heads, width, context
RENAMED = {
    "transformer.": "",
    "wte": "token_embedding",
    "wpe": "position_embedding",
    "ln_f": "norm",
    "lm_head": "head",
    "h.": "layers.",
    "ln_1": "attention_norm",
    "ln_2": "mlp_norm",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.project",
    "mlp.c_fc": "mlp.expand",
    "mlp.c_proj": "mlp.project",
}


def pair(layers: int, heads: int, width: int, context: int):
    """Our model and theirs, equal weights."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # logits far enough apart that rounding changes no argmax
        theirs.transformer.wte.weight.mul_(10)
    weights = {}
    for name, tensor in theirs.state_dict().items():
        transposed = ".c_" in name and name.endswith("weight")  # kept as (in, out)
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        weights[name] = tensor.T if transposed else tensor
    ours = GPT(
        VOCABULARY,
        context,
        d_model=width,
        num_layers=layers,
        num_heads=heads,
        tie_embeddings=True,
    )
    ours.load_state_dict(weights)
    return ours.eval(), theirs


def by_lmzoo(model: GPT, prompt: Tensor, count: int, cache: bool, **how) -> Tensor:
    """New tokens (B, count)."""
    stream = generate(model, prompt, cache=cache, **how)
    return torch.stack(list(islice(stream, count)), dim=1)


def by_transformers(model, prompt: Tensor, count: int, **how) -> Tensor:
    """New tokens (B, count), by its generate with its cache."""
    made = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        min_new_tokens=count,
        use_cache=True,
        pad_token_id=0,
        **how,
    )
    return made[:, prompt.shape[1] :]


def measure(size: tuple[int, int, int, int], batch: int, rounds: int, greedy: bool):
    """Tokens a second of each contender in each round: a dictionary of lists."""
    ours, theirs = pair(*size)
    prompt = torch.randint(VOCABULARY, (batch, PROMPT))
    count = size[-1] - PROMPT
    how = {"temperature": 0} if greedy else {"temperature": 1.0}
    their_how = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0}
    contenders: dict[str, Callable[[], Tensor]] = {
        "cache": lambda: by_lmzoo(ours, prompt, count, True, **how),
        "no cache": lambda: by_lmzoo(ours, prompt, count, False, **how),
        "transformers": lambda: by_transformers(theirs, prompt, count, **their_how),
    }
    texts = {name: make() for name, make in contenders.items()}  # warm-up
    if greedy:
        for name, text in texts.items():
            agreed = float((text == texts["cache"]).float().mean())
            if agreed < 0.99:
                raise SystemExit(f"{name}: agrees in {agreed:.1%} of the tokens only")
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        order = list(contenders) if turn % 2 else list(contenders)[::-1]
        for name in order:
            started = time.perf_counter()
            contenders[name]()
            seconds = time.perf_counter() - started
            speeds[name].append(batch * count / seconds)
    return speeds


def row(size: tuple[int, int, int, int], batch: int, way: str, speeds) -> str:
    """One line of the table."""

    def median(name: str) -> str:
        return f"{statistics.median(speeds[name]):,.0f}"

    def ratio(other: str) -> str:
        each = [a / b for a, b in zip(speeds["cache"], speeds[other], strict=True)]
        return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"

    layers, heads, width, context = size
    cells = [
        f"{layers}/{heads}/{width}, {context}",
        str(batch),
        way,
        median("cache"),
        median("no cache"),
        median("transformers"),
        ratio("no cache"),
        ratio("transformers"),
    ]
    return f"| {' | '.join(cells)} |"


HEAD = """\
| layers/heads/width, context | batch | tokens | lmzoo | without cache | transformers | \
lmzoo : without | lmzoo : transformers |
|---|---|---|---|---|---|---|---|"""

INTRODUCTION = """\
# Generation: tokens a second

{about}

Random weights, the same on both sides; a prompt of 8 tokens, then the context filled to
its end, which transformers' learned positions cannot pass. `lmzoo`: the decoding loop of
`lmzoo generate` with its cache; `without cache`: the same loop over the window anew;
`transformers`: GPT2LMHeadModel.generate with its cache. Each is the sum over the batch,
median of {rounds} rounds in turns after a warm-up; a ratio is the median of the rounds' own
ratios (least to most). In greedy decoding all three give the same tokens (checked).

    {command}

{head}
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", type=Path, help="a Markdown file for the result")
    options = parser.parse_args()
    found = versions()
    load = os.getloadavg()[0]
    rows = []
    print(HEAD, flush=True)
    for size in SIZES:
        for batch in (1, 16):
            for greedy in (True, False):
                way = "greedy" if greedy else "sampled"
                speeds = measure(size, batch, options.rounds, greedy)
                rows.append(row(size, batch, way, speeds))
                print(rows[-1], flush=True)
    about = (
        f"{found}, transformers {transformers.__version__}, {platform.machine()}, "
        f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores, load average "
        f"{load:.1f} before and {os.getloadavg()[0]:.1f} after."
    )
    command = "python benchmarks/generation.py --write benchmarks/results/generation.md"
    text = INTRODUCTION.format(
        about=about, rounds=options.rounds, command=command, head=HEAD
    )
    print(about)
    if options.write:
        options.write.write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
