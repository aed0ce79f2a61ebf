"""A few values: mean, deviation, an interval that covers as often as it says."""

import math

import numpy as np
import pytest

from lmzoo.report.spread import spread


def test_the_spread_over_seeds_is_students() -> None:
    found = spread([2.0, 2.1, 2.2])

    assert found.mean == pytest.approx(2.1)
    assert found.deviation == pytest.approx(0.1)
    assert found.half == pytest.approx(4.3026527 * 0.1 / math.sqrt(3))


def test_one_seed_has_no_interval() -> None:
    found = spread([2.0])

    assert (found.mean, found.deviation, found.interval) == (2.0, None, None)
    assert math.isnan(spread([math.nan]).mean)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = [
        low <= 2.0 <= high
        for low, high in (
            spread(random.normal(2.0, 0.03, 3).tolist()).interval or (0, 0)
            for _ in range(1000)
        )
    ]
    assert 0.93 < np.mean(covered) < 0.97
