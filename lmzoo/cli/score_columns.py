"""What a scored text's tables and its page share: figures, notes, tokens, shades."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lmzoo.scoring import Candidate, Continuation, Score

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
