"""Intervals and verdicts: known quantiles, the null, a planted difference."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from lmzoo.compare import statistics
from lmzoo.compare.statistics import (
    BETTER,
    NO_BLOCKS,
    ONE_SEED,
    TIE,
    WORSE,
    Measured,
    Pair,
    compare,
    contrast,
    difference_table,
    estimate,
    holm,
    ranks,
)
from lmzoo.report.spread import Spread, spread

BLOCKS, CHARACTERS = 64, 1_700.0


def model(
    random, level=2.0, seeds=3, noise=0.01, block=0.15, own=0.02, text=None
) -> dict[int, Measured]:
    """Seeds of one model: the text's own ups and downs, a seed effect, block noise."""
    text = random.normal(0, block, BLOCKS) if text is None else text
    found = {}
    for seed in range(seeds):
        rate = level + text + random.normal(0, noise) + random.normal(0, own, BLOCKS)
        bits = rate * CHARACTERS
        figure = float(bits.sum() / (BLOCKS * CHARACTERS))
        found[seed] = Measured(figure, tuple(bits), (CHARACTERS,) * BLOCKS)
    return found


# ---- a pair --------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("own", [0.0, 0.1])
def test_the_null_is_rejected_about_once_in_twenty(seeds: int, own: float) -> None:
    random, rejected = np.random.default_rng(7), 0
    for _ in range(200):
        text = random.normal(0, 0.15, BLOCKS)
        a, b = (model(random, seeds=seeds, own=own, text=text) for _ in "ab")
        rejected += contrast("a", "b", a, b).verdict != TIE
    assert rejected / 200 < 0.095  # 5 %, and three standard errors
    assert own or rejected / 200 > 0.02  # not blind either


def pairs(
    alike: float, noise: float, own: float, gap: float = 0.0, count: int = 1_000
) -> Iterator[Pair]:
    """Pairs of models with three seeds each, ``gap`` standard errors apart.

    Args:
        alike: correlation of a stretch's difference with its neighbour's; the mean of
            the text's part has standard deviation 1.
        noise: standard deviation of the mean of the seeds' part.
        own: the same for each seed's own ups and downs, of one seed.
    """
    random = np.random.default_rng(17)
    wide = math.sqrt(BLOCKS * (1 - alike) / (1 + alike))  # of one stretch
    units = (1.0,) * BLOCKS
    for _ in range(count):
        text = [random.normal()]
        for fresh in random.normal(0, math.sqrt(1 - alike**2), BLOCKS - 1):
            text.append(alike * text[-1] + fresh)
        shift = gap * math.sqrt(1 + noise**2 + own**2 / 3)
        a, b = {}, {}
        for seed in range(3):
            rates = shift + wide * np.asarray(text)
            rates += random.normal(0, noise * math.sqrt(3))
            rates += random.normal(0, own * math.sqrt(BLOCKS), BLOCKS)
            a[seed] = Measured(10 + float(rates.mean()), tuple(10 + rates), units)
            b[seed] = Measured(10.0, (10.0,) * BLOCKS, units)
        yield contrast("a", "b", a, b)


def told_apart(found: Iterable[Pair]) -> float:
    return float(np.mean([pair.verdict != TIE for pair in found]))


NULLS = [(0.0, 1.0, 0.0), (0.3, 0.6, 0.5), (0.5, 0.0, 0.0), (0.5, 0.6, 0.0)]
NULLS += [(0.5, 1.0, 0.3), (0.3, 2.0, 0.0)]


@pytest.mark.parametrize(("alike", "noise", "own"), NULLS)
def test_equal_models_are_told_apart_once_in_twenty(alike, noise, own) -> None:
    """5 % within 2 %, whatever the share of seeds and of neighbours that correlate."""
    assert 0.03 < told_apart(pairs(alike, noise, own)) < 0.07


