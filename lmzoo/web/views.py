"""What the page shows, as HTML; every word from a text or a model is escaped."""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lmzoo.report.page import printable
from lmzoo.report.words import percent
from lmzoo.scoring import Candidate
from lmzoo.scoring import page as scored
from lmzoo.scoring.columns import Column, scale, spelled

OPTION = re.compile(r"--(?=[a-z])")  # messages name options of the command line


def problem(line: str) -> str:
    """A mistake of the visitor's, in one line."""
    return f'<p class="problem" role="alert">{_safe(OPTION.sub("", line))}</p>'


def hint(line: str) -> str:
    """What to do where there is nothing to show yet."""
    return f'<p class="hint">{_safe(line)}</p>'


def written(prompt: str, text: str, foot: Sequence[str], done: bool) -> str:
    """A prompt and what was made of it so far; ``foot`` are lines of small print."""
    caret = "" if done else '<i class="caret"></i>'
    lines = "".join(f"<p>{_safe(line)}</p>" for line in foot)
    return (
        f'<div class="written"><span class="given">{_safe(prompt)}</span>'
        f'<span class="made">{_safe(text)}</span>{caret}</div>'
        f'<div class="foot">{lines}</div>'
    )


def surprise(columns: Sequence[Column]) -> str:
    """A text under several models, each token coloured, and the figures."""
    limit = scale(columns)
    cards = "".join(scored.tokens(column, limit) for column in columns)
    return (
        f'{scored.legend(limit)}<div class="cards">{cards}</div>'
        f"{scored.summary(columns)}{scored.remarks(columns)}"
    )


def chances(models: Mapping[str, Sequence[Candidate]], unknown: Sequence[str]) -> str:
    """The likeliest next tokens of several models, on one scale.

    Args:
        models: name -> candidates, the likeliest first.
        unknown: lines on what a vocabulary lacks.
    """
    best = max(c.probability for found in models.values() for c in found)
    cards = []
    for name, found in models.items():
        rows = [_bar(spelled(c.token), c.probability, best) for c in found]
        rest = max(0.0, 1.0 - sum(c.probability for c in found))
        rows.append(
            f'<div class="rest"><span>all others</span><span></span>'
            f"<span>{_share(rest)}</span></div>"
        )
        cards.append(
            f'<section><h2>{_safe(name)}</h2><div class="bars">{"".join(rows)}'
            f"</div></section>"
        )
    foot = "".join(f"<p>{_safe(line)}</p>" for line in unknown)
    return f'<div class="cards">{"".join(cards)}</div><div class="foot">{foot}</div>'


def labelled(models: Mapping[str, Mapping[str, float]]) -> str:
    """Labels with their scores, by several classifiers; the likeliest is said."""
    cards = []
    for name, scores in models.items():
        ordered = sorted(scores.items(), key=lambda item: -item[1])
        rows = "".join(_bar(label, score, 1.0) for label, score in ordered)
        best, score = ordered[0]
        cards.append(
            f"<section><h2>{_safe(name)}</h2>"
            f'<p class="verdict">{_safe(best)} <span>{percent(score)}</span></p>'
            f'<div class="bars labels">{rows}</div></section>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def influence(
    data: Mapping[str, Any], text: Sequence[str], notes: Sequence[str]
) -> str:
    """Which tokens of a prompt matter, by each method: a ``Finding`` of attribution.

    Args:
        data: the finding's numbers: ``tokens``, ``target`` and ``looks``.
        text: sentences, the most important first.
        notes: small print.
    """
    rows = []
    for look in data["looks"]:
        cells = "".join(
            _weighed(token, value, part)
            for token, value, part in zip(
                data["tokens"], look["values"], look["normalised"], strict=True
            )
        )
        name = look["method"].replace("_", " ")
        target = f'<b class="target">{_safe(spelled(data["target"]))}</b>'
        rows.append(
            f'<section><h2>{_safe(name)}</h2><div class="tokens weighed">{cells}'
            f"{target}</div></section>"
        )
    said = "".join(f"<p>{_safe(line)}</p>" for line in text)
    foot = "".join(f"<p>{_safe(line)}</p>" for line in notes)
    key = (
        '<p class="key"><i class="for"></i> matters, or speaks for the token '
        '<i class="against"></i> speaks against it <b class="target">token</b> in '
        "question</p>"
    )
    return (
        f'{key}{"".join(rows)}<div class="said">{said}</div><div class="foot">{foot}'
        "</div>"
    )


def facts(rows: Sequence[tuple[str, str]], figures: Sequence[str]) -> str:
    """Names with values, and charts: SVG that was made here."""
    cells = "".join(
        f"<div><dt>{_safe(k)}</dt><dd>{_safe(v)}</dd></div>" for k, v in rows
    )
    drawn = "".join(f"<figure>{svg}</figure>" for svg in figures)
    return f'<dl class="facts">{cells}</dl><div class="figures">{drawn}</div>'


def shelf(rows: Sequence[tuple[str, str]]) -> str:
    """The head of the page: each run and what it is."""
    runs = "".join(
        f"<li><b>{_safe(name)}</b> <span>{_safe(what)}</span></li>"
        for name, what in rows
    )
    return f"<header><h1>lm<em>zoo</em></h1><ul>{runs}</ul></header>"


def _bar(name: str, share: float, full: float) -> str:
    wide = 100 * share / full if full > 0 else 0.0
    return (
        f"<div><span>{_safe(name)}</span>"
        f'<span><i style="width:{wide:.2f}%"></i></span>'
        f"<span>{_share(share)}</span></div>"
    )


def _share(share: float) -> str:
    return percent(share) if share >= 5e-4 or not share else "&lt; 0.1 %"


def _weighed(token: str, value: float, part: float) -> str:
    colour = "213 94 0" if value < 0 else "0 114 178"
    shown = _safe(token.replace("␣", " "))
    strength = 0.0 if math.isnan(part) else 0.65 * part
    return (
        f'<span style="background:rgb({colour} / {strength:.3f})" '
        f'data-tip="{_safe(token)}&#10;{value:.4g}">{shown}</span>'
    )


def _safe(text: str) -> str:
    return escape(printable(text.encode("utf-8", "replace").decode()))
