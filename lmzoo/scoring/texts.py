"""What a model thinks of a text: the log-probability of each of its tokens.

A text follows ``tokenizer.start_id``, where there is one; its first token is predicted
from that. Where there is none nothing predicts the first token: it is not scored, and
its characters and bytes count in no denominator.

Every other token is scored exactly once, however long the text:

    unbounded model     the whole text in one stream, state carried
    model with window   windows that overlap by so much that each token is
                        predicted from all that the model can see
    any other           windows of ``context_length`` tokens, each ``stride``
                        further; only what a window adds is scored in it
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.scoring.common import encoded, log_probs, ready, row, too_short
from lmzoo.scoring.result import Score
from lmzoo.text.protocol import Tokenizer

LOGITS = 1 << 24  # held at a time: 64 MB in float32
TOKENS = 1 << 14  # computed at a time


@torch.inference_mode()
def score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    *,
    stride: int | None = None,
    top_k: int = 0,
    device: str | torch.device | None = None,
    batch_tokens: int = TOKENS,
) -> Score:
    """Score every token of ``text``.

    Args:
        model: any member of the zoo; it is used in evaluation mode.
        tokenizer: the one that it was trained with.
        text: of any length; memory is a few numbers a token.
        stride: tokens from one window to the next, at most ``context_length``; half of
            it if not given. Smaller is slower and gives more context. It changes
            nothing for a model whose memory is unbounded, or has a ``window``.
        top_k: also keep the k likeliest tokens at each place.
        device: where to move the model first; None leaves it where it is.
        batch_tokens: computed at a time; it changes speed and memory, not the result.

    Raises:
        UsageError: nothing to score, an option out of its range, or a model whose
            output is not a number.
    """
    _check(model, stride, top_k)
    ids, chars, sizes = encoded(tokenizer, text)
    start = tokenizer.start_id
    stream = ids if start is None else np.concatenate([[start], ids])
    if len(stream) < 2:
        raise UsageError(too_short(tokenizer, len(ids)))
    first = int(start is None)
    nll, rank = np.full(len(ids), np.nan), np.zeros(len(ids), np.int32)
    k = min(top_k, model.vocab_size)
    top = (np.zeros((len(ids), k), np.int32), np.zeros((len(ids), k), np.float32))
    with ready(model, device):
        plan = _passes(model, stream, stride, batch_tokens)
        for places, logits in plan:  # (m,), (m, V): what follows stream[places]
            wanted = torch.from_numpy(stream[places + 1]).to(logits.device)
            at = places + first
            nll[at], rank[at], top[0][at], top[1][at] = _costs(logits, wanted, k)
    if np.isnan(nll[first:]).any():
        raise UsageError("the model's output is not a number; it cannot score a text")
    return Score(
        text=text,
        nll=nll,
        chars=chars,
        bytes=sizes,
        first=first,
        first_rule=_first_rule(tokenizer),
        context=_context_rule(model, len(stream) - 1, stride),
        ids=ids,
        rank=rank,
        unknown=None if tokenizer.unk_id is None else ids == tokenizer.unk_id,
        top=top if k else None,
    )


def _costs(logits: Tensor, wanted: Tensor, k: int) -> tuple[np.ndarray, ...]:
    """Nats (m,) and rank (m,) of the wanted ids; the k likeliest, (m, k) twice."""
    predicted = log_probs(logits)  # (m, V)
    own = predicted.gather(-1, wanted[:, None])
    rank = 1 + (predicted > own).sum(-1)
    best = predicted.topk(k, dim=-1)
    parts = (-own[:, 0].double() + 0.0, rank, best.indices, best.values)
    return tuple(part.cpu().numpy() for part in parts)


def _passes(
    model: LanguageModel, stream: np.ndarray, stride: int | None, batch_tokens: int
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Every place of ``stream`` but the last, once, with the logits of what follows."""
    n = len(stream) - 1
    at_once = max(1, min(batch_tokens, LOGITS // model.vocab_size))
    if model.unbounded:
        state = None
        for begin in range(0, n, at_once):
            end = min(begin + at_once, n)
            chunk = row(stream[begin:end], model.device)
            logits, state = model.advance(chunk, state)
            yield np.arange(begin, end), logits[0]
        return
    length, step = _window(model, n, stride)
    begins = np.arange(0, max(n - length + step, 1), step)
    rows = max(1, at_once // length)
    for group in range(0, len(begins), rows):
        begin = begins[group : group + rows, None]
        places = begin + np.arange(length)  # (B, T)
        fresh = (begin == 0) | (places >= begin + length - step)
        counted = fresh & (places < n)  # past the end the last token is repeated
        tokens = torch.from_numpy(stream[np.minimum(places, n - 1)]).to(model.device)
        yield places[counted], model(tokens)[torch.from_numpy(counted)]


def _window(model: LanguageModel, n: int, stride: int | None) -> tuple[int, int]:
    """Tokens that go into one pass, and from one pass to the next."""
    if model.window is not None:
        step = stride or model.context_length
        return min(step + model.window - 1, n), step
    step = stride or max(1, model.context_length // 2)
    return min(model.context_length, n), step


def _first_rule(tokenizer: Tokenizer) -> str:
    if tokenizer.start_id is None:
        return "not scored: nothing stands before it"
    return f"predicted after {tokenizer.symbols()[tokenizer.start_id]}"


def _context_rule(model: LanguageModel, n: int, stride: int | None) -> str:
    if model.unbounded:
        return "all tokens before it, state carried"
    if model.window is not None:
        return f"the {model.window} tokens before it"
    length, step = _window(model, n, stride)
    if length == n:
        return f"all tokens before it, at most {model.context_length}"
    return f"at least {length - step + 1} tokens before it (windows of {length})"


def _check(model: LanguageModel, stride: int | None, top_k: int) -> None:
    if stride is not None and not 1 <= stride <= model.context_length:
        raise UsageError(
            f"stride must be 1 to the context_length {model.context_length}, "
            f"given {stride}"
        )
    if top_k < 0:
        raise UsageError(f"top_k must be 0 (none) or more, given {top_k}")
