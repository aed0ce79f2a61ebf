"""How a made text looks beside a real one: words, repetition, marks.

Each figure is of one text; texts are compared at equal lengths, for the shares of
distinct n-grams fall with the length.
"""

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass

from lmzoo.analysis.history import History
from lmzoo.analysis.texts import text_for
from lmzoo.analysis.variability import ORDERS, PHRASE, distinct
from lmzoo.errors import UsageError
from lmzoo.report.spread import Spread, spread
from lmzoo.report.words import count
from lmzoo.text.spans import Spans, words

STRETCHES = 10  # of held-out text
Averages = Mapping[str, Spread]


@dataclass(frozen=True)
class Prose:
    """Figures of one text, each in [0, 1]; None where there is nothing to count.

    Attributes:
        known_words: share of the words, repeats counted, that the training text has.
        repetition: share of the word 4-grams that stood in the text before.
        distinct_1: distinct words, divided by all words.
        distinct_2: the same of word pairs.
        distinct_3: the same of word triples.
        punctuation: share of the characters in Unicode's category P.
        symbols: share of the characters that are no letters, digits, white space,
            marks on letters or punctuation.
    """

    known_words: float | None
    repetition: float | None
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    punctuation: float | None
    symbols: float | None


FIGURES = tuple(Prose.__dataclass_fields__)


@dataclass(frozen=True)
class Made:
    """The samples of one checkpoint and what they are like."""

    step: int
    texts: list[str]
    figures: Averages


def prose(text: str, spans: Spans | None = None) -> Prose:
    """Measure one text; ``spans`` are of the training text."""
    split = words(text)
    kinds = [_kind(character) for character in text]
    singles, pairs, triples = (distinct([split], order) for order in ORDERS)
    return Prose(
        known_words=spans.word_share(text) if spans else None,
        repetition=repetition(split),
        distinct_1=singles,
        distinct_2=pairs,
        distinct_3=triples,
        punctuation=kinds.count("P") / len(kinds) if kinds else None,
        symbols=kinds.count("S") / len(kinds) if kinds else None,
    )


def repetition(split: Sequence[Hashable], order: int = PHRASE) -> float | None:
    """Share of the n-grams that occurred earlier in the same text."""
    share = distinct([split], order)
    return None if share is None else 1 - share


def averages(texts: Sequence[str], spans: Spans | None = None) -> Averages:
    """Mean of each figure over texts, with Student's 95 % interval."""
    found = [asdict(prose(text, spans)) for text in texts]
    return {
        name: spread([one[name] for one in found if one[name] is not None])
        for name in FIGURES
    }


def real_text(
    history: History, texts: Sequence[str], spans: Spans | None
) -> tuple[Averages | None, str]:
    """The figures of held-out text at the samples' length, and how they were taken.

    Args:
        history: the run, whose text is found again.
        texts: the samples.
        spans: of the training text.

    Returns:
        The averages over evenly spread stretches, and a note; None and the reason
        where there is no such text.
    """
    try:
        data = text_for(history.run)
    except UsageError as error:
        return None, f"real text to compare with is not at hand: {error}"
    split = next((s for s in ("val", "test") if len(data.prepared.tokens(s))), None)
    length = max(1, sum(map(len, texts)) // len(texts))
    text = data.text(split) if split else ""
    places = len(text) - length
    if places < 0:
        return None, "the run has no held-out text as long as a sample to compare with"
    number = max(len(texts), STRETCHES)
    starts = [_word(text, places * i // (number - 1), places) for i in range(number)]
    found = averages([text[start : start + length] for start in starts], spans)
    return found, (
        f"held-out text: {number} stretches of the {split} part, as long as the "
        f"samples ({count(length)} characters) and begun at a word, measured alike"
    )


def _word(text: str, place: int, last: int) -> int:
    """Where a word begins at or soon after ``place``, no later than ``last``."""
    for start in range(place, min(last, place + 100) + 1):
        if start == 0 or (text[start - 1].isspace() and not text[start].isspace()):
            return start
    return place


def _kind(character: str) -> str:
    """``P`` punctuation, ``S`` a symbol, "" what words and lines are made of."""
    if character.isspace():
        return ""
    category = unicodedata.category(character)[0]
    return {"L": "", "M": "", "N": "", "P": "P"}.get(category, "S")
