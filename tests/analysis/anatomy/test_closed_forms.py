"""Formulas against published totals, and against every member as it is built."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.analysis.anatomy.closed_forms import (
    attention,
    closed_form,
    embedding,
    ends,
    linear,
    mlp,
    norm,
)
from lmzoo.analysis.anatomy.parameters import count, on_meta
from lmzoo.registry import models
from tests.zoo import BUILTINS

# "pretrained" is what its source is: it has no size and no formula of its own
BUILT_IN = [name for name in BUILTINS if name != "pretrained"]
SIZES = {
    "vocab_size": st.integers(1, 300),
    "context_length": st.integers(1, 40),
    "window": st.integers(1, 12),
    "num_layers": st.integers(1, 4),
    "num_heads": st.integers(1, 5),
    "d_head": st.integers(1, 9),
    "kernel_size": st.integers(1, 5),
    "tie_embeddings": st.booleans(),
    "head_bias": st.booleans(),
    "bias": st.booleans(),
}


def test_the_numbers_of_the_counting_notebook() -> None:
    """Embedding width 5, 256 code points; two heads of width 256."""
    assert embedding(256, 5) == 1_280
    assert ends(256, 5, tie_embeddings=True) == 1_280
    assert ends(256, 5, tie_embeddings=True, head_bias=True) == 1_536
    assert ends(256, 5) == 2_560
    assert mlp(5, 16) == 181
    assert ends(256, 5, tie_embeddings=True) + mlp(5, 16) == 1_461
    heads = attention(5, 2, 256, bias=False)
    assert heads == 10_240
    assert heads + 2 * norm(5) + mlp(5, 5) == 10_320
    layer = heads + 2 * norm(5) + mlp(5, 16)
    assert ends(256, 5, tie_embeddings=True) + embedding(50, 5) + layer == 11_971


def test_the_small_families_of_the_sequence_notebook() -> None:
    """About 180 numbers each, at width 5."""
    assert mlp(5, 16) == 181
    assert 3 * (linear(5, 5) + linear(5, 5)) == 180  # GRU
    assert linear(7 * 5, 5) == 180  # convolution, kernel 7


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"tie_embeddings": True, "head_bias": False}, 1_280),
        ({"tie_embeddings": True, "head_bias": True}, 1_536),
        ({"tie_embeddings": False, "head_bias": False}, 2_560),
    ],
)
def test_the_bare_model_of_the_notebook_is_a_member(arguments, expected) -> None:
    arguments = {"vocab_size": 256, "d_model": 5, **arguments}

    assert closed_form("bare", **arguments) == expected
    assert count(on_meta(models.load("bare"), arguments)).parameters == expected


def test_the_mlp_model_of_the_notebook_is_a_member() -> None:
    arguments = {"vocab_size": 256, "d_model": 5, "d_hidden": 16}
    arguments |= {"tie_embeddings": True, "head_bias": False}

    assert closed_form("mlp", **arguments) == 1_461
    assert count(on_meta(models.load("mlp"), arguments)).parameters == 1_461


@pytest.mark.parametrize(
    ("preset", "published"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
        ("openai-gpt", 116_534_784 + 2 * 768),  # a final norm that it did not have
    ],
)
def test_published_totals(preset: str, published: int) -> None:
    cls = models.load("gpt")
    arguments = cls.preset_arguments(preset)

    built = on_meta(cls, arguments)

    assert closed_form("gpt", **arguments) == published
    assert sum(p.numel() for p in built.parameters()) == published


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_formulas_equal_the_built_model(name: str, data: st.DataObject) -> None:
    cls = models.load(name)
    arguments = _arguments(cls, data)

    built = on_meta(cls, arguments)
    formula = closed_form(name, **arguments)

    assert formula == sum(p.numel() for p in built.parameters())


def test_the_real_model_has_no_other_number_than_the_one_on_meta() -> None:
    for name in BUILT_IN:
        cls = models.load(name)
        real = sum(p.numel() for p in cls(vocab_size=31).parameters())
        assert closed_form(name, vocab_size=31) == real, name


def test_a_plugin_has_no_formula_and_a_wrong_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="d_modle"):
        closed_form("gpt", vocab_size=3, d_modle=3)


def _arguments(cls: type, data: st.DataObject) -> dict:
    """Arguments that the constructor takes: tied sizes agree, heads may have any."""
    declared = cls.__init__.__annotations__
    chosen = {
        key: data.draw(values, label=key)
        for key, values in SIZES.items()
        if key in declared
    }
    for key in ("d_model", "d_hidden"):
        if key in declared:
            chosen[key] = data.draw(st.integers(1, 24), label=key)
    features_are_hidden = cls.__name__ in ("RNN", "GRU", "LSTM", "Heaviside")
    if chosen.get("tie_embeddings") and features_are_hidden:
        chosen["d_hidden"] = chosen["d_model"]
    return chosen
