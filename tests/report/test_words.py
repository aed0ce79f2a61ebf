"""Numbers as words: few digits, real minus signs, dashes for what is not known."""

import math

import pytest

from lmzoo.report import words
from lmzoo.report.spread import spread
from lmzoo.report.words import MINUS, NONE


@pytest.mark.parametrize("of", ["decimals", "signed", "count", "short", "size"])
def test_what_is_not_known_is_a_dash(of: str) -> None:
    function = getattr(words, of)
    assert {function(value) for value in (None, math.nan, math.inf)} == {NONE}
    assert function(1.0) != NONE


def test_numbers_have_few_digits() -> None:
    assert words.decimals(2.30611) == "2.306"
    assert words.count(560_194.2) == "560,194"
    assert words.short(1.234e15) == "1.23 P"
    assert words.size(384_829_069) == "367 MiB"
    assert [words.seconds(s) for s in (3.456, 345.6)] == ["3.5", "346"]
    assert words.percent(0.0321) == "3.2 %"
    assert [words.p_value(p) for p in (1e-7, 0.0123)] == ["< 0.0001", "= 0.012"]


def test_signs_are_real_and_zero_has_none() -> None:
    assert words.signed(-0.0752) == f"{MINUS}0.075"
    assert words.signed(0.0752) == "+0.075"
    assert words.signed(-0.0001) == "0.000"
    assert words.between((-0.5, 0.25), 2) == f"{MINUS}0.50 to 0.25"


def test_an_interval_stands_only_where_there_is_one() -> None:
    assert words.with_interval(spread([2.0])) == "2.000"
    assert words.with_interval(spread([2.0, 2.1, 2.2])) == "2.100 ± 0.248"


def test_lists_read_as_sentences() -> None:
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.some(list("abcdefg"), 3) == "a, b and 5 more"
    assert [words.plural(n, "seed") for n in (1, 2)] == ["1 seed", "2 seeds"]
