"""Every member of the zoo, through the contract kit."""

import pytest

from lmzoo.laws import LAWS_OF
from lmzoo.registry import models
from lmzoo.testing import check_model


@pytest.mark.parametrize("name", sorted(models._builtins))
def test_the_whole_zoo_keeps_the_contract(name: str) -> None:
    report = check_model(name)
    assert report.ok, str(report)
    if report.rows[0].verdict == "not proved":
        pytest.skip(f"{name}: {report.rows[0].detail}")
    assert [row.law for row in report.rows] == list(LAWS_OF[models.load(name).task])
    unproved = [row.law for row in report.rows if row.verdict == "does not apply"]
    if models.load(name).task != "language model":
        assert not unproved
    elif models.load(name).pretrained:
        assert unproved == ["initial_loss", "counts"]
    elif models.load(name).counting:
        assert unproved == ["initial_loss", "gradient", "overfit"]
    else:
        assert unproved == ["counts"]


# not bare: tied, its logits are symmetric, so no text but a repetition can be learned
@pytest.mark.parametrize("name", ["gpt", "ff", "lstm", "gru", "rnn", "conv", "mlp"])
@pytest.mark.parametrize("head_bias", [False, True])
def test_tied_and_biased_heads_keep_it_too(name: str, head_bias: bool) -> None:
    report = check_model(name, tie_embeddings=True, head_bias=head_bias)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("ngram", {"order": order}) for order in range(1, 7)),
        ("ff", {"window": 1, "d_hidden": 64}),
        ("ff", {"window": 2}),
        ("gpt", {"context_length": 4}),
    ],
)
def test_the_ends_of_their_ranges_keep_it_too(name: str, arguments: dict) -> None:
    report = check_model(name, **arguments)
    assert report.ok, str(report)
