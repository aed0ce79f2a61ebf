"""A few steps on another corpus: each model on each other's text, and what it forgets.

For each run, each text that it was not trained on, each start and seed a model goes on
from its checkpoint; a model of the same architecture with new weights takes the same
steps on the same batches as the control.
"""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from lmzoo.analysis.adaptation import SHARE, Rule, own_rate
from lmzoo.analysis.history import History
from lmzoo.analysis.transfer import story
from lmzoo.analysis.transfer.cells import Job, Plan, result
from lmzoo.analysis.transfer.corpora import labels, open_runs, own_corpora, trained_on
from lmzoo.errors import UsageError
from lmzoo.generation.decoding import LARGEST_SEED, check_count
from lmzoo.report.finding import Finding


def fewshot(
    runs: list[str],
    *,
    start: str = "last",
    at: str = "0,1,50,100,150,200",
    vocabulary: Rule = "union",
    lr: float | None = None,
    seeds: int = 3,
    seed: int = 1337,
    prompt: str = "The theorem states",
    length: int = 200,
    temperature: float = 0.8,
    max_tokens: int = 20_000,
    save: str = "",
    kept: str = "",
) -> Finding:
    """Go on from each run's checkpoint on the corpus of each other run.

    Args:
        runs: two run folders or more, trained on different texts
        start: checkpoints to start from: last, best, steps, or several as 4000,last
        at: steps at which both texts are measured and a sample is made; the last of
            them is the length of the training
        vocabulary: new symbols of the target get rows of their own (union), which
            begin as copies of the <unk> row, or are read as <unk> (unk)
        lr: constant learning rate; by default 0.3 of the run's own peak rate
        seeds: how many trainings of each pair and start
        seed: the first of them; it decides batches, dropout and samples
        prompt: how each sample begins
        length: tokens of a sample; 0 for no samples
        temperature: of the samples; 0 takes the likeliest token
        max_tokens: of each held-out text measure only about as many tokens, evenly
            spread; 0 for all of them
        save: folder for the adapted models, as runs that every command reads
        kept: folder of what is computed, from which an interrupted call goes on; the
            command keeps it in its output folder, the function nowhere by default

    Raises:
        UsageError: fewer than two runs, one twice, a start that a run has not kept, or
            an option out of its range.
    """
    opened = open_runs(runs, 2)
    plan = Plan(_numbers(at), vocabulary, lr, SHARE, max_tokens, prompt, length,
                temperature)  # fmt: skip
    _check(plan, seeds, seed)
    jobs = list(_jobs(opened, start, range(seed, seed + seeds)))
    folder, into = (Path(place) if place else None for place in (kept, save))
    found = []
    for job in jobs:
        rate = own_rate(job.history, SHARE) if lr is None else lr
        found.append(result(job, plan, rate, folder, into))
    return story.finding(found, plan, _words(opened), save)


def _jobs(runs: Sequence[History], start: str, seeds: range) -> Iterator[Job]:
    """Every run, other text, start and seed, and the control of each."""
    texts = own_corpora(runs)
    starts = [_starts(run, start) for run in runs]
    if len(texts) < 2:
        raise UsageError(
            "the runs were all trained on one text; name runs on different corpora"
        )
    for run, name, begins in zip(runs, labels(runs), starts, strict=True):
        for text in texts:
            if text.sha256 == trained_on(run):
                continue
            for begun, seed in product([*begins, None], seeds):
                yield Job(run, name, text, text.label, begun, seed)


def _starts(run: History, words: str) -> list[int]:
    """Steps that ``last``, ``best``, ``4000`` or several of these stand for."""
    found: list[int] = []
    parts = [word.strip() for word in words.split(",")]
    for word in parts:
        if word in ("last", "best"):
            found.append(getattr(run, word))
        elif word.isdecimal():
            if int(word) not in run.steps:
                raise UsageError(
                    f"{run.path}: --start {word}: no checkpoint of step {word} was "
                    f"kept; there are {', '.join(map(str, run.steps))}; train with "
                    f"--checkpoints.every_n_steps to keep more"
                )
            found.append(int(word))
        else:
            raise UsageError(
                f"--start {words}: give last, best, a step, or several as 4000,last"
            )
    unique = list(dict.fromkeys(found))
    if len(parts) > 1 and len(unique) < 2:
        raise UsageError(
            f"{run.path}: --start {words} is one checkpoint here, of step {unique[0]}; "
            f"train with --checkpoints.every_n_steps to keep several"
        )
    return unique


def _numbers(at: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", at):
        raise UsageError(f"--at {at}: give steps as 0,1,50,200")
    # step 0 shows what new rows cost, and is always measured
    return tuple(sorted({0, *(int(word) for word in at.split(","))}))


def _check(plan: Plan, seeds: int, seed: int) -> None:
    """Refuse numbers out of their range before anything is trained."""
    check_count("seeds", seeds, 1, 100)
    check_count("seed", seed, 0, LARGEST_SEED - seeds)
    check_count("length", plan.length, 0, 100_000)
    check_count("max_tokens", plan.max_tokens, 0, 10**12)
    if plan.max_tokens == 1:
        raise UsageError("max_tokens must be 0 (all) or 2 and more, given 1")
    if plan.lr is not None and not 0 < plan.lr < math.inf:
        raise UsageError(f"--lr {plan.lr}: give a rate above 0")
    if not 0 <= plan.temperature < math.inf:
        raise UsageError(f"--temperature {plan.temperature}: give 0 or more")
    if plan.length and not plan.prompt:
        raise UsageError("--prompt: give a text to continue, or --length 0")


def _words(runs: Sequence[History]) -> dict[str, Any]:
    """Of each run, by its label: what the notes say of it."""
    return {
        name: {"run": str(run.path), "last": run.last, "tokenizer": run.tokenizer.kind}
        for name, run in zip(labels(runs), runs, strict=True)
    }
