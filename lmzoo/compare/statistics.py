"""Which of two models is better, as far as seeds and text can show it.

One pair has a table of differences: seeds down, stretches of the text across. Its
mean has two sources of error, other seeds and other text. Both are resampled, whole
stretches of text in runs of neighbours, and the interval takes Student's t for its
width, because three seeds resampled among themselves look far calmer than three new
ones would. All pairs of a table share one error rate (Holm 1979, Scand. J. Statist. 6,
65-70).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lmzoo.report.spread import LEVEL, Spread
from lmzoo.report.student import quantile, two_sided

RESAMPLES = 2_000
PIECES = 64  # of a text that two models cut differently
BETTER, WORSE, TIE = "better", "worse", "no difference shown"
ONE_SEED = "one seed: says nothing about training noise"
TWO_SEEDS = "two seeds: training noise is known from one distance only"
NO_BLOCKS = "no figures by stretch of text: the seeds alone"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One trained model on the text: its figure, and bits and units by stretch.

    Attributes:
        figure: bits per unit (character or byte) over the whole text.
        bits: of each stretch, in the text's order; empty if unknown.
        units: characters or bytes of each stretch.
    """

    figure: float
    bits: tuple[float, ...] = ()
    units: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pair:
    """``one`` against ``other``: difference below zero means that ``one`` is better.

    Attributes:
        difference: bits per unit, mean over seeds.
        interval: 95 %, for this pair alone; None where nothing can be said.
        p: two-sided, for this pair alone.
        adjusted: the same after Holm's correction over the table.
        verdict: of ``one``, by ``adjusted``.
        seeds: how many both have.
        note: what the evidence leaves out.
    """

    one: str
    other: str
    difference: float
    interval: tuple[float, float] | None
    p: float
    adjusted: float
    verdict: str
    seeds: int
    note: str = ""

    @property
    def shown(self) -> bool:
        """A difference was shown, training noise included."""
        return self.verdict != TIE and self.seeds > 1


def compare(*texts: Mapping[str, Mapping[int, Measured]]) -> list[Pair]:
    """Every pair of labels of one text on the seeds that both have, Holm-corrected.

    Args:
        texts: label -> seed -> what was measured, for each text; labels of two texts
            are no pair, but all pairs of all texts share the correction.
    """
    pairs = [
        contrast(one, other, samples[one], samples[other])
        for samples in texts
        for one, other in combinations(samples, 2)
        if set(samples[one]) & set(samples[other])
    ]
    adjusted = holm([pair.p for pair in pairs])
    return [_judged(pair, p) for pair, p in zip(pairs, adjusted, strict=True)]


def contrast(
    one: str, other: str, a: Mapping[int, Measured], b: Mapping[int, Measured]
) -> Pair:
    """One pair alone: its verdict is by its own p."""
    seeds = sorted(set(a) & set(b))
    table, weights = difference_table([(a[seed], b[seed]) for seed in seeds])
    difference, error, freedom = estimate(table, weights)
    notes = [note] if (note := {1: ONE_SEED, 2: TWO_SEEDS}.get(len(seeds))) else []
    if table.shape[1] == 1:
        notes.append(NO_BLOCKS)
    if not freedom:  # one seed and no stretches: a bare difference
        pair = Pair(one, other, difference, None, 1.0, 1.0, TIE, len(seeds))
        return replace(pair, note="; ".join(notes))
    half = quantile(LEVEL, freedom) * error
    p = two_sided(abs(difference) / error, freedom) if error else float(not difference)
    interval = (difference - half, difference + half)
    note = "; ".join(notes)
    pair = Pair(one, other, difference, interval, p, p, TIE, len(seeds), note)
    return _judged(pair, p)


def _judged(pair: Pair, adjusted: float) -> Pair:
    shown = adjusted < 1 - LEVEL
    verdict = (BETTER if pair.difference < 0 else WORSE) if shown else TIE
    return replace(pair, adjusted=adjusted, verdict=verdict)


# ---- the table of differences --------------------------------------------------------


def difference_table(
    measured: Sequence[tuple[Measured, Measured]],
) -> tuple[Array, Array]:
    """Differences (seeds, stretches) that add up to bits per unit, and weights.

    A stretch's weight is its share of the text. Two models that cut the text at other
    places are brought to ``PIECES`` equal ones, by straight lines between their cuts.
    """
    if not all(m.bits and m.units for pair in measured for m in pair):
        rows = [[a.figure - b.figure] for a, b in measured]
        return np.asarray(rows, dtype=np.float64), np.ones(1)
    units = [np.asarray(m.units, dtype=np.float64) for pair in measured for m in pair]
    shares = [one / one.sum() for one in units]
    same = all(
        len(one) == len(shares[0]) and np.allclose(one, shares[0]) for one in shares
    )
    edges = np.cumsum(shares[0]) if same else np.arange(1, PIECES + 1) / PIECES
    table = [_rates(a, edges) - _rates(b, edges) for a, b in measured]
    return np.stack(table), np.diff(edges, prepend=0.0)


