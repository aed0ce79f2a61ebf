"""Laws of learning: it starts ignorant, every parameter learns, numbers stay finite."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from lmzoo.laws.subject import VOCABULARY, Broken, Subject, tokens

INITIAL_TOLERANCE = 0.1  # nats around the expected initial loss
BEYOND = 0.2  # more of them, as a share of what is expected beyond ln V


def initial_loss(subject: Subject) -> str:
    """Before training the loss is what the model expects: ln V unless it says so.

    Every start is near ln V, or all together are near what is expected beyond it: a
    start that is not flat is known on average only.
    """
    expected = subject.make().expected_initial_nll()
    losses = []
    for seed in range(3):
        model = subject.make(seed)
        text = tokens(8, model.context_length + 1, seed=seed)
        with torch.no_grad():
            nll = model.nll(model(text[:, :-1]), text[:, 1:])
        losses.append(float(nll.mean()))
    beyond = abs(expected - math.log(VOCABULARY))
    if beyond < INITIAL_TOLERANCE:
        found, tolerance = max(losses, key=lambda nll: abs(nll - expected)), 0.0
    else:
        found, tolerance = sum(losses) / len(losses), BEYOND * beyond
    if not abs(found - expected) <= INITIAL_TOLERANCE + tolerance:
        raise Broken(f"{found:.3f} nats at the start, {expected:.3f} were expected")
    return f"{found:.3f} nats, expected {expected:.3f}"


def gradient(subject: Subject) -> str:
    """The loss reaches every trainable parameter."""
    model = subject.make().train()
    text = tokens(4, model.context_length + 1)
    loss = model.loss(model(text[:, :-1]), text[:, 1:])
    if not loss.requires_grad:
        raise Broken("the loss has no gradient")
    loss.backward()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.abs().max() > 0)
    ]
    if dead:
        raise Broken(f"no gradient reaches {', '.join(dead[:4])}")
    return f"{sum(1 for _ in model.parameters())} tensors"


def overfit(subject: Subject) -> str:
    """One small batch can be learned by heart, as far as its own inputs allow."""
    text = _learnable(subject)
    inputs, targets = text[:, :-1], text[:, 1:]
    best = math.inf
    for rate in (1e-2, 1e-1):
        model = subject.make().train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        trainable = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=rate, weight_decay=0.0)
        for number in range(300):
            loss = model.nll(model(inputs), targets).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            best = min(best, float(loss.detach()))
            if best < 0.05:
                return f"below 0.05 nats after {number + 1} steps"
    raise Broken(f"one batch cannot be learned: {best:.3f} nats after 300 steps")


def _learnable(subject: Subject) -> Tensor:
    """Rows in which each token decides the next, so that any window can learn them."""
    model = subject.make()
    length = min(64, model.context_length) + 1
    order = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(2))
    starts = torch.arange(4)[:, None] * 5
    return order[(starts + torch.arange(length)) % VOCABULARY]


def bf16(subject: Subject) -> None:
    """In bfloat16 logits, loss and gradients stay finite: by autocast, and altogether.

    The Trainer's ``bf16-mixed`` and ``bf16-true``.
    """
    for dtype in (torch.float32, torch.bfloat16):
        _in_half(subject, dtype)


def _in_half(subject: Subject, dtype: torch.dtype) -> None:
    """Both passes with weights of ``dtype``, under autocast if they are not halved."""
    model = subject.make().to(dtype).train()
    text = tokens(2, model.context_length + 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        logits = model(text[:, :-1])
        loss = model.nll(logits, text[:, 1:]).mean()
    if loss.dtype not in (torch.float32, torch.float64):
        raise Broken(f"the loss is {loss.dtype}; it must be float32 or wider")
    if not torch.isfinite(logits).all() or not torch.isfinite(loss):
        raise Broken("logits or loss are not finite under bfloat16")
    if loss.requires_grad:
        loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise Broken(f"the gradient of {name} is not finite under bfloat16")


def counts(subject: Subject) -> str:
    """What a counting model counted equals a count by brute force."""
    model: Any = subject.make()
    text, checked = tokens(1, 400, seed=1)[0].tolist(), 0
    for size in range(model.order):
        expected: dict[tuple[int, ...], dict[int, int]] = {}
        for place in range(size, len(text)):
            after = expected.setdefault(tuple(text[place - size : place]), {})
            after[text[place]] = after.get(text[place], 0) + 1
        for context, found in itertools.islice(expected.items(), 50):
            if model.successors(list(context)) != found:
                raise Broken(f"the counts after {context} differ from brute force")
            checked += 1
    return f"{checked} contexts"
