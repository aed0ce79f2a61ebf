"""What a classifier must beat: the majority, and a bag of words."""

import importlib.util

import numpy as np
import pytest

from lmzoo.text.labelled import LabelledDataModule
from lmzoo.training.baselines import baselines, has_library


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "films.csv"
    kinds = ["good", "good", "good", "bad", "bad"]
    rows = [f"a {kinds[n % 5]} film {n},{kinds[n % 5]}" for n in range(100)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return LabelledDataModule(path=str(path), val_fraction=0.2)


def test_the_majority_says_the_commonest_label(data) -> None:
    row = baselines(data)["majority"]

    entropy = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
    assert row["accuracy"] == pytest.approx(0.6)
    assert row["nll"] == pytest.approx(entropy, rel=1e-6)
    assert row["calibration_error"] == pytest.approx(0.0, abs=1e-6)
    assert row["auroc"] == 0.5


def test_a_bag_of_words_tells_what_one_word_tells(data) -> None:
    if not has_library():
        pytest.skip("scikit-learn is not installed: pip install 'lmzoo[baselines]'")
    assert baselines(data)["bag of words"]["accuracy"] == 1.0
    data.parts["val"].targets = 1 - data.parts["val"].targets  # the control
    assert baselines(data)["bag of words"]["accuracy"] == 0.0


def test_without_scikit_learn_there_is_one_row(data, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert list(baselines(data)) == ["majority"]
