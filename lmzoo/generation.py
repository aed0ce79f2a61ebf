"""Sampling filters and the one decoding loop, over ``LanguageModel.step``.

It knows token ids only: what a state is belongs to the model, what a token means to the
tokenizer.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lmzoo.models.base import LanguageModel


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 42,
) -> Iterator[Tensor]:
    """Yield next tokens (B,) without end, after ``prompt`` (B, T), T >= 1.

    Args:
        model: any member of the zoo; it is put into evaluation mode.
        prompt: token ids (B, T).
        temperature: 0 takes the likeliest token, 1 samples the model's distribution.
        top_k: sample among the k likeliest tokens; 0 among all.
        top_p: sample among the likeliest tokens that hold this probability.
        seed: of a private generator; the global one is not touched.

    Raises:
        ValueError: an argument out of its range, or an empty prompt.
    """
    _check(prompt, temperature, top_k, top_p)
    generator = torch.Generator(device=prompt.device).manual_seed(seed)
    training, _ = model.training, model.eval()
    try:
        logits, state = model.step(prompt)
        while True:
            token = _draw(logits, temperature, top_k, top_p, generator)
            yield token
            logits, state = model.step(token[:, None], state)
    finally:
        model.train(training)


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (B, V) with -inf outside the k likeliest and the nucleus of mass p.

    The nucleus (Holtzman et al. 2019, arXiv 1904.09751) is the smallest set of the
    likeliest tokens whose probabilities add up to at least ``top_p``.
    """
    if 0 < top_k < logits.shape[-1]:
        worst_kept = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < worst_kept, -torch.inf)
    if top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        mass_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        cut = (mass_before >= top_p).scatter(-1, order, mass_before >= top_p)
        logits = logits.masked_fill(cut, -torch.inf)
    return logits


def _draw(
    logits: Tensor,
    temperature: float,
    top_k: int,
    top_p: float,
    generator: torch.Generator,
) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    kept = filter_logits(logits.float() / temperature, top_k, top_p)
    return torch.multinomial(kept.softmax(-1), 1, generator=generator)[:, 0]


def _check(prompt: Tensor, temperature: float, top_k: int, top_p: float) -> None:
    if prompt.ndim != 2 or prompt.shape[1] == 0:
        raise ValueError(f"the prompt must be (B, T >= 1), given {tuple(prompt.shape)}")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 or more, given {temperature}")
    if top_k < 0:
        raise ValueError(f"top_k must be 0 (all) or more, given {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], given {top_p}")
