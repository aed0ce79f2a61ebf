"""Does a model go on from a training prefix exactly as the training text does?

Prompts are cut at random from the training text and continued greedily; a prompt is
memorised if every token of the continuation is the text's own (extractable
memorisation, Carlini et al. 2022, arXiv 2202.07646). The same on held-out text is the
control: what is continued exactly there was predictable, not memorised.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmzoo.analysis.texts import own_arguments
from lmzoo.errors import UsageError
from lmzoo.generation import generate
from lmzoo.models.base import LanguageModel
from lmzoo.runs import Run
from lmzoo.text.datamodule import TextDataModule
from lmzoo.text.protocol import Tokenizer

FOREIGN = "which is not the text of the run"
BATCH = 50  # prompts continued at a time
WHOLE = {  # a text that is taken as it is, all of it
    "val_fraction": 0,
    "test_fraction": 0,
    "val_path": None,
    "test_path": None,
    "max_train_tokens": None,
}


@dataclass(frozen=True)
class Rate:
    """Exact continuations of one text.

    Attributes:
        prompts: how many were tried.
        exact: how many were continued exactly.
        rate: exact / prompts.
        low: lower end of the 95 % interval (Wilson 1927), which takes the prompts as
            independent: too narrow where they overlap, in a short text.
        high: its upper end.
        mean_matched: tokens before the first that differs, mean over the prompts.
    """

    prompts: int
    exact: int
    rate: float
    low: float
    high: float
    mean_matched: float


@dataclass(frozen=True)
class Memorised:
    """The rate on the training text, and on held-out text where there is some."""

    prompt_tokens: int
    continuation_tokens: int
    seed: int
    train: Rate
    held_out: Rate | None
    source: str = ""

    def plain(self) -> dict[str, Any]:
        """All of it, JSON-plain."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """(text, exact, rate, interval, tokens matched) of each line of a table."""
        first = "another text" if FOREIGN in self.source else "training text"
        kinds = ((first, self.train), ("held-out text", self.held_out))
        return [
            (
                name,
                f"{found.exact} of {found.prompts}",
                f"{found.rate:.1%}",
                f"{found.low:.1%} to {found.high:.1%}",
                f"{found.mean_matched:.1f} of {self.continuation_tokens}",
            )
            for name, found in kinds
            if found is not None
        ]

    def __str__(self) -> str:
        head = ("", "exact", "rate", "95 % interval", "tokens until it differs")
        table = [head, *self.rows()]
        wide = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(size) for cell, size in zip(row, wide, strict=True))
            for row in table
        ]
        what = (
            f"greedy continuations of {self.continuation_tokens} tokens after random "
            f"prefixes of {self.prompt_tokens}, seed {self.seed}"
        )
        said = [f"text: {self.source}"] if self.source else []
        if self.held_out is None:
            said.append("no held-out text of that length, so there is no control")
        return "\n".join([what, *(line.rstrip() for line in lines), *said])


@dataclass(frozen=True)
class Source:
    """Token ids to probe with.

    Attributes:
        train: of the training text, (n,).
        held_out: of text that was not trained on, (m,); may be empty.
        name: what the text is, and what has to be known about it.
    """

    train: np.ndarray
    held_out: np.ndarray
    name: str


def memorised(
    model: LanguageModel,
    tokenizer: Tokenizer,
    train_text: str | np.ndarray,
    held_out_text: str | np.ndarray = "",
    *,
    num_prompts: int = 100,
    prompt_tokens: int = 32,
    continuation_tokens: int = 32,
    seed: int = 0,
    source: str = "",
) -> Memorised:
    """How often a greedy continuation of a training prefix is the text's own.

    Args:
        model: any member of the zoo.
        tokenizer: its tokenizer.
        train_text: what it was trained on, or the token ids of that, (n,).
        held_out_text: the control, likewise; may be empty.
        num_prompts: prompts, drawn without replacement; fewer if the text has fewer.
        prompt_tokens: tokens of each prompt.
        continuation_tokens: tokens that must all be equal.
        seed: decides where the prompts begin.
        source: what the text is, for the table.

    Raises:
        UsageError: a number below 1, or training text with less than one prompt.
    """
    numbers = {
        "num_prompts": num_prompts,
        "prompt_tokens": prompt_tokens,
        "continuation_tokens": continuation_tokens,
    }
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"{name} {number}: give 1 or more")
    rates = []
    for text in (train_text, held_out_text):
        ids = tokenizer.encode(text) if isinstance(text, str) else text
        prompts = _cut(ids, num_prompts, prompt_tokens + continuation_tokens, seed)
        rates.append(_rate(model, prompts, prompt_tokens) if len(prompts) else None)
    train, held_out = rates
    if train is None:
        raise UsageError(
            f"the training text has fewer tokens than a prompt and its continuation "
            f"({prompt_tokens} + {continuation_tokens}); lower them"
        )
    return Memorised(prompt_tokens, continuation_tokens, seed, train, held_out, source)


def memorised_by(run: Run, path: str | None = None, **options: Any) -> Memorised:
    """``memorised`` for a run, whose own text is found again.

    Args:
        run: what ``lmzoo.load`` gives.
        path: where the text is now; by default where it was.
        options: as in ``memorised``.

    Raises:
        UsageError: the text cannot be found, or is not the one that was trained on.
    """
    found = training_text(run, path)
    return memorised(
        run.model,
        run.tokenizer,
        found.train,
        found.held_out,
        source=found.name,
        **options,
    )


def training_text(run: Run, path: str | None = None) -> Source:
    """The tokens that a run was trained on, and those that it was validated on.

    Args:
        run: what ``lmzoo.load`` gives.
        path: a file, folder or glob; by default the one (or the named corpus) that
            the run was trained on. Text other than the run's is taken whole, without
            a control, and the name says so.

    Raises:
        UsageError: no text to be found, or the run's own has changed.
    """
    arguments = own_arguments(run)
    if path is not None:
        arguments |= {"corpus": None, "path": path}
    wanted = ((run.stored["data"]).get("described") or {}).get("tokens_sha256")
    problem = "it has changed since"
    try:
        data = TextDataModule(**arguments)
        if data.describe()["tokens_sha256"] == wanted:
            held_out = data.val_tokens if len(data.val_tokens) else data.test_tokens
            return Source(data.train_tokens, held_out, data.corpus_name)
    except (UsageError, TypeError) as error:
        problem = str(error)
    if path is None:
        raise UsageError(
            f"the text that {run.path} was trained on is not found: {problem}. Give "
            f"that text with --probe_text FILE"
        )
    try:
        data = TextDataModule(**{**arguments, **WHOLE})
        data.describe()
    except UsageError as error:
        raise UsageError(str(error).replace("--data.path", "--probe_text")) from error
    name = f"{data.corpus_name}, {FOREIGN}"
    return Source(data.train_tokens, data.val_tokens, name)


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _cut(ids: np.ndarray, number: int, length: int, seed: int) -> np.ndarray:
    """At most ``number`` different windows of the text, int64 (n, length)."""
    places = len(ids) - length + 1
    if places < 1:
        return np.empty((0, length), np.int64)
    random = np.random.default_rng(seed)
    starts = np.sort(random.choice(places, min(number, places), replace=False))
    return np.stack([ids[start : start + length] for start in starts]).astype(np.int64)


def _rate(model: LanguageModel, windows: np.ndarray, prompt_tokens: int) -> Rate:
    matched = np.concatenate(list(_matched(model, windows, prompt_tokens)))
    wanted = windows.shape[1] - prompt_tokens
    exact, prompts = int((matched == wanted).sum()), len(matched)
    low, high = wilson(exact, prompts)
    return Rate(prompts, exact, exact / prompts, low, high, float(matched.mean()))


def _matched(
    model: LanguageModel, windows: np.ndarray, prompt_tokens: int
) -> Iterator[np.ndarray]:
    """Tokens continued as in the text before the first other one, (B,) a batch."""
    for begin in range(0, len(windows), BATCH):
        rows = torch.from_numpy(windows[begin : begin + BATCH]).to(model.device)
        prompt, wanted = rows[:, :prompt_tokens], rows[:, prompt_tokens:]
        drawn = islice(generate(model, prompt, temperature=0.0), wanted.shape[1])
        made: Tensor = torch.stack(list(drawn), dim=1)
        yield (made == wanted).long().cumprod(1).sum(1).cpu().numpy()
