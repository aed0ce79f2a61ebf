"""Laws of decoding: a state carried from chunk to chunk changes nothing."""

import itertools
from typing import Any

import torch
from torch import Tensor

from lmzoo.laws.subject import Broken, Subject, close, tokens
from lmzoo.models.base import LanguageModel


def step(subject: Subject) -> None:
    """After any split into chunks, step equals forward on the window, past the edge."""
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-9)):
        model = subject.make().to(dtype)
        context = model.context_length
        length = int(2.5 * context) + 3
        text = tokens(2, length, seed=3)
        with torch.no_grad():
            expected = torch.stack(
                [_reference(model, text, seen) for seen in range(1, length + 1)], dim=1
            )
            chunks = ([1] * length, [3, 1, 7], [context], [context + 1], [length])
            for sizes in chunks:
                state, seen = None, 0
                for size in itertools.cycle(sizes):
                    part = text[:, seen : seen + size]
                    logits, state = model.advance(part, state)
                    wanted = expected[:, seen : seen + part.shape[1]]
                    seen += part.shape[1]
                    if subject.cls.exhibit == "causality":  # sees the rest of a chunk
                        logits, wanted = logits[:, -1], wanted[:, -1]
                    what = f"step after {seen} tokens in chunks of {sizes[:3]}"
                    tight = tolerance if dtype == logits.dtype else 2e-5
                    close(logits, wanted, tight, what)
                    _batch_first(state, len(text))
                    if seen >= length:
                        break


def _batch_first(state: Any, rows: int) -> None:
    parts = state if isinstance(state, tuple | list) else (state,)
    for part in parts:
        if isinstance(part, Tensor) and len(part) != rows:
            raise Broken(f"a state of shape {tuple(part.shape)} is not batch-first")
        if isinstance(part, tuple | list):
            _batch_first(part, rows)


def _reference(model: LanguageModel, text: Tensor, seen: int) -> Tensor:
    start = 0 if model.unbounded else model.window_start(seen)
    return model(text[:, start:seen])[:, -1]


def fork(subject: Subject) -> None:
    """A forked state can be used twice, and using one leaves the other alone."""
    model = subject.make()
    text = tokens(2, model.context_length, seed=4)
    half = max(1, model.context_length // 2)
    with torch.no_grad():
        _, state = model.step(text[:, :half])
        kept = model.fork(state)
        one, _ = model.step(text[:, half:], model.fork(state))
        model.step((text[:, half:] + 1) % model.vocab_size, state)
        two, _ = model.step(text[:, half:], kept)
    if not torch.equal(one, two):
        raise Broken("a forked state gives another answer the second time")
