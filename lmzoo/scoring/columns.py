"""A model's view of a text, as tables and pages show it: figures, notes, shades."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmzoo.models.base import LanguageModel
from lmzoo.scoring.choices import Candidate, Continuation
from lmzoo.scoring.common import token_names
from lmzoo.scoring.result import Score
from lmzoo.scoring.texts import score
from lmzoo.text.protocol import Tokenizer
from lmzoo.text.spans import Spans

FIGURES = {  # of Score.totals(): the head of each column
    "tokens": "tokens",
    "nats": "nats",
    "bits": "bits",
    "perplexity": "perplexity",
    "bits_per_char": "bits/char",
    "bits_per_byte": "bits/byte",
    "unknown": "unk",
}
JOINED = "\u200c\u200d"  # invisible, but they shape what stands around them
COMPARE = "Only bits per character and bits per byte compare across tokenizers."
LIMITS = (4.0, 8.0, 12.0, 16.0)  # bits where the colour scale may end
NEARLY = 0.9  # share of a text's spans from which it counts as trained on


@dataclass
class Column:
    """One model's view of the text; ``top`` is (token, nats) at each place."""

    name: str
    tokenizer: str
    score: Score
    notices: list[str] = field(default_factory=list)
    next_tokens: list[Candidate] = field(default_factory=list)
    continuations: list[Continuation] = field(default_factory=list)
    top: list[list[tuple[str, float]]] = field(default_factory=list)


def column(
    name: str,
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    *,
    stride: int | None = None,
    top_k: int = 0,
) -> Column:
    """One model's view of ``text``, with the ``top_k`` likeliest tokens at each place.

    Raises:
        UsageError: see ``score``.
    """
    scored = score(model, tokenizer, text, stride=stride, top_k=top_k)
    seen = Column(name, f"{tokenizer.kind} {tokenizer.vocab_size:,}", scored)
    seen.notices = _notices(scored, model, tokenizer)
    if scored.top is not None:
        seen.top = _top(scored, scored.top, tokenizer)
    return seen


def trained_on(spans: Spans | None, text: str) -> list[str]:
    """Whether ``text`` stands in the training text whose hashes are ``spans``."""
    if spans is None:
        return [
            "whether it was trained on this cannot be told: the model's folder keeps "
            "no record of its training text"
        ]
    found = spans.present(text)
    if not len(found) or not spans.exact:
        return []
    if NEARLY <= found.mean() < 1:
        return [f"{found.mean():.1%} of this text occurs in the training text"]
    if not found.all():
        return []
    return [
        "every part of this text occurs in the training text: its score may be of what "
        "was learned by heart, and not of how such text is predicted"
    ]


def short_names(paths: Sequence[str]) -> list[str]:
    """A short name for each path; the path itself where short names clash."""
    short = [Path(path).resolve().name for path in paths]
    return [
        name if short.count(name) == 1 else path
        for name, path in zip(short, paths, strict=True)
    ]


def _notices(scored: Score, model: LanguageModel, tokenizer: Tokenizer) -> list[str]:
    """What must be known to read a model's figures."""
    found = []
    if scored.unknown is not None and scored.unknown.any():
        count, first = int(scored.unknown.sum()), int(scored.unknown.argmax())
        symbol = scored.pieces(first + 1)[-1]
        found.append(
            f"{count:,} of {len(scored.nll):,} tokens unknown ({symbol!r} first), "
            f"scored as {tokenizer.symbols()[tokenizer.unk_id or 0]}, whatever they "
            f"are: the figures are too low to compare"
        )
    if model.exhibit is not None:
        found.append(
            f"an exhibit: it breaks the law {model.exhibit!r}; its figures are no "
            f"measure of prediction"
        )
    return found


def _top(
    scored: Score, top: tuple[np.ndarray, np.ndarray], tokenizer: Tokenizer
) -> list[list[tuple[str, float]]]:
    name = token_names(tokenizer)
    rows = zip(scored.nll.tolist(), *(part.tolist() for part in top), strict=True)
    return [
        []
        if math.isnan(nats)
        else [(name(i), -value) for i, value in zip(ids, values, strict=True)]
        for nats, ids, values in rows
    ]


def notes(columns: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """The rules that the figures follow, and notices: (title, lines)."""
    chars = [f"{c.score.totals()['characters']:,} characters" for c in columns]
    told = {
        "scored": [[line] for line in chars] if len(set(chars)) > 1 else [],
        "first token": [[column.score.first_rule] for column in columns],
        "other tokens": [[column.score.context] for column in columns],
        "notice": [column.notices for column in columns],
    }
    return [(title, _whose(columns, lines)) for title, lines in told.items()]


def _whose(columns: Sequence[Column], told: list[list[str]]) -> list[str]:
    """Each line once, after the names that it is true of, unless it is of all."""
    names: dict[str, list[str]] = {}
    for column, lines in zip(columns, told, strict=False):
        for line in lines:
            names.setdefault(line, []).append(column.name)
    return [
        line if len(whose) == len(columns) else f"{', '.join(whose)}: {line}"
        for line, whose in names.items()
    ]


def cells(score: Score) -> list[str]:
    """The figures of a score, in the order of ``FIGURES``."""
    totals = score.totals()
    return [_number(totals[name], 4 if "per" in name else 2) for name in FIGURES]


def spelled(token: str) -> str:
    """``visible``, its spaces too."""
    return visible(token).replace(" ", "\u2423")


def _number(value: float, places: int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{places}f}" if abs(value) < 1e7 else f"{value:.3e}"


def visible(token: str) -> str:
    """A token with its white space and control characters to be seen."""
    return "".join(map(_visible, token)) or "\u00b7"


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return {"\n": "\u21b5", "\r": "\u240d", "\t": "\u21e5"}[character]
    kind = unicodedata.category(character)
    if kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in JOINED):
        return f"<U+{ord(character):04X}>"
    return character


# ---- colour --------------------------------------------------------------------------


def scale(columns: Sequence[Column]) -> float:
    """Bits at which the colour is full: the least limit that holds 95 % of tokens."""
    nats = np.concatenate([c.score.nll[c.score.first :] for c in columns])
    high = float(np.quantile(nats, 0.95, method="lower")) / math.log(2)
    return next((limit for limit in LIMITS if high <= limit), LIMITS[-1])


def shade(part: float) -> str:
    """A colour from white (0) to orange red (1), as #rrggbb; dark text reads on all.

    A straight line in OKLab (Ottosson 2020), so equal steps look equal.
    """
    t = min(max(part, 0.0), 1.0)
    lightness, a, b = 1 - 0.32 * t, 0.125 * t, 0.105 * t
    long, medium, short = (
        (lightness + p * a + q * b) ** 3
        for p, q in (
            (0.3963377774, 0.2158037573),
            (-0.1055613458, -0.0638541728),
            (-0.0894841775, -1.2914855480),
        )
    )
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * _gamma(value)):02x}" for value in linear)


def _gamma(value: float) -> float:
    value = min(max(value, 0.0), 1.0)
    return 12.92 * value if value < 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
