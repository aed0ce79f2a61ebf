"""Samples over training, and figures of texts against values worked out by hand."""

import json
import shutil
from pathlib import Path

import pytest

import lmzoo
from lmzoo.analysis.probes.prose import averages, prose, repetition
from lmzoo.analysis.probes.samples import samples
from lmzoo.errors import UsageError
from lmzoo.text.spans import Spans
from tests.analysis.probes.conftest import MEMBERS, Zoo


@pytest.mark.parametrize("name", MEMBERS)
def test_the_same_prompt_and_seeds_at_every_checkpoint(zoo: Zoo, name: str) -> None:
    run = zoo(name)
    found = samples(str(run), prompt="the ", max_new_tokens=60, num_samples=3)

    assert found.data["seeds"] == [42, 43, 44]
    kept = found.data["checkpoints"]
    assert [one["step"] for one in kept] == [10, 20, 30]
    file = run / "checkpoints" / "step-000000020.ckpt"
    again = lmzoo.load(file).generate(
        "the ", num_samples=3, max_new_tokens=60, temperature=0.8, seed=42
    )
    assert kept[1]["texts"] == again
    assert kept[0]["texts"] != again
    for one in kept:
        for figure in ("known_words", "distinct_1", "punctuation", "symbols"):
            assert one[figure] is None or 0 <= one[figure] <= 1
    assert len(found.samples) == 3 + 2  # one of each checkpoint, the others of the last
    assert found.samples[2][1] == kept[2]["texts"][0]
    assert found.data["variability"]["samples"] == 3
    assert found.data["held_out"]["known_words"] > 0.9
    assert "words" in found.figures
    json.dumps(found.numbers(), allow_nan=False)


def test_one_checkpoint_has_samples_and_no_lines(zoo: Zoo) -> None:
    found = samples(str(zoo("ngram")), max_new_tokens=200, temperature=0)
    assert found.figures == {}
    assert found.data["checkpoints"][0]["known_words"] == 1  # it knows its text
    assert found.data["variability"]["edit_distance"] == 0
    assert "greedy" in found.notes[0]


def test_one_sample_claims_no_more_than_it_can(zoo: Zoo) -> None:
    one = samples(str(zoo("gpt")), max_new_tokens=60, num_samples=1)
    assert "cannot be told" in one.text[1]
    assert not any("set apart from" in text and "none" in text for text in one.text)
    few = samples(str(zoo("gpt")), max_new_tokens=60, num_samples=3)
    assert "3 samples of step 30 have intervals too wide" in few.text[1]
    assert "told apart" not in few.text[1]
    several = samples(str(zoo("gpt")), max_new_tokens=60, num_samples=4)
    assert "below it in real words" in several.text[1]


def test_without_spans_and_text_the_reasons_are_given(zoo: Zoo, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(zoo("gpt"), copy)
    (copy / "spans.bin").unlink()
    text = zoo("gpt").parent / "story.txt"
    text.rename(tmp_path / "elsewhere.txt")
    try:
        found = samples(str(copy), max_new_tokens=30)
    finally:
        (tmp_path / "elsewhere.txt").rename(text)
    assert all(one["known_words"] is None for one in found.data["checkpoints"])
    said = " ".join(found.notes)
    assert "spans.bin" in said
    assert "not at hand" in said
    assert found.data["held_out"] == {}


def test_figures_by_hand() -> None:
    spans = Spans.build(["the cat sat on the mat"])
    found = prose("The cat sat, on $ 1 dog!", spans)
    assert found.known_words == 4 / 6  # not 1, not dog
    assert found.punctuation == 2 / 24
    assert found.symbols == 1 / 24
    assert (found.distinct_1, found.repetition) == (1, 0)
    nothing = prose("")
    assert set(vars(nothing).values()) == {None}
    accents = prose("e\u0301a")
    assert accents.symbols == 0


def test_repetition_counts_what_stood_before() -> None:
    # abcd comes twice, of five 4-grams
    assert repetition("abcdabcd") == pytest.approx(1 / 5)
    assert repetition("aaaaaa") == pytest.approx(2 / 3)
    assert repetition("abcdefgh") == 0
    assert repetition("abc") is None


def test_averages_leave_out_what_cannot_be_counted() -> None:
    found = averages(["a b c d", ""])
    assert found["distinct_1"].values == (1.0,)
    assert found["distinct_1"].interval is None
    assert found["known_words"].values == ()


def test_what_is_refused(zoo: Zoo) -> None:
    for options, message in (
        ({"num_samples": 0}, "num_samples"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 999}, "top_k"),
        ({"checkpoints": "5"}, "no checkpoint of step 5"),
    ):
        with pytest.raises(UsageError, match=message):
            samples(str(zoo("gpt")), **options)
