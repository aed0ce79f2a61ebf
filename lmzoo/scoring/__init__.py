"""Scoring: what a model thinks of a text, and of what may come next."""

from lmzoo.scoring.choices import Candidate, Continuation, continuations, next_tokens
from lmzoo.scoring.imported import imported
from lmzoo.scoring.result import Score
from lmzoo.scoring.texts import score

__all__ = [
    "Candidate",
    "Continuation",
    "Score",
    "continuations",
    "imported",
    "next_tokens",
    "score",
]
