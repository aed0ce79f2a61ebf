"""Curves as they enter a chart."""

from lmzoo.report.charts import entering


def test_a_line_from_above_enters_at_the_top() -> None:
    assert entering([1, 2, 3], [6, 4, 2], 5) == ([1.5, 2, 3], [5, 4, 2])
    assert entering([1, 2], [3, 2], 5) == ([1, 2], [3, 2])
