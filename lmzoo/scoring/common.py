"""What scoring a text and weighing continuations share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.text.protocol import REPLACEMENT, Tokenizer
from lmzoo.text.tokenizers import whole_words

WHOLE = 1 << 20  # characters that a sub-word library is given at once


def encoded(
    tokenizer: Tokenizer, text: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (n,) int64 of a text of any size, and the characters and bytes of each.

    A text of more than ``WHOLE`` characters is cut before white space, as a corpus is.
    """
    if not isinstance(text, str):
        raise UsageError(f"a text to score is a str, given a {type(text).__name__}")
    long = tokenizer.whole_words and len(text) > WHOLE
    parts = [(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    for piece in whole_words([text]) if long else [text]:
        ids = tokenizer.encode(str(piece))
        parts.append((ids.astype(np.int64), *tokenizer.lengths_in(str(piece), ids)))
    ids, chars, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ids, chars, sizes


def started(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """The ids after the one that a text starts after, where there is one."""
    start = tokenizer.start_id
    return ids if start is None else np.concatenate([[start], ids])


def row(ids: np.ndarray, device: torch.device) -> Tensor:
    """Ids (T,) as a batch of one, (1, T)."""
    return torch.from_numpy(ids)[None].to(device)


def log_probs(logits: Tensor) -> Tensor:
    """Normalised log-probabilities, at least float32."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits.log_softmax(-1)


@contextmanager
def ready(
    model: LanguageModel, device: str | torch.device | None = None
) -> Iterator[None]:
    """Evaluation mode for a while."""
    if device is not None:
        model.to(device)
    training, _ = model.training, model.eval()
    try:
        yield
    finally:
        model.train(training)


def token_names(tokenizer: Tokenizer) -> Callable[[int], str]:
    """How a token reads by itself, apart from any text: a function of its id."""
    symbols = tokenizer.symbols()

    def name(i: int) -> str:
        symbol = symbols[i] if i < len(symbols) else f"<id {i}>"
        if "\u2581" in symbol or i >= len(symbols):
            return symbol.replace("\u2581", " ")  # decode drops a leading space
        text = tokenizer.decode([i])
        return symbol if not text or REPLACEMENT in text else text

    return name


def too_short(tokenizer: Tokenizer, given: int) -> str:
    """The message for a text, or a prompt, that predicts nothing."""
    if tokenizer.start_id is not None:
        return "the text has no token; give a longer text"
    return (
        f"the text has {given} token{'s' * (given != 1)}, and the {tokenizer.kind} "
        f"vocabulary has no start token to predict the first from; give a longer text"
    )
