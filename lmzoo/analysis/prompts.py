"""A prompt as a run reads it: its policy on unknown symbols, its window, its notes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lmzoo.analysis.history import History
from lmzoo.errors import UsageError
from lmzoo.generation import continue_text
from lmzoo.generation.decoding import first_seen
from lmzoo.report.words import visible
from lmzoo.scoring.common import token_names
from lmzoo.text.protocol import Tokenizer

FEW = 6  # tokens that a message names


@dataclass(frozen=True)
class Prompt:
    """A text that a run is given.

    Attributes:
        text: without what the run's policy leaves out.
        ids: (T,) tokens, the one that a text starts after included.
        labels: one for each, white space made visible.
        notes: what is not as a reader would think, one line each.
    """

    text: str
    ids: list[int]
    labels: list[str]
    notes: list[str]

    @property
    def tokens(self) -> Tensor:
        """As a batch of one, (1, T)."""
        return torch.tensor([self.ids])


def read_prompt(
    history: History, text: str, *, empty: bool = False, window: bool = False
) -> Prompt:
    """Read ``text`` as the run's training text was read.

    Args:
        history: the run.
        text: to be continued, or looked at.
        empty: whether nothing will do, which begins a new text.
        window: whether to keep only the end that the model can be given at once.

    Raises:
        UsageError: an empty prompt, nothing left of it, or one that the run refuses.
    """
    if not text and not empty:
        raise UsageError("the prompt is empty; give --prompt TEXT")
    model, tokenizer, notes = history.run.model, history.tokenizer, []
    stored = (history.run.stored.get("data") or {}).get("arguments") or {}
    rule = stored.get("unknown", "unk")
    known = known_ids(tokenizer, text, rule, history.path, notes)
    if text and not known:
        raise UsageError(
            f"--prompt {text!r}: the vocabulary of {history.path} has none of it"
        )
    kept = kept_text(tokenizer, text, known)
    ids = known
    if not text:  # what a new text starts after is generation's to say
        begun = continue_text(model, tokenizer, "", max_new_tokens=0, seed=0)
        ids = begun.prompt
    elif tokenizer.start_id is not None:
        ids = [tokenizer.start_id, *known]
        notes.append("the prompt stands after the token that starts a text")
    left_out = first_seen(model, len(ids)) if model.window is None else 0
    if left_out:
        notes.append(
            f"the prompt has {len(ids):,} tokens; the model is given the last "
            f"{len(ids) - left_out:,}, as in generation"
        )
    ids = ids[left_out:] if window else ids
    return Prompt(kept, ids, labels(tokenizer, ids), notes)


def known_ids(
    tokenizer: Tokenizer, text: str, rule: str, run: Path | str, notes: list[str]
) -> list[int]:
    """Ids of ``text`` by a rule for what is unknown; a note if there is any.

    Args:
        tokenizer: of the run.
        text: a prompt.
        rule: ``unk``, ``skip`` or ``error``.
        run: for messages.
        notes: to add to.

    Raises:
        UsageError: the rule is to refuse, and a symbol is unknown.
    """
    ids = tokenizer.encode(text).tolist()
    unknown = 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
    if not unknown:
        return ids
    first = tokenizer.first_unknown(text)
    if rule == "error":
        raise UsageError(
            f"the prompt has {first!r}, which the vocabulary of {run} lacks, "
            f"and the run refuses unknown symbols (--data.unknown error)"
        )
    what = "left out" if rule == "skip" else "read as <unk>"
    notes.append(
        f"outside the vocabulary and {what}: {unknown:,} of {len(ids):,} tokens of the "
        f"prompt (the first: {first!r})"
    )
    return [i for i in ids if i != tokenizer.unk_id] if rule == "skip" else ids


def kept_text(tokenizer: Tokenizer, text: str, ids: list[int]) -> str:
    """What ``known_ids`` leaves of a text."""
    return text if len(ids) == len(tokenizer.encode(text)) else tokenizer.decode(ids)


def one_token(tokenizer: Tokenizer, text: str, option: str) -> int:
    """The id of a text that is one token of the vocabulary, or of a token's name.

    A name stands for what cannot be typed: ``<eod>``, or ``<0xC3>``, a byte alone.

    Raises:
        UsageError: it is none, or several.
    """
    ids = tokenizer.encode(text).tolist()
    if len(ids) == 1 and ids[0] != tokenizer.unk_id:
        return ids[0]
    name = token_names(tokenizer)
    for i in range(tokenizer.vocab_size):
        if i != tokenizer.unk_id and name(i) == text:
            return i
    if tokenizer.unk_id in ids:
        missing = tokenizer.first_unknown(text) or text
        raise UsageError(f"{option} {text!r}: {missing!r} is not in the vocabulary")
    raise UsageError(
        f"{option} {text!r} is {len(ids)} tokens"
        + (
            f" ({', '.join(visible(name(i)) for i in ids)})"
            if 1 < len(ids) < FEW
            else ""
        )
        + "; give one token of the vocabulary"
        + (" (one character)" if tokenizer.kind == "char" else "")
    )


def labels(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Each token as it reads, white space visible."""
    name = token_names(tokenizer)
    return [visible(name(i)) for i in ids]
