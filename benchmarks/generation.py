"""Tokens a second: with the cache, without it, and transformers' generate, one run.

OMP_NUM_THREADS=1 python benchmarks/generation.py --write
OMP_NUM_THREADS=1 python benchmarks/generation.py --long

Both sides have the same weights (transformers' GPT2LMHeadModel, tied head), start from
the same prompt of 8 tokens and fill the context to its last position. Greedy texts are
compared: the run fails if they differ in more than one token in a hundred. The
contenders take turns, and every round gives its own ratios.

``--long`` makes 500 tokens: first to the end of the context, then past it, each timed
apart. There the others are the plain loop, which computes every token anew from the
window of the last ``context`` tokens (nanoGPT's way), here on lmzoo's own weights, and
transformers with its cache, whose table of positions then is as long as the text.
"""

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise, product
from pathlib import Path

import torch
import transformers
from torch import Tensor

from lmzoo.generation import generate
from lmzoo.models import gpt2
from lmzoo.models.gpt import GPT
from lmzoo.training.checkpoints import versions

VOCABULARY, PROMPT, PLACES = 65, 8, 8
WAYS = ("lmzoo", "recomputed", "transformers")
LONG = 500  # tokens, of which context - PROMPT are inside the context
SIZES = [(4, 4, 128, 64), (6, 6, 384, 256)]  # layers, heads, width, context


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
    ours = GPT(**gpt2.from_config(config.to_dict()))
    ours.load_state_dict(gpt2.from_tensors(theirs.state_dict()))
    return ours.eval(), theirs


def by_lmzoo(model: GPT, prompt: Tensor, count: int, **how) -> Tensor:
    """New tokens (B, count)."""
    return torch.stack(list(islice(generate(model, prompt, **how), count)), dim=1)


def without_cache(model: GPT, text: Tensor) -> tuple[float, Tensor]:
    """Seconds that one new token takes, and which are those of ``text`` (B, PLACES).

    The mean over places spread evenly over the context, for the whole of it takes long.
    """
    places = torch.linspace(PROMPT, text.shape[1] - 1, PLACES).long().tolist()
    started = time.perf_counter()
    tokens = [
        next(generate(model, text[:, :place], temperature=0, cache=False))
        for place in places
    ]
    seconds = (time.perf_counter() - started) / PLACES
    same = torch.stack(tokens, 1) == text[:, places]
    return seconds, same


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


@torch.no_grad()
def recomputed(model: GPT, prompt: Tensor, count: int) -> Iterator[Tensor]:
    """The plain loop: crop to the context, compute all of it, sample the last."""
    text = prompt
    for _ in range(count):
        logits = model(text[:, -model.context_length :])[:, -1]
        new = torch.multinomial(logits.softmax(-1), 1)
        text = torch.cat([text, new], dim=1)
        yield new


def halves(stream: Iterator[Tensor], inside: int) -> tuple[float, float]:
    """Tokens a second of the first ``inside`` tokens and of the rest, to LONG."""
    marks = [time.perf_counter()]
    for made, _ in enumerate(islice(stream, LONG), 1):
        if made in (inside, LONG):
            marks.append(time.perf_counter())
    first, rest = (after - before for before, after in pairwise(marks))
    return inside / first, (LONG - inside) / rest


def of_transformers(model, prompt: Tensor, inside: int) -> tuple[float, float]:
    """The same of transformers: the time to ``inside``, and what LONG takes more."""
    seconds = []
    for count in (inside, LONG):
        began = time.perf_counter()
        by_transformers(model, prompt, count, do_sample=True, top_k=0)
        seconds.append(time.perf_counter() - began)
    return inside / seconds[0], (LONG - inside) / (seconds[1] - seconds[0])


def long(rounds: int) -> None:
    """Print the table of LONG tokens, inside the context and past it."""
    print(LONG_HEAD, flush=True)
    for size in SIZES:
        speeds = in_turns(size, rounds)
        for part, words in enumerate(("inside", "past")):
            medians = {
                name: statistics.median(parts[part] for parts in found)
                for name, found in speeds.items()
            }
            cells = ["{}/{}/{}, {}".format(*size), words]
            cells += [f"{medians[name]:,.0f}" for name in speeds]
            cells += [f"{medians['lmzoo'] / medians[name]:.2f}" for name in WAYS[1:]]
            print(f"| {' | '.join(cells)} |", flush=True)
    print(about(tree(), os.getloadavg()[0]))


def in_turns(size: tuple[int, int, int, int], rounds: int):
    """Tokens a second (inside, past) of each way in each round, after a warm-up."""
    layers, heads, width, context = size
    ours, _ = pair(*size)
    _, theirs = pair(layers, heads, width, PROMPT + LONG)
    prompt, inside = torch.randint(VOCABULARY, (1, PROMPT)), context - PROMPT
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "lmzoo": lambda: halves(generate(ours, prompt), inside),
        "recomputed": lambda: halves(recomputed(ours, prompt, LONG), inside),
        "transformers": lambda: of_transformers(theirs, prompt, inside),
    }
    for way in ways.values():
        way()
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for turn in range(rounds):
        for name in WAYS[:: -1 if turn % 2 else 1]:
            speeds[name].append(ways[name]())
    return speeds


