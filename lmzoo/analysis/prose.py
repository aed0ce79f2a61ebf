"""How a made text looks beside a real one: words, repetition, marks.

Each figure is of one text; texts are compared at equal lengths, for the shares of
distinct n-grams fall with the length.
"""

import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

from lmzoo.analysis.variability import ORDERS, PHRASE, distinct
from lmzoo.report.spread import Spread, spread
from lmzoo.text.spans import Spans, words


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


def prose(text: str, spans: Spans | None = None) -> Prose:
    """Measure one text; ``spans`` are of the training text."""
    split = words(text)
    kinds = [_kind(character) for character in text]
    return Prose(
        spans.word_share(text) if spans else None,
        repetition(split),
        *(distinct([split], order) for order in ORDERS),
        kinds.count("P") / len(kinds) if kinds else None,
        kinds.count("S") / len(kinds) if kinds else None,
    )


def repetition(split: Sequence[Hashable], order: int = PHRASE) -> float | None:
    """Share of the n-grams that occurred earlier in the same text."""
    share = distinct([split], order)
    return None if share is None else 1 - share


def averages(texts: Sequence[str], spans: Spans | None = None) -> dict[str, Spread]:
    """Mean of each figure over texts, with Student's 95 % interval."""
    found = [asdict(prose(text, spans)) for text in texts]
    return {
        name: spread([one[name] for one in found if one[name] is not None])
        for name in FIGURES
    }


def _kind(character: str) -> str:
    """``P`` punctuation, ``S`` a symbol, "" what words and lines are made of."""
    if character.isspace():
        return ""
    category = unicodedata.category(character)[0]
    return {"L": "", "M": "", "N": "", "P": "P"}.get(category, "S")
