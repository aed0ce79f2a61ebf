"""Models of one start set side by side: what each loses, writes, and makes of a phrase.

The original, what was fine-tuned from it, and what was imported as log-probabilities.
How it is told is in ``side_by_side_page.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lmzoo import runs
from lmzoo.analysis.texts import text_for
from lmzoo.analysis.transfer.passes import Losses, losses
from lmzoo.runs import Run
from lmzoo.scoring import Score, score

Cells = dict[tuple[str, str], Losses]  # (model, text)


@dataclass
class Model:
    """One of those set side by side.

    Attributes:
        name: for headings.
        run: opened.
        corpus: the name of the text that it was fine-tuned on; "" for the original.
    """

    name: str
    run: Run
    corpus: str = ""


@dataclass
class Phrase:
    """A text to be scored, and what other models made of it: (name, score) each."""

    text: str
    imported: list[tuple[str, Score]] = field(default_factory=list)


def measured(models: Sequence[Model], most: int = 0) -> Cells:
    """The loss of every model on the validation part of every text fine-tuned on.

    All read windows of the same length, the shortest that one was trained with: a
    longer context would be an advantage of its own.

    Args:
        models: the original and others.
        most: targets of a text, evenly spread; 0 for all.

    Raises:
        UsageError: a text that is gone or has changed.
    """
    length = min(model.run.model.context_length for model in models)
    found: Cells = {}
    for home in (model for model in models if model.corpus):
        for model in models:
            own = model.run.stored["tokenizer"]
            # its tokens may be others, and the text is the same
            data = text_for(home.run, tokenizer_state=own, context_length=length)
            network = model.run.model
            before, network.context_length = network.context_length, length
            try:
                cost = losses(network, data, "val", most)
            finally:
                network.context_length = before
            found[model.name, home.corpus] = cost
    return found


def scores(models: Sequence[Model], phrase: Phrase) -> list[tuple[str, Score]]:
    """A phrase under every model, and what was imported of it."""
    own = [(m.name, score(m.run.model, m.run.tokenizer, phrase.text)) for m in models]
    return [*own, *phrase.imported]


def figures(cost: Losses) -> dict[str, float]:
    """The numbers of one model on one text."""
    return {
        "targets": len(cost.nats),
        "nats_per_token": cost.nats_per_token,
        "perplexity": perplexity(cost),
        "bits_per_char": cost.bits_per_char,
    }


def perplexity(cost: Losses) -> float:
    """Exponential of the nats per token; infinity where that overflows."""
    return math.exp(cost.nats_per_token) if cost.nats_per_token < 700 else math.inf


def known(model: Model, text: str) -> str:
    """How much of a text stands in what a model was fine-tuned on, if it was."""
    spans = runs.read_spans(model.run.path) if model.corpus else None
    if spans is None:
        return "not known" if not model.corpus else "no record"
    found = spans.present(text)
    if not len(found):
        return "too short to tell"
    return "all of it" if found.all() else f"{found.mean():.0%}"
