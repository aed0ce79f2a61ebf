"""Ticks that a person would choose, labels that keep apart."""

import math
from itertools import pairwise

import pytest

from lmzoo.report.places import Boxes, log_ticks, spaced, tick_label, ticks


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (2.05, 2.52, [2.1, 2.2, 2.3, 2.4, 2.5]),
        (-0.3, 0.3, [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]),
        (180_000, 680_000, [2e5, 3e5, 4e5, 5e5, 6e5]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


def test_log_ticks_are_round() -> None:
    assert log_ticks(1, 1000) == pytest.approx([1, 10, 100, 1000])
    assert log_ticks(20, 600) == pytest.approx([30, 100, 300])
    assert log_ticks(12, 60) == pytest.approx([20, 30, 40, 50, 60])
    for low, high in ((1e-3, 7e8), (3, 4), (5e11, 5e12)):
        assert all(low * 0.999 <= tick <= high * 1.001 for tick in log_ticks(low, high))


def test_tick_labels_are_short() -> None:
    assert [tick_label(v, 0.1) for v in (2, 2.1)] == ["2.0", "2.1"]
    assert [tick_label(v) for v in (500, 1e3, 2e6, 1024)] == ["500", "1k", "2M", "1024"]


def test_labels_are_spread_near_their_places() -> None:
    found = spaced([10, 11, 12, 100], 18, 0, 200)

    assert sorted(found) == found
    assert all(b - a >= 18 - 1e-9 for a, b in pairwise(found))
    assert found[3] == 100
    assert spaced([198, 199], 18, 0, 200) == pytest.approx([182, 200])


def test_a_label_avoids_what_is_taken() -> None:
    free = Boxes()
    inside = (0.0, 0.0, 400.0, 400.0)
    first = free.place(100, 100, "gpt", inside)
    second = free.place(101, 101, "lstm", inside)

    assert first != second
    assert math.dist(first, second) > 12


def test_a_narrow_range_of_a_logarithmic_axis_has_ticks() -> None:
    assert all(0.926 <= tick <= 0.981 for tick in log_ticks(0.926, 0.981))
    assert log_ticks(0.926, 0.981)