def measure(size: tuple[int, int, int, int], batch: int, rounds: int, greedy: bool):
    """Tokens a second of each contender in each round: a dictionary of lists."""
    ours, theirs = pair(*size)
    prompt = torch.randint(VOCABULARY, (batch, PROMPT))
    count = size[-1] - PROMPT
    how = {"temperature": 0} if greedy else {"temperature": 1.0}
    their_how = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0}
    contenders: dict[str, Callable[[], Tensor]] = {
        "lmzoo": lambda: by_lmzoo(ours, prompt, count, **how),
        "transformers": lambda: by_transformers(theirs, prompt, count, **their_how),
    }
    texts = {name: make() for name, make in contenders.items()}  # warm-up
    whole = torch.cat([prompt, texts["lmzoo"]], dim=1)
    if greedy:
        require_same(texts["transformers"] == texts["lmzoo"], "transformers")
        require_same(without_cache(ours, whole)[1], "without cache")
    speeds: dict[str, list[float]] = {name: [] for name in [*contenders, "without"]}
    for turn in range(rounds):
        for name in sorted(contenders, reverse=bool(turn % 2)):
            started = time.perf_counter()
            contenders[name]()
            seconds = time.perf_counter() - started
            speeds[name].append(batch * count / seconds)
        if greedy:
            speeds["without"].append(batch / without_cache(ours, whole)[0])
    return speeds


def require_same(same: Tensor, name: str) -> None:
    """Stop unless nearly all tokens agree: rounding may decide between equals."""
    agreed = float(same.float().mean())
    if agreed < 0.99:
        raise SystemExit(f"{name}: only {agreed:.1%} of the tokens are lmzoo's")


def row(size: tuple[int, int, int, int], batch: int, way: str, speeds) -> str:
    """One line of the table."""

    def median(name: str) -> str:
        return f"{statistics.median(speeds[name]):,.0f}" if speeds[name] else ""

    def ratio(other: str) -> str:
        each = [a / b for a, b in zip(speeds["lmzoo"], speeds[other], strict=False)]
        if not each:
            return ""
        return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"

    layers, heads, width, context = size
    cells = [
        f"{layers}/{heads}/{width}, {context}",
        str(batch),
        way,
        median("lmzoo"),
        median("without"),
        median("transformers"),
        ratio("without"),
        ratio("transformers"),
    ]
    return f"| {' | '.join(cells)} |"


LONG_HEAD = """\
| layers/heads/width, context | tokens | lmzoo | recomputed | transformers \
| lmzoo : recomputed | lmzoo : transformers |
|---|---|---|---|---|---|---|"""

HEAD = """\
| layers/heads/width, context | batch | tokens | lmzoo | without | transformers \
| lmzoo : without | lmzoo : transformers |
|---|---|---|---|---|---|---|---|"""

PAGE = """\
# Generation: tokens a second

{about}

Random weights, equal on both sides; a prompt of 8 tokens, then the context filled to
its end, which transformers' learned positions cannot pass. `lmzoo`: the decoding loop
of `lmzoo generate` with its cache; `without`: the same loop, every token computed from
the whole window, the mean of 8 places spread over the context; `transformers`:
GPT2LMHeadModel.generate with its cache. Each is the sum over the batch, the median of
{rounds} rounds in turns after a warm-up; a ratio is the median of the rounds' own
ratios (least to most). In greedy decoding all three make the same tokens (the run
checks it).

    OMP_NUM_THREADS={threads} python benchmarks/generation.py --rounds {rounds} --write

{rows}
"""
QUIET = 1.5
SHARED = """
**The machine was shared**: the speeds are lower bounds, only the ratios say something,
and those of the larger model less, for it waits for memory that others use too."""
RESULT = Path(__file__).parent / "results" / "generation.md"


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


def about(commit: str, load: float) -> str:
    """Versions and machine; ``load`` is the load average before the run."""
    parts = [f"{name} {version}" for name, version in versions().items()]
    return (
        f"Tree {commit}, transformers {transformers.__version__}, {', '.join(parts)}.\n"
        f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores, load average "
        f"{load:.1f} before and {os.getloadavg()[0]:.1f} after (1.0 is this run alone)."
        f"{SHARED if load > QUIET else ''}"
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="the page in results/")
    parser.add_argument("--long", action="store_true", help="500 tokens, in two parts")
    options = parser.parse_args()
    if options.long:
        long(options.rounds)
        return
    commit, load, rows = tree(), os.getloadavg()[0], [HEAD]
    print(HEAD, flush=True)
    for size, batch, greedy in product(SIZES, (1, 16), (True, False)):
        speeds = measure(size, batch, options.rounds, greedy)
        rows.append(row(size, batch, "greedy" if greedy else "sampled", speeds))
        print(rows[-1], flush=True)
    page = PAGE.format(
        about=about(commit, load),
        rounds=options.rounds,
        threads=torch.get_num_threads(),
        rows="\n".join(rows),
    )
    print(about(commit, load))
    if options.write:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
