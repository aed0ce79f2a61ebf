"""Making text: sampling filters and one decoding loop, on token ids and on text."""

from lmzoo.generation.decoding import filter_logits, generate, penalise
from lmzoo.generation.text import (
    Continuation,
    Decoder,
    Sample,
    continue_text,
    generate_texts,
    never_made,
)

__all__ = [
    "Continuation",
    "Decoder",
    "Sample",
    "continue_text",
    "filter_logits",
    "generate",
    "generate_texts",
    "never_made",
    "penalise",
]