def test_short_runs_of_neighbours_would_be_too_sure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: drawn in runs of the cube root, as if a text had no topics."""
    monkeypatch.setattr(statistics, "run_length", lambda n: round(n ** (1 / 3)))
    statistics._resamples.cache_clear()

    rate = told_apart(pairs(0.5, 0.0, 0.0))

    statistics._resamples.cache_clear()
    assert rate > 0.08


@pytest.mark.parametrize(("alike", "noise"), [(0.0, 0.5), (0.5, 0.5), (0.5, 1.0)])
def test_five_standard_errors_are_seen(alike: float, noise: float) -> None:
    assert told_apart(pairs(alike, noise, 0.3, gap=5, count=150)) > 0.9


def test_resampling_three_seeds_without_student_would_be_too_sure() -> None:
    """The control: the same error with a normal quantile finds what is not there."""
    random, rejected = np.random.default_rng(7), 0
    for _ in range(200):
        text = random.normal(0, 0.15, BLOCKS)
        a, b = (model(random, own=0.0, text=text) for _ in "ab")
        pairs = [(a[seed], b[seed]) for seed in a]
        difference, error, _ = estimate(*difference_table(pairs))
        rejected += abs(difference) > 1.96 * error
    assert rejected / 200 > 0.12


def test_a_planted_difference_is_found_and_has_its_size() -> None:
    random, found = np.random.default_rng(3), []
    for _ in range(50):
        text = random.normal(0, 0.15, BLOCKS)
        good, bad = (model(random, level, text=text) for level in (2.0, 2.15))
        found.append(contrast("good", "bad", good, bad))
    assert sum(pair.verdict == BETTER for pair in found) >= 48
    covered = [pair.interval[0] < -0.15 < pair.interval[1] for pair in found]
    assert np.mean(covered) > 0.85
    assert contrast("bad", "good", bad, good).verdict == WORSE


def test_equal_data_shows_nothing() -> None:
    same = model(np.random.default_rng(5))

    pair = contrast("a", "b", same, same)

    assert (pair.verdict, pair.difference, pair.p) == (TIE, 0, 1)


def test_a_difference_that_only_the_text_varies_is_judged_by_the_text() -> None:
    """Two counting models are the same for every seed: only the stretches vary."""
    random = np.random.default_rng(8)
    text = random.normal(0, 0.15, BLOCKS)
    one, other = (model(random, level, 1, 0, text=text)[0] for level in (2.0, 2.3))

    pair = contrast(
        "a", "b", dict.fromkeys(range(3), one), dict.fromkeys((0, 2), other)
    )

    assert (pair.verdict, pair.seeds) == (BETTER, 2)


def test_one_seed_says_so() -> None:
    random = np.random.default_rng(2)
    text = random.normal(0, 0.15, BLOCKS)
    a, b = (model(random, level, seeds=1, text=text) for level in (2.0, 2.4))

    pair = contrast("a", "b", a, b)

    assert pair.verdict == BETTER
    assert pair.note == ONE_SEED
    assert not pair.shown


def test_without_stretches_the_seeds_alone_decide() -> None:
    a = {s: Measured(2.0 + 0.001 * s) for s in range(3)}
    b = {s: Measured(2.3 - 0.001 * s) for s in range(3)}

    pair = contrast("a", "b", a, b)
    lonely = contrast("a", "b", {0: a[0]}, {0: b[0]})

    assert (pair.verdict, pair.note) == (BETTER, NO_BLOCKS)
    assert (lonely.verdict, lonely.interval) == (TIE, None)


def test_other_cuts_of_the_text_keep_the_total() -> None:
    random = np.random.default_rng(4)
    a = model(random, seeds=1)[0]
    units = tuple(random.uniform(500, 2500, 41))
    bits = tuple(2.2 * u for u in units)
    b = Measured(2.2, bits, units)

    table, weights = difference_table([(a, b)])

    assert table.sum() == pytest.approx(a.figure - 2.2)
    assert weights.sum() == pytest.approx(1)


def test_the_same_data_gives_the_same_interval() -> None:
    a, b = (model(np.random.default_rng(i), 2 + i / 10) for i in (0, 1))

    assert contrast("a", "b", a, b) == contrast("a", "b", a, b)


# ---- a table -------------------------------------------------------------------------


def test_holm_is_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_many_copies_of_one_model_are_never_told_apart() -> None:
    random, families = np.random.default_rng(9), 0
    for _ in range(40):
        text = random.normal(0, 0.15, BLOCKS)
        copies = {f"m{i}": model(random, text=text) for i in range(5)}
        families += any(pair.verdict != TIE for pair in compare(copies))
    assert families / 40 < 0.12


def _spread(low: float, high: float) -> Spread:
    return Spread((low, high), (low + high) / 2, 0.1, (low, high))


def _pair(one: str, other: str, verdict: str = BETTER, seeds: int = 3) -> Pair:
    return Pair(one, other, -0.1, (-0.2, 0.0), 0.01, 0.01, verdict, seeds)


def test_ranks_are_places_that_ties_share() -> None:
    spreads = {
        "a": _spread(1.0, 1.1),
        "b": _spread(1.2, 1.3),
        "c": _spread(1.25, 1.5),
        "d": _spread(1.6, 1.7),
    }
    every = [_pair(x, y) for x in "abcd" for y in "abcd" if x < y]

    found = ranks(spreads, every)

    assert found == {"a": (1, 1), "b": (2, 3), "c": (2, 3), "d": (4, 4)}
    assert set(ranks({"a": spread([2.0]), "b": spread([9.0])}, []).values()) == {None}


def test_no_tie_is_ever_ranked_apart() -> None:
    """Any verdicts and any intervals: what is not set apart has a place in common."""
    random = np.random.default_rng(11)
    for _ in range(200):
        low = random.uniform(0, 3, 6)
        spreads = {
            f"m{i}": _spread(x, x + random.uniform(0, 1)) for i, x in enumerate(low)
        }
        pairs = [
            _pair(a, b, str(random.choice([BETTER, TIE])))
            for a in spreads
            for b in spreads
            if a < b
        ]
        found = ranks(spreads, pairs)
        for pair in pairs:
            one, other = spreads[pair.one].interval, spreads[pair.other].interval
            first, second = found[pair.one], found[pair.other]
            assert None not in (one, other, first, second)
            overlap = one[0] <= other[1] and other[0] <= one[1]
            common = first[0] <= second[1] and second[0] <= first[1]
            assert common or not (overlap or pair.verdict == TIE)
            assert 1 <= first[0] <= first[1] <= 6


def test_ranks_set_apart_what_is_shown() -> None:
    spreads = {name: _spread(i, i + 0.5) for i, name in enumerate("abc")}
    every = [_pair("a", "b"), _pair("a", "c"), _pair("b", "c")]

    assert list(ranks(spreads, every).values()) == [(1, 1), (2, 2), (3, 3)]
    # one noisy pair does not glue the others together
    less = [_pair("a", "b"), _pair("a", "c"), _pair("b", "c", TIE)]
    assert list(ranks(spreads, less).values()) == [(1, 1), (2, 3), (2, 3)]
