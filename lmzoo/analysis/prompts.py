"""A prompt as a run reads it: its policy on unknown symbols, its window, its notes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lmzoo.analysis.history import History
from lmzoo.errors import UsageError
from lmzoo.generation import continue_text
from lmzoo.report.words import plural, visible
from lmzoo.text.symbols import ListedTokenizer


@dataclass(frozen=True)
class Prompt:
    """A text that a run can continue.

    Attributes:
        text: without what the run's policy skips.
        tokens: ids that the model is given, the start of a text included, (1, T).
        notes: what a reader should know of it.
    """

    text: str
    tokens: Tensor
    notes: list[str]


def read_prompt(history: History, text: str, empty: bool = False) -> Prompt:
    """Read ``text`` as the run's training text was read.

    Args:
        history: the run.
        text: to be continued.
        empty: whether nothing will do, which begins a new text.

    Raises:
        UsageError: an empty prompt, or one that the run's policy refuses.
    """
    if not text and not empty:
        raise UsageError("the prompt is empty: give a character or more with --prompt")
    kept, notes = known_part(history, text)
    if text and not kept:
        raise UsageError(
            f"--prompt {text!r}: no character of it is in the vocabulary, and this run "
            "skips unknown ones; give another prompt"
        )
    begun = continue_text(
        history.run.model, history.tokenizer, kept, max_new_tokens=0, seed=0
    )
    return Prompt(kept, torch.tensor([begun.prompt]), [*notes, *begun.notes])


def known_part(history: History, text: str) -> tuple[str, list[str]]:
    """What is left of a text under the run's policy on unknown symbols, and a note.

    Raises:
        UsageError: the policy is to refuse, and a symbol is unknown.
    """
    stored = history.run.stored.get("data") or {}
    policy = (stored.get("arguments") or {}).get("unknown", "unk")
    tokenizer = history.tokenizer
    first = tokenizer.first_unknown(text)
    if first is None or policy == "unk" or not isinstance(tokenizer, ListedTokenizer):
        return text, []  # what is read as <unk> is told where the prompt is encoded
    if policy == "error":
        raise UsageError(
            f"--prompt: {first!r} is not in the vocabulary of {history.name}, and this "
            "run refuses unknown symbols; leave it out"
        )
    known = set(tokenizer.known)
    parts = tokenizer.split(text)
    kept = [part for part in parts if part in known]
    number = len(parts) - len(kept)
    left = plural(number, "symbol")
    return "".join(kept), [
        f"{left} of the prompt that the vocabulary lacks skipped, as the run does (the "
        f"first: {visible(first)})"
    ]
