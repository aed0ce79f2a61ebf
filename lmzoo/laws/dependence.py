"""Laws of dependence: which tokens a logit may depend on."""

from typing import Any

import torch
from torch import Tensor, nn

from lmzoo.laws.subject import Broken, Subject, close, stirred, tokens
from lmzoo.models.base import LanguageModel


def causality(subject: Subject) -> None:
    """Changing later tokens leaves the logits before them bit-equal; train mode too."""
    model = stirred(subject)
    length = model.context_length
    text = tokens(2, length)
    for training in (False, True):
        model.train(training)
        for place in sorted({1, 2, length // 2, length - 1}):
            changed = text.clone()
            changed[:, place:] = (changed[:, place:] + 1) % model.vocab_size
            with torch.no_grad():
                torch.manual_seed(1)
                before = model(text)[:, :place]
                torch.manual_seed(1)
                after = model(changed)[:, :place]
            if not torch.equal(before, after):
                where = int((before != after).flatten(2).any(-1).any(0).nonzero()[0])
                raise Broken(
                    f"the logits at position {where} change when the tokens from "
                    f"{place} on are changed: the model sees the future"
                )
    model.eval()
    _no_gradient_from_later(model, text)


def _no_gradient_from_later(model: LanguageModel, text: Tensor) -> None:
    """The logits at a position have no gradient at later input vectors."""
    vectors: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.retain_grad()
            vectors.append(output)

    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    if not embeddings:
        return
    hook = embeddings[0].register_forward_hook(keep)
    place = text.shape[1] // 2
    logits = model(text)
    hook.remove()
    if not logits.requires_grad:
        return
    logits[:, place].sum().backward()
    if vectors and vectors[0].shape[:2] == text.shape:
        grad = vectors[0].grad
        if grad is not None and bool(grad[:, place + 1 :].any()):
            raise Broken("a later token's vector has a gradient: a leak")
    model.zero_grad()


def window(subject: Subject) -> str:
    """What a model says of its window is true: older tokens do not matter."""
    model = stirred(subject)
    if model.window is None:
        return "the whole context"
    size = model.window
    text = tokens(2, size + 4, seed=5)
    older = text.clone()
    older[:, :4] = (older[:, :4] + 1) % model.vocab_size
    with torch.no_grad():
        close(
            model(older)[:, -1], model(text)[:, -1], 1e-6, f"beyond its window {size}"
        )
    return f"{size} tokens"


def batch(subject: Subject) -> None:
    """A row's logits do not depend on the other rows."""
    model = subject.make()
    text = tokens(4, model.context_length)
    with torch.no_grad():
        together = model(text)
        other = text.clone()
        other[1:] = (other[1:] + 3) % model.vocab_size
        if not torch.equal(model(other)[0], together[0]):
            raise Broken("a row changes when the other rows of the batch do")
        alone = torch.cat([model(row[None]) for row in text])
    close(alone, together, 1e-5, "a row alone and the same row in a batch")


def deterministic(subject: Subject) -> None:
    """In evaluation the same tokens give the same logits."""
    model = subject.make()
    text = tokens(2, model.context_length)
    with torch.no_grad():
        if not torch.equal(model(text), model(text)):
            raise Broken("two evaluations of the same tokens differ")
