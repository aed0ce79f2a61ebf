"""Student's t against printed tables and closed forms."""

import math

import pytest

from lmzoo.report.student import incomplete_beta, quantile, two_sided


@pytest.mark.parametrize(
    ("level", "freedom", "t"),
    [  # tables: Abramowitz and Stegun 26.10
        (0.95, 1, 12.7062047),
        (0.95, 2, 4.3026527),
        (0.95, 4, 2.7764451),
        (0.99, 2, 9.9248432),
        (0.95, 10, 2.2281389),
        (0.95, 30, 2.0422725),
        (0.999, 5, 6.8688266),
        (0.95, 1e9, 1.9599640),
    ],
)
def test_quantiles_are_the_tables(level: float, freedom: float, t: float) -> None:
    assert quantile(level, freedom) == pytest.approx(t, rel=5e-5)
    assert two_sided(t, freedom) == pytest.approx(1 - level, rel=2e-4)


def test_the_incomplete_beta_has_its_closed_forms() -> None:
    for x in (0.01, 0.3, 0.5, 0.77, 0.99):
        assert incomplete_beta(x, 1, 1) == pytest.approx(x)
        assert incomplete_beta(x, 3, 1) == pytest.approx(x**3)
        assert incomplete_beta(x, 1, 4) == pytest.approx(1 - (1 - x) ** 4)
        arcsine = 2 / math.pi * math.asin(math.sqrt(x))
        assert incomplete_beta(x, 0.5, 0.5) == pytest.approx(arcsine)
    assert (incomplete_beta(0, 2, 3), incomplete_beta(1, 2, 3)) == (0, 1)
