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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.metrics import bits_per, perplexity
from lmzoo.models.base import LanguageModel
from lmzoo.text.protocol import REPLACEMENT, Tokenizer
from lmzoo.text.tokenizers import whole_words

LOGITS = 1 << 24  # held at a time: 64 MB in float32
TOKENS = 1 << 14  # computed at a time


@dataclass(frozen=True, eq=False)
class Score:
    """A text and what each of its n tokens cost; arrays are (n,).

    Attributes:
        text: what was scored.
        nll: nats, float64; NaN for a first token that is not scored.
        chars: characters that each token stands for; they add up to the text.
        bytes: the same in UTF-8 bytes.
        first: index of the first scored token, 0 or 1.
        first_rule: what the first token is predicted from, in words.
        context: what the other tokens are predicted from, in words.
        ids: token ids; None in an imported column.
        rank: 1 where the token was the likeliest, 0 where it is not scored; or None.
        unknown: which tokens stand for a symbol that the vocabulary lacks; or None.
        top: ids and log-probabilities (nats) of the k likeliest tokens at each place,
            each (n, k); the row of a token that is not scored is empty of meaning.
    """

    text: str
    nll: np.ndarray
    chars: np.ndarray
    bytes: np.ndarray
    first: int
    first_rule: str
    context: str
    ids: np.ndarray | None = None
    rank: np.ndarray | None = None
    unknown: np.ndarray | None = None
    top: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def tokens(self) -> int:
        """Tokens scored."""
        return len(self.nll) - self.first

    @property
    def nats(self) -> float:
        """Total surprise of the scored tokens."""
        return float(self.nll[self.first :].sum())

    def totals(self) -> dict[str, float]:
        """Sums over the scored tokens, and what follows from them."""
        nats = self.nats
        chars, sizes = (float(x[self.first :].sum()) for x in (self.chars, self.bytes))
        return {
            "tokens": self.tokens,
            "characters": round(chars),
            "bytes": round(sizes),
            "unknown": 0 if self.unknown is None else int(self.unknown.sum()),
            "nats": nats,
            "bits": bits_per(nats, 1),
            "perplexity": perplexity(nats / self.tokens),
            "bits_per_char": bits_per(nats, chars),
            "bits_per_byte": bits_per(nats, sizes),
        }

    def pieces(self, limit: int | None = None) -> list[str]:
        """The part of the text that each token stands for; joined they are the text.

        A character that is split among tokens stands at the first of them.
        """
        ends = np.cumsum(self.chars[:limit]).round().astype(int).tolist()
        return [self.text[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def column(self, name: str) -> dict[str, str | list[str] | list[float | None]]:
        """The score as ``imported`` reads it: name, tokens and their logprobs."""
        logprobs = [None] * self.first + (0.0 - self.nll[self.first :]).tolist()
        return {"name": name, "tokens": self.pieces(), "logprobs": logprobs}


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
        raise UsageError(_too_short(tokenizer, len(ids)))
    first = int(start is None)
    nll, rank = np.full(len(ids), np.nan), np.zeros(len(ids), np.int32)
    k = min(top_k, model.vocab_size)
    top = (np.zeros((len(ids), k), np.int32), np.zeros((len(ids), k), np.float32))
    with _ready(model, device):
        plan = _passes(model, stream, stride, batch_tokens)
        for places, logits in plan:  # (m,), (m, V): what follows stream[places]
            wanted = torch.from_numpy(stream[places + 1]).to(logits.device)
            at = places + first
            log_probs = _log_probs(logits)
            own = log_probs.gather(-1, wanted[:, None])  # (m, 1)
            nll[at] = 0.0 - own[:, 0].double().cpu().numpy()
            rank[at] = 1 + (log_probs > own).sum(-1).cpu().numpy()
            if k:
                best = log_probs.topk(k, dim=-1)
                top[0][at], top[1][at] = best.indices.cpu(), best.values.cpu()
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
    prefix = _started(tokenizer, encoded(tokenizer, prompt)[0])
    if not len(prefix):
        raise UsageError(_too_short(tokenizer, 0))
    with _ready(model):
        logits, _ = model.step(_row(prefix, model.device))
        best = _log_probs(logits)[0].double().topk(min(k, model.vocab_size))
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
    alone = _started(tokenizer, encoded(tokenizer, prompt)[0])
    whole, lengths = [], []
    for text in texts:
        ids, chars, _ = encoded(tokenizer, prompt + text)
        whole.append(_started(tokenizer, ids))
        lengths.append(np.concatenate([[0] * (len(whole[-1]) - len(ids)), chars]))
    common = min(_in_common(alone, ids) for ids in whole)
    if not common:
        raise UsageError(
            f"continuations: the {tokenizer.kind} vocabulary has no start token, and "
            f"the prompt shares no token with them; give a longer prompt"
        )
    with _ready(model):
        last, state = model.step(_row(alone[:common], model.device))
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


def encoded(
    tokenizer: Tokenizer, text: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (n,) int64 of a text of any size, and the characters and bytes of each.

    It is cut where ``encode_stream`` cuts, so that the ids are those of a corpus.
    """
    parts = [(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    for piece in whole_words([text]) if tokenizer.whole_words else [text]:
        ids = tokenizer.encode(str(piece))
        parts.append((ids.astype(np.int64), *tokenizer.lengths_in(str(piece), ids)))
    ids, chars, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ids, chars, sizes


# ---- one pass over a stream ----------------------------------------------------------


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
            chunk = _row(stream[begin:end], model.device)
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


def _log_probs(logits: Tensor) -> Tensor:
    """Normalised log-probabilities, at least float32."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits.log_softmax(-1)


def _cost(model: LanguageModel, last: Tensor, state: object, ids: np.ndarray) -> float:
    """Nats of ``ids`` after ``state``, whose next-token logits are ``last`` (1, V)."""
    tokens = _row(ids, model.device)
    logits = last[:, None]
    if len(ids) > 1:
        more, _ = model.advance(tokens[:, :-1], model.fork(state))
        logits = torch.cat([logits, more], dim=1)  # (1, T, V)
    own = _log_probs(logits).gather(-1, tokens[..., None])
    return 0.0 - float(own.double().sum())


@contextmanager
def _ready(
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


def _row(ids: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(ids)[None].to(device)  # (1, T)


def _started(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    start = tokenizer.start_id
    return ids if start is None else np.concatenate([[start], ids])


def _in_common(left: np.ndarray, right: np.ndarray) -> int:
    """Tokens that two arrays begin with; the right one keeps at least one more."""
    n = min(len(left), len(right) - 1)
    differs = np.flatnonzero(left[:n] != right[:n])
    return int(differs[0]) if len(differs) else n


# ---- words ---------------------------------------------------------------------------


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


def _too_short(tokenizer: Tokenizer, given: int) -> str:
    if tokenizer.start_id is not None:
        return "the text has no token; give a longer text"
    return (
        f"the text has {given} token{'s' * (given != 1)}, and the {tokenizer.kind} "
        f"vocabulary has no start token to predict the first from; give a longer text"
    )
