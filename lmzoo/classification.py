"""Labels for texts with a trained classifier: the label, its score, all the scores.

>>> import lmzoo
>>> from lmzoo.classification import classify
>>> classify(lmzoo.load("runs/classifier-sst2-1a2b3c4d"), ["a joy to watch"])
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from lmzoo import runs
from lmzoo.errors import UsageError
from lmzoo.models.classifier import Classifier
from lmzoo.report.words import with_article
from lmzoo.text.labelled_files import BREAKS
from lmzoo.text.labelled_loader import padded
from lmzoo.text.labelled_parts import encode

BATCH = 64  # texts at a time


class Prediction(NamedTuple):
    """What a classifier says of one text.

    Attributes:
        label: the likeliest label's name.
        score: its probability, as the softmax gives it.
        scores: the probability of every label; they sum to 1.
    """

    label: str
    score: float
    scores: dict[str, float]


def classifier_of(run: runs.Run) -> Classifier:
    """The classifier that a run holds.

    Raises:
        UsageError: it holds something else.
    """
    if not isinstance(run.member, Classifier):
        raise UsageError(
            f"{with_article(run.member.task)} gives no labels; train a classifier on "
            f"it: lmzoo fit --model classifier --model.body {run.place} --data.path "
            f"LABELLED"
        )
    return run.member


def classify(run: runs.Run, texts: Sequence[str]) -> list[Prediction]:
    """A prediction for each text, in their order.

    Args:
        run: of a classifier; its model stays on the device that it is on.
        texts: of any length; longer ones are cut as in training.

    Raises:
        UsageError: the run holds no classifier.
    """
    return list(predictions(run, texts))


@torch.inference_mode()
def predictions(run: runs.Run, texts: Sequence[str]) -> Iterator[Prediction]:
    """As ``classify``, batch after batch."""
    model = classifier_of(run)
    for begin in range(0, len(texts), BATCH):
        chances = logits(run, texts[begin : begin + BATCH]).double().softmax(-1)
        for row in chances.tolist():
            scores = dict(zip(model.labels, row, strict=True))
            label = max(scores, key=lambda name: scores[name])
            yield Prediction(label, scores[label], scores)


@torch.no_grad()
def logits(run: runs.Run, texts: Sequence[str]) -> torch.Tensor:
    """The classifier's logits for texts, (n, K), in batches."""
    model = classifier_of(run)
    stated: dict[str, Any] = (run.stored.get("data") or {}).get("arguments") or {}
    if not stated.get("keep_breaks"):
        texts = [BREAKS.sub(" ", text) for text in texts]
    side = "tail" if stated.get("truncation") == "tail" else "head"
    ids = encode(
        run.tokenizer, [text.strip() for text in texts], model.context_length, side
    )
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # little is padding
    found = torch.empty(len(ids), len(model.labels))
    for begin in range(0, len(order), BATCH):
        rows = order[begin : begin + BATCH]
        tokens, mask = padded([ids[row] for row in rows])
        given = model(tokens.to(model.device), mask.to(model.device))
        found[rows] = given.float().cpu()
    return found
