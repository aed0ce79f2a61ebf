"""A prompt as a run reads it: ids, readable labels, and what a reader should know."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmzoo.analysis.history import History
from lmzoo.errors import UsageError
from lmzoo.generation.decoding import first_seen
from lmzoo.scoring.common import token_names
from lmzoo.text.protocol import Tokenizer

MARKS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}


@dataclass
class Prompt:
    """A text that a model is given.

    Attributes:
        ids: (T,) tokens, the one that a text starts after included.
        labels: one for each, white space made visible.
        notes: what is not as a reader would think, one line each.
    """

    ids: list[int]
    labels: list[str]
    notes: list[str] = field(default_factory=list)

    def tokens(self, model: torch.nn.Module) -> Tensor:
        """As a batch of one, (1, T), where the model is."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return torch.tensor([self.ids], device=device)


def read_prompt(history: History, text: str) -> Prompt:
    """The end of ``text`` that the model can be given at once.

    What the vocabulary lacks follows the run's own rule: read as unknown, left out, or
    refused.

    Raises:
        UsageError: an empty prompt, or nothing left of it.
    """
    if not text:
        raise UsageError("the prompt is empty; give --prompt TEXT")
    tokenizer, notes = history.tokenizer, []
    ids = known(history, text, notes)
    if not ids:
        raise UsageError(
            f"--prompt {text!r}: the vocabulary of {history.path} has none of it"
        )
    if tokenizer.start_id is not None:
        ids = [tokenizer.start_id, *ids]
        notes.append("the prompt stands after the token that starts a text")
    model = history.run.model
    left_out = first_seen(model, len(ids)) if model.window is None else 0
    if left_out:
        notes.append(
            f"the prompt has {len(ids):,} tokens; the model is given the last "
            f"{len(ids) - left_out:,}, as in generation"
        )
    return Prompt(ids[left_out:], labels(tokenizer, ids[left_out:]), notes)


def known(history: History, text: str, notes: list[str]) -> list[int]:
    """Ids of ``text`` by the run's rule for what is unknown; a note if there is any."""
    tokenizer = history.tokenizer
    ids = tokenizer.encode(text).tolist()
    unknown = 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
    if not unknown:
        return ids
    stored = (history.run.stored.get("data") or {}).get("arguments") or {}
    rule = stored.get("unknown", "unk")
    first = tokenizer.first_unknown(text)
    if rule == "error":
        raise UsageError(
            f"the prompt has {first!r}, which the vocabulary of {history.path} lacks, "
            f"and the run refuses unknown symbols (--data.unknown error)"
        )
    what = "left out" if rule == "skip" else "read as <unk>"
    notes.append(
        f"outside the vocabulary and {what}: {unknown:,} of {len(ids):,} tokens of the "
        f"prompt (the first: {first!r})"
    )
    return [i for i in ids if i != tokenizer.unk_id] if rule == "skip" else ids


def one_token(tokenizer: Tokenizer, text: str, option: str) -> int:
    """The id of a text that is one token of the vocabulary.

    Raises:
        UsageError: it is none, or several.
    """
    ids = tokenizer.encode(text).tolist()
    if len(ids) == 1 and ids[0] != tokenizer.unk_id:
        return ids[0]
    if tokenizer.unk_id in ids:
        missing = tokenizer.first_unknown(text) or text
        raise UsageError(f"{option} {text!r}: {missing!r} is not in the vocabulary")
    raise UsageError(
        f"{option} {text!r} is {len(ids)} tokens; give one token of the vocabulary"
        + (" (one character)" if tokenizer.kind == "char" else "")
    )


def labels(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Each token as it reads, white space visible."""
    name = token_names(tokenizer)
    return [visible(name(i)) for i in ids]


def visible(text: str) -> str:
    """White space as marks: ``␣`` and ``↵``."""
    return "".join(MARKS.get(character, character) for character in text)