def _rates(measured: Measured, edges: Array) -> Array:
    """Bits of each stretch up to ``edges`` (shares of the text) over all units."""
    units = np.asarray(measured.units, dtype=np.float64)
    rates = np.cumsum(measured.bits) / units.sum()
    cuts = np.cumsum(units) / units.sum()
    inside = np.interp(edges, np.append(0.0, cuts), np.append(0.0, rates))
    return np.diff(inside, prepend=0.0)


def estimate(table: Array, weights: Array) -> tuple[float, float, float]:
    """Mean difference, its standard error, its degrees of freedom (0: none).

    The error is the spread of the mean over resampled seeds and resampled runs of
    neighbouring stretches (circular blocks: Politis and Romano 1992). Deviations
    between seeds are widened by the root of S / (S - 1), those between stretches by
    that of n / (n - run), what resampling around their own mean takes away.
    Degrees of freedom: Satterthwaite 1946, over the two sources, the seeds' widened
    too: a few that happen to agree would lend a pair the text's many degrees.
    """
    seeds, stretches = table.shape
    means = table.sum(axis=1)
    counts, shares = _resamples(seeds, stretches)
    by_seed = (counts @ table.T) / (counts @ weights)[:, None]
    error = float(np.std((by_seed * shares).sum(axis=1)))
    sources = []
    if seeds > 1:
        between = float(np.var(means, ddof=1)) / (seeds - 1)  # widened
        sources.append((between, seeds - 1))
    if stretches > 1:
        run = run_length(stretches)
        sources.append((float(np.var(by_seed.mean(axis=1))), stretches / run - 1))
    total = sum(variance for variance, _ in sources)
    parts = sum(v**2 / freedom for v, freedom in sources if freedom > 0)
    freedom = total**2 / parts if parts else sum(f for _, f in sources)
    return float(means.mean()), error, freedom


def run_length(stretches: int) -> int:
    """Neighbouring stretches that are drawn together: their square root.

    Shorter runs miss what neighbours share: with their cube root, an equal pair whose
    stretches correlate by a half is told apart in 8 to 11 of 100 comparisons, with
    this in 4 to 6 (tests/compare/test_statistics.py).
    """
    return max(1, math.isqrt(stretches))


@lru_cache(maxsize=64)
def _resamples(seeds: int, stretches: int) -> tuple[Array, Array]:
    """How often each stretch counts (B, stretches); each seed's share (B, seeds).

    A function of the two numbers alone: every run of a report draws the same.
    """
    random = np.random.default_rng([1979, seeds, stretches])
    run = run_length(stretches)
    starts = random.integers(stretches, size=(RESAMPLES, math.ceil(stretches / run)))
    drawn = (starts[:, :, None] + np.arange(run)) % stretches
    counts = _tally(drawn.reshape(RESAMPLES, -1)[:, :stretches], stretches)
    if stretches > 1:
        counts = 1 + (counts - 1) * math.sqrt(stretches / (stretches - run))
    picked = _tally(random.integers(seeds, size=(RESAMPLES, seeds)), seeds)
    wider = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    return counts, (1 + (picked - 1) * wider) / seeds


def _tally(drawn: NDArray[np.int64], size: int) -> Array:
    rows = np.arange(len(drawn))[:, None] * size
    flat = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * size)
    return flat.reshape(len(drawn), size).astype(np.float64)


# ---- a whole table -------------------------------------------------------------------


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the k-th smallest of m is multiplied by m - k."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def ranks(
    spreads: Mapping[str, Spread], pairs: Sequence[Pair]
) -> dict[str, tuple[int, int] | None]:
    """Label -> its first and last possible place among all labels.

    Two labels are set apart by a shown difference and intervals that do not overlap. A
    label stands behind all that are set apart below it, before all set apart above it;
    what is not set apart always has a place in common. None: no interval (one seed).
    """
    names = [label for label, one in spreads.items() if one.interval is not None]
    shown = {frozenset((pair.one, pair.other)) for pair in pairs if pair.shown}
    ahead = {
        b: [a for a in names if _apart(spreads, shown, a, b)] for b in names
    }  # of each label: those set apart below it
    first = {label: 1 + len(ahead[label]) for label in names}
    last = {
        label: len(names) - sum(label in others for others in ahead.values())
        for label in names
    }
    for one, other in combinations(sorted(names, key=lambda n: spreads[n].mean), 2):
        if one not in ahead[other]:
            last[one] = max(last[one], first[other])
    found: dict[str, tuple[int, int] | None] = dict.fromkeys(spreads)
    found.update({label: (first[label], last[label]) for label in names})
    return found


def _apart(
    spreads: Mapping[str, Spread], shown: set[frozenset[str]], a: str, b: str
) -> bool:
    """``a`` is set apart below ``b``."""
    first, second = spreads[a].interval, spreads[b].interval
    clear = first is not None and second is not None and first[1] < second[0]
    return clear and frozenset((a, b)) in shown
