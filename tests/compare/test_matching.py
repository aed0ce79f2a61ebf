"""Equal parameters: sizes are solved to within 2 %, or refused with the nearest."""

from typing import ClassVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmzoo.analysis.anatomy.closed_forms import formula
from lmzoo.compare.matching import TOLERANCE, match, parameters, unmatched
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.models.convolution import Conv
from lmzoo.registry import models
from lmzoo.testing import check_model
from tests.training.tiny import Tiny
from tests.zoo import BUILTINS

SIZED = (
    *("gpt", "palm", "ff", "rnn", "gru", "lstm", "mingru", "mamba2", "conv", "mlp"),
    "bare",
)
TARGETS = st.integers(20_000, 5_000_000)
VOCABULARIES = st.integers(30, 8_000)


def of(name: str, vocab_size: int, sizes: dict) -> int:
    return parameters(models.load(name), {"vocab_size": vocab_size, **sizes})


def test_every_member_is_sized_or_says_why_not() -> None:
    outside = {
        name: unmatched(models.load(name), name)
        for name in BUILTINS
        if unmatched(models.load(name), name)
    }

    assert set(SIZED) | set(outside) == set(BUILTINS)
    assert "nothing to size" in outside["ngram"]
    assert "cannot be made equal" in outside.pop("pretrained")
    assert all("outside the matching" in line for line in outside.values())


@pytest.mark.parametrize("name", SIZED)
@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(target=TARGETS, vocab_size=VOCABULARIES)
def test_within_two_percent_or_no_size_is(name, target, vocab_size) -> None:
    try:
        sizes = match(name, target, {}, vocab_size)
    except UsageError:
        sizes = None
    if sizes is not None:
        found = of(name, vocab_size, sizes)
        assert abs(found - target) <= TOLERANCE * target
        assert sizes == match(name, target, {}, vocab_size)
    elif len(models.load(name).sizes) == 1:
        count = formula(name)
        counts = [count(vocab_size=vocab_size, d_model=d) for d in range(1, 400)]
        assert min(abs(c - target) for c in counts) > TOLERANCE * target
    else:  # one more in width is one more for each entry of the vocabulary, or more
        assert vocab_size > TOLERANCE * target


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("target", [50_000, 800_000, 5_000_000])
def test_usual_targets_are_met_by_all(name: str, target: int) -> None:
    assert of(name, 65, match(name, target, {}, 65)) == pytest.approx(
        target, rel=TOLERANCE
    )


@pytest.mark.parametrize("name", SIZED)
@settings(max_examples=5, deadline=None, phases=[Phase.generate])
@given(target=st.integers(50_000, 4_000_000), more=st.integers(0, 50_000))
def test_more_is_never_answered_by_less(name: str, target: int, more: int) -> None:
    less, greater = (match(name, t, {}, 65) for t in (target, target + more))

    assert of(name, 65, less) <= of(name, 65, greater)
    assert less.get("d_model", 0) <= greater.get("d_model", 0)


@pytest.mark.parametrize("heads", [1, 3, 4, 16])
def test_heads_divide_the_width(heads: int) -> None:
    sizes = match("gpt", 800_000, {"num_heads": heads}, 65)

    assert sizes["d_model"] % heads == 0


def test_the_proportions_of_the_defaults_stay() -> None:
    sizes = match("ff", 800_000, {}, 65)

    assert sizes["d_hidden"] / sizes["d_model"] == pytest.approx(256 / 32, rel=0.05)


def test_what_is_decided_already_is_left_alone() -> None:
    sizes = match("gpt", 800_000, {"d_model": 64, "context_length": 128}, 65)

    assert set(sizes) == {"d_hidden"}
    fixed = {"d_model": 64, "context_length": 128}
    assert of("gpt", 65, {**fixed, **sizes}) == pytest.approx(800_000, rel=TOLERANCE)


def test_tied_sizes_stay_equal() -> None:
    sizes = match("lstm", 800_000, {"tie_embeddings": True}, 65)

    assert sizes["d_model"] == sizes["d_hidden"]


@pytest.mark.parametrize(
    ("name", "target", "fixed", "vocab_size", "said"),
    [
        ("ngram", 800_000, {}, 65, "nothing to size"),
        ("conv-noncausal", 800_000, {}, 65, "exhibit"),
        ("gpt", 800_000, {"d_model": 64, "d_hidden": 9}, 65, "nothing is left to size"),
        ("gpt", 20_000, {}, 5_000, "the nearest is 40,591"),
        ("ff", 800_000, {"dropout": 3}, 65, "dropout must be in"),
        ("gpt", 800_000, {"num_heads": 0}, 65, "num_heads must be a positive"),
        ("gpt", 800_000, {"wings": 2}, 65, "wings"),
    ],
)
def test_refused_in_one_line(name, target, fixed, vocab_size, said) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        match(name, target, fixed, vocab_size)

    assert "\n" not in str(caught.value)


def test_a_plugin_may_name_its_sizes(monkeypatch) -> None:
    assert "names no size arguments" in str(unmatched(Tiny, "tiny"))

    class Wide(Conv):
        sizes: ClassVar[tuple[str, ...]] = ("d_model",)

    monkeypatch.setattr(models, "load", lambda name: Wide)

    assert parameters(
        Wide, {"vocab_size": 65, **match("wide", 100_000, {}, 65)}
    ) == pytest.approx(100_000, rel=TOLERANCE)


def test_the_kit_refuses_a_size_that_is_no_argument() -> None:
    class Bad(Tiny):
        sizes: ClassVar[tuple[str, ...]] = ("width",)

    assert issubclass(Bad, LanguageModel)
    assert "width" in str(check_model(Bad))
