"""What a classifier is measured against: the commonest label, and counts of words.

The bag of words is logistic regression on tf-idf weights of words and pairs of words
(scikit-learn, extra ``baselines``), fitted to the same training texts.
"""

import importlib.util
import math
from typing import Any

import numpy as np
import torch

from lmzoo.metrics import ClassificationMetrics

MISSING = "no bag-of-words baseline: pip install 'lmzoo[baselines]' brings it"
INVERSE_PENALTY = 4.0  # C of the logistic regression


def baselines(data: Any, split: str = "val") -> dict[str, dict[str, float]]:
    """Figures of each baseline on a part of a ``LabelledDataModule``.

    Returns:
        name -> nll, accuracy, f1, auroc, calibration_error; without scikit-learn only
        ``majority``.
    """
    train, part = data.parts["train"], data.parts[split]
    rows = {"majority": _majority(train, part, len(data.labels))}
    if has_library():
        rows["bag of words"] = _bag_of_words(train, part, len(data.labels))
    return rows


def has_library() -> bool:
    """Whether scikit-learn is there."""
    return importlib.util.find_spec("sklearn") is not None


def _majority(train: Any, part: Any, classes: int) -> dict[str, float]:
    """Every text gets the shares of the labels in training, so one label wins."""
    shares = np.bincount(train.targets, minlength=classes) / len(train.targets)
    chances = np.broadcast_to(shares, (len(part.texts), classes))
    return {**_measured(chances, part.targets), "auroc": 0.5}


def _bag_of_words(train: Any, part: Any, classes: int) -> dict[str, float]:
    # optional: the baselines extra
    import sklearn.feature_extraction.text as counting  # pyright: ignore

    # optional: the baselines extra
    import sklearn.linear_model as linear  # pyright: ignore

    words = counting.TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[!?]"
    )
    model = linear.LogisticRegression(C=INVERSE_PENALTY, max_iter=1000)
    model.fit(words.fit_transform(train.texts), train.targets)
    chances = np.full((len(part.texts), classes), 1e-12)
    chances[:, model.classes_] = model.predict_proba(words.transform(part.texts))
    return _measured(chances, part.targets)


def _measured(chances: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    metrics = ClassificationMetrics()
    logits = torch.from_numpy(np.log(np.maximum(chances, math.exp(-60))))
    metrics.update(logits, torch.from_numpy(targets))
    return metrics.compute()
