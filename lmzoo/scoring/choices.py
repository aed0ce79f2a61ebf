"""What comes next: the likeliest tokens, and how given continuations compare."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.metrics import bits_per
from lmzoo.models.base import LanguageModel
from lmzoo.scoring.common import (
    encoded,
    log_probs,
    ready,
    row,
    started,
    token_names,
    too_short,
)
from lmzoo.text.protocol import Tokenizer


class Candidate(NamedTuple):
    """A token that may come next."""

    token: str
    id: int
    probability: float
    nats: float


class Continuation(NamedTuple):
    """A text that may come next: its cost, and its share among those compared."""

    text: str
    tokens: int
    nats: float
    bits_per_char: float
    share: float


@torch.inference_mode()
def next_tokens(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, k: int = 10
) -> list[Candidate]:
    """The k likeliest tokens after ``prompt``, the likeliest first.

    A prompt longer than the context is cut by the model's own window rule.

    Raises:
        UsageError: k below 1, or an empty prompt where the vocabulary has no start.
    """
    if k < 1:
        raise UsageError(f"k must be 1 or more, given {k}")
    prefix = started(tokenizer, encoded(tokenizer, prompt)[0])
    if not len(prefix):
        raise UsageError(too_short(tokenizer, 0))
    with ready(model):
        logits, _ = model.step(row(prefix, model.device))
        best = log_probs(logits)[0].double().topk(min(k, model.vocab_size))
    names = token_names(tokenizer)
    return [
        Candidate(names(i), i, float(np.exp(value)), -value)
        for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


@torch.inference_mode()
def continuations(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, texts: Sequence[str]
) -> list[Continuation]:
    """How likely each of ``texts`` is to come after ``prompt``, against the others.

    The end of the prompt and the beginning of a continuation may share a token. So
    prompt + continuation is encoded as one text, and scored are the tokens after those
    that the prompt and every one of these texts have in common: what stands before is
    the same for all, and the shares (probabilities divided by their sum) are fair.

    Raises:
        UsageError: no texts, an empty one, or nothing in common to start from.
    """
    if not texts or not all(texts):
        raise UsageError("continuations: expected non-empty texts, given an empty one")
    alone = started(tokenizer, encoded(tokenizer, prompt)[0])
    whole, lengths = [], []
    for text in texts:
        ids, chars, _ = encoded(tokenizer, prompt + text)
        whole.append(started(tokenizer, ids))
        lengths.append(np.concatenate([[0] * (len(whole[-1]) - len(ids)), chars]))
    common = min(_in_common(alone, ids) for ids in whole)
    if not common:
        raise UsageError(
            f"continuations: the {tokenizer.kind} vocabulary has no start token, and "
            f"the prompt shares no token with them; give a longer prompt"
        )
    with ready(model):
        last, state = model.step(row(alone[:common], model.device))
        costs = [_cost(model, last, state, ids[common:]) for ids in whole]
    weights = np.exp(min(costs) - np.array(costs))
    return [
        Continuation(text, len(ids) - common, cost, bits_per(cost, n), share)
        for text, ids, cost, n, share in zip(
            texts,
            whole,
            costs,
            [float(chars[common:].sum()) for chars in lengths],
            (weights / weights.sum()).tolist(),
            strict=True,
        )
    ]


def _cost(model: LanguageModel, last: Tensor, state: object, ids: np.ndarray) -> float:
    """Nats of ``ids`` after ``state``, whose next-token logits are ``last`` (1, V)."""
    tokens = row(ids, model.device)
    logits = last[:, None]
    if len(ids) > 1:
        more, _ = model.advance(tokens[:, :-1], model.fork(state))
        logits = torch.cat([logits, more], dim=1)  # (1, T, V)
    own = log_probs(logits).gather(-1, tokens[..., None])
    return 0.0 - float(own.double().sum())


def _in_common(left: np.ndarray, right: np.ndarray) -> int:
    """Tokens that two arrays begin with; the right one keeps at least one more."""
    n = min(len(left), len(right) - 1)
    differs = np.flatnonzero(left[:n] != right[:n])
    return int(differs[0]) if len(differs) else n
