"""Sampling filters and the one decoding loop, over ``LanguageModel.step``.

It knows token ids only: what a state is belongs to the model, what a token means to the
tokenizer.
"""

import math
from collections.abc import Generator, Iterator, Sequence

import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel, State

LARGEST_SEED = 2**32 - 1
Decoding = Generator[Tensor, Tensor, None]  # logits (B, V) out, tokens (B, 1) in
_ROLLS = 64  # uniform numbers drawn for a sample at a time
_CHUNK = 1024  # tokens of a prompt that a model without a limit reads at a time
_BELOW_ONE = 1 - 2.0**-40  # keeps a uniform number times a sum below the sum


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 42,
    cache: bool = True,
    banned: Sequence[int] = (),
) -> Iterator[Tensor]:
    """Yield next tokens (B,) without end, after ``prompt`` (B, T), T >= 1.

    Sample i draws from a private generator of seed ``seed + i``, so that it is the same
    alone and in a batch (up to the rounding of the logits); the global generator is not
    touched.

    Args:
        model: any member of the zoo; it is in evaluation mode until the iterator ends.
        prompt: token ids (B, T).
        temperature: 0 takes the likeliest token, 1 samples the model's distribution.
        top_k: sample among the k likeliest tokens; 0 among all.
        top_p: sample among the likeliest tokens that hold this probability.
        repetition_penalty: above 1 makes tokens that stand in the text less likely, the
            prompt included; see ``penalise``.
        seed: of sample 0.
        cache: keep the model's decoding state; else compute each token anew from all
            the tokens that the model may see, which gives the same and is slower.
        banned: tokens that are never made.

    Raises:
        UsageError: an argument out of its range, an empty prompt, or a model whose
            logits are not finite.
    """
    check_sampling(model, prompt, temperature, top_k, top_p, repetition_penalty, seed)
    uniform = _uniform(seed, len(prompt), prompt.device)
    forbidden = torch.zeros(model.vocab_size, device=prompt.device)
    if banned:
        forbidden[list(banned)] = -torch.inf
    penalised = repetition_penalty != 1
    seen = prompt.new_zeros(len(prompt), model.vocab_size * penalised, dtype=torch.bool)
    if penalised:
        seen.scatter_(1, prompt, True)
    training, _ = model.training, model.eval()
    try:
        steps = _cached(model, prompt) if cache else _anew(model, prompt)
        logits = next(steps)
        while True:
            if penalised:
                logits = penalise(logits, seen, repetition_penalty)
            logits = logits + forbidden if banned else logits
            if not logits.amax(-1).isfinite().all():
                raise UsageError(
                    "the model's logits are not finite: its weights are damaged, or "
                    "too large for this precision; use another checkpoint or 32-true"
                )
            if temperature == 0:
                token = logits.argmax(-1)
            else:
                token = _draw(logits, temperature, top_k, top_p, next(uniform))
            yield token
            if penalised:
                seen.scatter_(1, token[:, None], True)
            logits = steps.send(token[:, None])
    finally:
        model.train(training)


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (B, V) with -inf outside the k likeliest and the nucleus of mass p.

    The nucleus (Holtzman et al. 2019, arXiv 1904.09751) is the smallest set of the
    likeliest tokens whose probabilities add up to at least ``top_p``.
    """
    if 0 < top_k < logits.shape[-1]:
        kept = logits.topk(top_k, dim=-1)
        nothing = torch.full_like(logits, -torch.inf)
        logits = nothing.scatter(-1, kept.indices, kept.values)
    if top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        mass = ordered.softmax(-1)
        outside = mass.cumsum(-1) - mass >= top_p
        logits = logits.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
    return logits


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits (B, V) with those of ``seen`` (B, V) tokens lowered by ``penalty``.

    A logit is divided by the penalty (CTRL: Keskar et al. 2019, arXiv 1909.05858,
    section 4.1), and a negative one multiplied, so that it is never raised.
    """
    lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, lowered, logits)


def _draw(
    logits: Tensor, temperature: float, top_k: int, top_p: float, uniform: Tensor
) -> Tensor:
    """Tokens (B,) by inverting the distribution function at ``uniform`` (B, 1)."""
    logits = logits.double()
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # never overflows
    mass = filter_logits(logits, top_k, top_p).softmax(-1).cumsum(-1)
    return torch.searchsorted(mass, uniform * mass[:, -1:], right=True)[:, 0]


def _uniform(seed: int, samples: int, device: torch.device) -> Iterator[Tensor]:
    """Numbers (B, 1) in [0, 1), each row from its own generator, on the CPU for all."""
    own = [torch.Generator().manual_seed(seed + i) for i in range(samples)]
    while True:
        rows = [torch.rand(_ROLLS, generator=one, dtype=torch.float64) for one in own]
        yield from (torch.stack(rows, 1) * _BELOW_ONE).to(device).unsqueeze(-1)


def _cached(model: LanguageModel, tokens: Tensor) -> Decoding:
    """Logits (B, V) after ``tokens`` (B, T), then after each that is sent, (B, 1)."""
    state: State = None
    # windows start at multiples of one number: what is cut off here moves none of them
    tokens = tokens[:, first_seen(model, tokens.shape[1]) :]
    *chunks, tokens = tokens.split(_CHUNK if model.unbounded else tokens.shape[1], 1)
    for chunk in chunks:
        _, state = model.step(chunk, state)
    while True:
        logits, state = model.step(tokens, state)
        tokens = yield logits


def _anew(model: LanguageModel, tokens: Tensor) -> Decoding:
    """As ``_cached``, from the tokens themselves each time."""
    while True:
        window = tokens[:, first_seen(model, tokens.shape[1]) :]
        logits, _ = model.step(window)
        tokens = torch.cat([tokens, (yield logits)], dim=1)


def first_seen(model: LanguageModel, tokens: int) -> int:
    """Number of the first of ``tokens`` that the model looks at to predict the next."""
    return 0 if model.unbounded else model.window_start(tokens)


def check_sampling(
    model: LanguageModel,
    prompt: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 42,
    **_others: object,
) -> None:
    """Raise UsageError for an argument of ``generate`` that is out of its range."""
    if prompt.ndim != 2 or 0 in prompt.shape:
        raise UsageError(
            f"the prompt must be (B >= 1, T >= 1), given {tuple(prompt.shape)}"
        )
    if not 0 <= temperature < math.inf:
        raise UsageError(f"temperature must be 0 (greedy) or more, given {temperature}")
    if not 0 <= top_k <= model.vocab_size:
        raise UsageError(
            f"top_k must be 0 (all) to {model.vocab_size}, the size of the vocabulary, "
            f"given {top_k}"
        )
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p must be above 0 and at most 1, given {top_p}")
    if not 0 < repetition_penalty < math.inf:
        raise UsageError(
            f"repetition_penalty must be above 0 (1 changes nothing), given "
            f"{repetition_penalty}"
        )
    check_count("seed", seed, 0, LARGEST_SEED)


def check_count(name: str, value: int, least: int, most: int) -> None:
    """Raise UsageError unless ``value`` is in [least, most]."""
    if not least <= value <= most:
        raise UsageError(f"{name} must be {least:,} to {most:,}, given {value}")
