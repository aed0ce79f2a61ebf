"""Time against sequence length: how each architecture's cost grows.

A pass takes the same number of sequences at every length, so its tokens grow with the
length: an exponent of 1 is a constant cost per token, 2 that of attention alone. All
models and lengths are timed in every round, in a shuffled order, so that a noisy
neighbour hits all alike.

An exponent is the slope of log time on log length by least squares. Short passes cost
what it costs to launch their operations and say nothing of growth: a length is fitted
only if its pass takes at least ``OVERHEAD`` times as long as a pass over one token,
and the three longest are fitted in any case.
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise, product
from typing import Any

import torch
from torch import Tensor

from lmzoo.analysis.anatomy.parameters import count
from lmzoo.compare.matching import TOLERANCE
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel, require_language_model
from lmzoo.registry import models

PASSES = ("forward", "backward")
OVERHEAD = 2.0
FEWEST = 3  # lengths that a slope with a residual needs
SAMPLE_SECONDS = 0.02  # passes are repeated until one sample lasts this long
ORDER = (("bare", "mlp", "conv"), ("gpt",), ("gru",))  # expected, on short input

Member = tuple[str, dict[str, Any]]  # registry name, arguments of its constructor
Timing = dict[str, Any]


@dataclass
class _Cell:
    """One model at one length: what is timed, and what was measured."""

    model: LanguageModel
    tokens: Tensor  # (B, T)
    targets: Tensor  # (B, T)
    repeats: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in PASSES}
    )

    def forward(self) -> None:
        """Logits alone, without a graph."""
        with torch.no_grad():
            self.model(self.tokens)

    def backward(self) -> None:
        """Logits, loss and gradients, without the optimizer; the graph is freed."""
        self.model.loss(self.model(self.tokens), self.targets).backward()

    def time(self, name: str, repeats: int) -> float:
        """Mean seconds of one pass."""
        run = getattr(self, name)
        self.model.train(name == "backward")
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        seconds = (time.perf_counter() - start) / repeats
        self.model.zero_grad(set_to_none=True)
        return seconds

    def warm_up(self) -> None:
        """Leave out the first passes, and choose how many make a sample."""
        for name in PASSES:
            self.time(name, 1)
            once = self.time(name, 2)
            self.repeats[name] = min(100, max(1, round(SAMPLE_SECONDS / once)))

    def sample(self) -> None:
        """Add one time of each pass."""
        for name in PASSES:
            self.seconds[name].append(self.time(name, self.repeats[name]))


def measure(
    members: Mapping[str, Member],
    lengths: Sequence[int],
    *,
    vocab_size: int = 65,
    batch: int = 8,
    rounds: int = 7,
    threads: int | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> dict[str, Timing]:
    """Forward and forward+backward time of each model at each length, on the CPU.

    A model is built anew for each length, with that context: one with a table of
    positions has more parameters at a greater length, and ``parameters`` says so.

    Args:
        members: label -> (name in the zoo, arguments other than the vocabulary and the
            context length); equal-parameter arguments come in here.
        lengths: tokens of one sequence, increasing.
        vocab_size: V.
        batch: sequences in a pass.
        rounds: times that each pass is sampled.
        threads: of every pass; None: as torch is set.
        told: called with the number of rounds done.

    Returns:
        label -> JSON-plain: ``lengths``, ``tokens`` of a pass, ``parameters`` at each
        length, ``model``, ``arguments``, ``batch``, ``rounds``, ``threads``; for
        ``forward`` and ``backward`` (which is forward and backward) the median seconds
        at each length, and under ``..._spread`` their quartiles; ``overhead_...``,
        seconds of a pass over one token; ``exponent_forward`` and ``exponent`` (of
        ``backward``), with ``residual...``, the root mean square of what the line
        leaves of log time, and ``fitted...``, the lengths it was fitted to;
        ``tokens_per_second`` of forward and backward.

    Raises:
        UsageError: a model that cannot be timed, or lengths, batch or rounds that make
            no measurement.
    """
    _require(lengths, vocab_size=vocab_size, batch=batch, rounds=rounds)
    with _threads(threads) as used:
        cells = {
            label: {
                # one token, for the overhead; then the lengths
                length: _cell(label, member, length, vocab_size, batch if length else 1)
                for length in (0, *lengths)
            }
            for label, member in members.items()
        }
        _run([cell for row in cells.values() for cell in row.values()], rounds, told)
    common = {"batch": batch, "rounds": rounds, "threads": used}
    return {
        label: _summary(members[label], row, batch) | common
        for label, row in cells.items()
    }


def fit_exponent(
    lengths: Sequence[int], seconds: Sequence[float], overhead: float = 0.0
) -> tuple[float, float, list[int]]:
    """Slope of log time on log length, its residual, and the lengths it is fitted to.

    Args:
        lengths: tokens of a sequence, increasing.
        seconds: of a pass at each.
        overhead: seconds of a pass with next to no work.

    Returns:
        NaN for both numbers where fewer than two lengths were timed.
    """
    loaded = [s >= OVERHEAD * overhead for s in seconds]
    first = loaded.index(True) if True in loaded else len(lengths)
    first = max(0, min(first, len(lengths) - FEWEST))
    fitted = list(lengths[first:])
    if len(fitted) < 2:
        return math.nan, math.nan, fitted
    x = [math.log(length) for length in fitted]
    y = [math.log(s) for s in seconds[first:]]
    slope, intercept = statistics.linear_regression(x, y)
    left = [b - slope * a - intercept for a, b in zip(x, y, strict=True)]
    return slope, math.sqrt(statistics.fmean(e * e for e in left)), fitted


def ordering(timings: Mapping[str, Timing], name: str = "backward") -> str:
    """One sentence: does the expected order hold at the shortest length?

    Position-wise and convolutional models before the Transformer before the GRU. Two
    models are in order only if their quartiles do not overlap. Pairs that are in order
    and pairs that are not are both named, and whether the sizes were equal.

    Args:
        timings: what ``measure`` returned.
        name: the pass, "forward" or "backward".

    Returns:
        The sentence; "" where a part of the order was not timed.
    """
    of = {timing["model"]: timing for timing in timings.values()}
    groups = [[model for model in group if model in of] for group in ORDER]
    passes = "forward" if name == "forward" else "forward + backward"
    if not all(groups):
        return ""
    length = min(timing["lengths"][0] for timing in of.values())
    right, wrong = [], []
    for quicker, slower in pairwise(groups):
        for one, other in product(quicker, slower):
            relation = _relation(of[one], of[other], name)
            if relation:
                wrong.append(f"{other} {relation} {one}")
            else:
                right.append(f"{one} < {other}")
    ranked = sorted(chain(*groups), key=lambda model: of[model][name][0])
    found = " < ".join(f"{model} {of[model][name][0] * 1e3:.2f} ms" for model in ranked)
    verdict = "holds"
    if wrong:
        kept = f"of it holds {_and(right)}" if right else "nothing of it holds"
        verdict = f"does not hold ({_and(wrong)}; {kept})"
    where = f"{passes} at {length} tokens, {_sizes([of[model] for model in ranked])}"
    expected = " < ".join(", ".join(group) for group in groups)
    return (
        f"{where}, {found}: the order to expect of short texts on a CPU "
        f"({expected}) {verdict}"
    )


def _sizes(timings: list[Timing]) -> str:
    """``equal parameters``, or how far the models are apart."""
    counts = [timing["parameters"][0] for timing in timings]
    low, high = min(counts), max(counts)
    if high - low <= 2 * TOLERANCE * low:
        return "equal parameters"
    return f"{low:,} to {high:,} parameters"


def _relation(one: Timing, other: Timing, name: str) -> str:
    """What ``other`` is to ``one``, which should be quicker; "" if it is."""
    (low, high), (other_low, other_high) = (
        timing[f"{name}_spread"][0] for timing in (one, other)
    )
    if other_low > high:
        return ""
    return "is quicker than" if other_high < low else "is not told apart from"


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# ---- building and timing -------------------------------------------------------------


def _require(lengths: Sequence[int], **counts: int) -> None:
    if not lengths or min(lengths) < 1 or list(lengths) != sorted(set(lengths)):
        given = ", ".join(map(str, lengths)) or "none"
        raise UsageError(f"lengths must be positive and increasing, given {given}")
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name} must be 1 or more, given {value}")


@contextmanager
def _threads(number: int | None) -> Iterator[int]:
    before = torch.get_num_threads()
    if number is not None:
        if number < 1:
            raise UsageError(f"threads must be 1 or more, given {number}")
        torch.set_num_threads(number)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _cell(
    label: str, member: Member, length: int, vocab_size: int, batch: int
) -> _Cell:
    name, arguments = member
    cls = models.load(name)
    require_language_model(cls, name)
    if cls.counting:
        raise UsageError(f"{label}: a counting model has no backward pass to time")
    sizes = {"vocab_size": vocab_size, "context_length": max(1, length)}
    generator = torch.Generator().manual_seed(length)
    size = (2, batch, max(1, length))
    tokens, targets = torch.randint(vocab_size, size, generator=generator)
    try:
        cell = _Cell(cls(**{**arguments, **sizes}), tokens, targets)
        cell.warm_up()
    except (TypeError, ValueError, RuntimeError) as error:
        line = str(error).strip().partition("\n")[0]
        raise UsageError(f"{label} at {max(1, length)} tokens: {line}") from error
    return cell


def _run(cells: list[_Cell], rounds: int, told: Callable[[int], None]) -> None:
    for number in range(rounds):
        order = random.Random(number).sample(cells, len(cells))
        for cell in order:
            cell.sample()
        told(number + 1)


def _summary(member: Member, row: dict[int, _Cell], batch: int) -> Timing:
    row = dict(row)
    tiny = row.pop(0)
    lengths = list(row)
    timing: Timing = {
        "model": member[0],
        "arguments": dict(member[1]),
        "lengths": lengths,
        "tokens": [batch * length for length in lengths],
        "parameters": [count(cell.model).parameters for cell in row.values()],
    }
    for name, suffix in (("forward", "_forward"), ("backward", "")):
        overhead = statistics.median(tiny.seconds[name])
        seconds = [statistics.median(cell.seconds[name]) for cell in row.values()]
        exponent, residual, fitted = fit_exponent(lengths, seconds, overhead)
        timing |= {
            name: seconds,
            f"{name}_spread": [_quartiles(c.seconds[name]) for c in row.values()],
            f"overhead_{name}": overhead,
            f"exponent{suffix}": exponent,
            f"residual{suffix}": residual,
            f"fitted{suffix}": fitted,
        }
    timing["tokens_per_second"] = [
        tokens / seconds
        for tokens, seconds in zip(timing["tokens"], timing["backward"], strict=True)
    ]
    return timing


def _quartiles(seconds: list[float]) -> list[float]:
    if len(seconds) < 2:
        return [seconds[0], seconds[0]]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return [low, high]
