"""The attention probe: weights that the model uses, and what is said of them."""

import numpy as np
import pytest

from lmzoo.analysis.probes.attention import attention
from lmzoo.errors import UsageError
from tests.analysis.probes.zoo import PLUGIN, trained

PROMPT = "the quick brown"


@pytest.mark.parametrize("name", ["gpt", "transformer-unmasked"])
def test_weights_of_every_layer_and_head(name: str) -> None:
    found = attention(trained(name), prompt=PROMPT)
    weights = np.array([row["weight"] for row in found.rows]).reshape(2, 2, 15, 15)
    assert np.allclose(weights.sum(-1), 1)
    assert bool(np.triu(weights, 1).any()) is (name == "transformer-unmasked")
    (first, *_), head = found.data["heads"], weights[0, 0]
    places = np.arange(15)
    distances = np.abs(places[:, None] - places)
    distance = (head * distances).sum(1)[1:].mean()
    entropy = -(head * np.log2(np.where(head > 0, head, 1))).sum(1)[1:].mean()
    assert first["distance"] == pytest.approx(distance)
    assert first["entropy_bits"] == pytest.approx(entropy)
    assert first["entropy_bits"] < first["uniform_entropy_bits"]
    if name == "gpt":
        uniform = np.mean([t / 2 for t in range(1, 15)])
        assert first["uniform_distance"] == pytest.approx(uniform)
    assert len(found.tables[0].rows) == 4
    assert found.figures["maps"].count("layer 1, head 1") == 1
    assert set(found.figures) == {"maps", "last"}


@pytest.mark.parametrize("name", ["lstm", "ff", "conv", PLUGIN])
def test_a_model_without_attention_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="has no attention to look at") as caught:
        attention(trained(name), prompt=PROMPT)
    assert "\n" not in str(caught.value)


def test_checkpoints_differ() -> None:
    found = attention(trained("gpt"), prompt=PROMPT, checkpoints="all")
    weights = {
        step: [row["weight"] for row in found.rows if row["step"] == step]
        for step in (10, 20)
    }
    assert len(weights[10]) == len(weights[20]) == 4 * 15 * 15
    assert weights[10] != weights[20]
    assert [row[0] for row in found.tables[0].rows] == ["10"] * 4 + ["20"] * 4
