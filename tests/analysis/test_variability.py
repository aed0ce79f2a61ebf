"""Figures of a few short samples, against values worked out by hand."""

import json
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmzoo.analysis.variability import (
    distinct,
    edit_distance,
    levenshtein,
    self_overlap,
    variability,
)
from lmzoo.errors import UsageError
from lmzoo.text.spans import Spans

CAT, DOG = "The cat sat on the mat.", "the dog sat on the mat"
SHORT = st.text("abc", max_size=9)


def by_definition(one: str, other: str) -> int:
    """The recursion of Wagner and Fischer (1974)."""

    @cache
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        swap = between(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(swap, between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(one), len(other))


@given(SHORT, SHORT)
def test_the_edit_distance_is_the_one_defined(one: str, other: str) -> None:
    assert levenshtein(one, other) == by_definition(one, other)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("kitten", "sitting", 3 / 7),
        ("", "", 0),
        ("", "abcd", 1),
        ("a" * 999, "a" * 1000, 1 / 1000),
        ("é" * 70, "e" * 70, 1),
    ],
)
def test_it_is_divided_by_the_longer(one: str, other: str, distance: float) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_distinct_counts_over_all_samples_and_across_none() -> None:
    samples = [["a", "b", "a"], ["b", "a"]]
    assert distinct(samples, 1) == 2 / 5
    assert distinct(samples, 2) == 2 / 3  # ab, ba, ba
    assert distinct(samples, 3) == 1
    assert distinct(samples, 4) is None
    assert distinct(["aab"], 2) == 1


def test_self_overlap_is_the_mean_share_of_phrases_found_elsewhere() -> None:
    one, other = "abcde", "bcdefg"  # a letter stands for a word
    assert self_overlap([one, other]) == (1 / 2 + 1 / 3) / 2
    assert self_overlap([one, other, "xyz"]) == (1 / 2 + 1 / 3) / 2
    assert self_overlap([one, "abcxe"]) == 0
    assert self_overlap(["aaaaa", one]) == 0  # not in another sample
    assert self_overlap([one]) is None
    assert self_overlap(["a", "b"]) is None


def test_two_samples_by_hand() -> None:
    found = variability([CAT, DOG])
    assert (found.samples, found.characters, found.words) == (2, 45, 12)
    assert found.distinct_words == (6 / 12, 7 / 10, 6 / 8)
    assert found.edit_distance == 5 / 23  # T c a t, and the full stop
    assert found.self_overlap == 1 / 3  # "sat on the mat", of three phrases each


def test_equal_samples_do_not_vary_and_different_ones_do() -> None:
    same = variability([CAT] * 5)
    assert same.distinct_words == (5 / 30, 5 / 25, 4 / 20)
    assert same.distinct_characters[2] == 19 / 105  # "at " and "he " come twice
    assert same.edit_distance == 0
    assert same.self_overlap == 1

    other = variability([CAT, "0 1 2 3 4 5 6 7 8 9"])
    assert other.edit_distance > 0.75
    assert other.self_overlap == 0
    assert other.distinct_words[0] > 0.9


def test_what_was_copied_is_shown() -> None:
    spans = Spans.build(["Once upon a time the cat sat on the mat and slept.\n"])
    found = variability([CAT, DOG], spans)
    assert (found.longest_copied, found.copied) == (21, "he cat sat on the mat")
    assert found.known_words == 11 / 12
    assert "upper bound" in str(found)
    assert f"{found.longest_copied} characters: 'he cat sat" in str(found)
    control = variability(["Nothing like it was ever seen"], spans)
    assert (control.longest_copied, control.copied) == (0, "")
    assert control.edit_distance is None


def test_a_sample_of_spans_is_called_approximate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lmzoo.text.spans.SPAN_ROOM", 32)
    spans = Spans.build([" ".join(map(str, range(99)))])
    assert spans.spans.every > 1
    assert "approximate" in variability([CAT], spans).note


def test_without_spans_the_reason_is_given() -> None:
    found = variability([CAT, DOG])
    assert (found.known_words, found.longest_copied, found.copied) == (None, None, None)
    assert str(found).count("needs a run folder") == 2
    assert "spans.bin" in str(found)


def test_the_figures_are_plain_json() -> None:
    plain = variability([CAT, "", DOG], Spans.build([CAT])).plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) > {"distinct_words", "edit_distance", "self_overlap", "note"}
    rows = variability(["", ""]).rows()
    assert all(isinstance(value, str) for row in rows for value in row)


def test_no_sample_is_refused() -> None:
    with pytest.raises(UsageError, match="no samples"):
        variability([])
