"""Cheap looks at a model: gradients, fingerprints of weights, a leak of the target."""

from collections.abc import Iterable
from typing import TypeGuard

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel
from lmzoo.models.classifier import Classifier
from lmzoo.models.member import whole


def refusal(model: nn.Module) -> str | None:
    """The line by which a model itself explains why it cannot be trained."""
    explain = getattr(model, "explain_refusal", None)
    line = explain() if callable(explain) else None
    return str(line) if line else None


@torch.no_grad()
def misshapen(model: nn.Module) -> str | None:
    """One line if ``forward`` gives anything but logits (B, T, V) for two tokens."""
    if not isinstance(model, LanguageModel) or model.counting:
        return None
    length = min(2, model.context_length)
    logits = model.forward(torch.zeros(1, length, dtype=torch.long))
    expected = (1, length, model.vocab_size)
    given = tuple(getattr(logits, "shape", ())) or type(logits).__name__
    if given == expected or model.exhibit:
        return None
    return (
        f"{type(model).__name__}.forward gave {given} for tokens {expected[:2]}, "
        f"expected {expected}; lmzoo check tells what else it breaks"
    )


def is_nll(model: LightningModule) -> TypeGuard[LanguageModel]:
    """Whether the training loss is the mean cross-entropy of the base class."""
    return isinstance(model, LanguageModel) and type(model).loss is LanguageModel.loss


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Named parameters that are not frozen."""
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def gradient_norms(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Norm of each gradient, 0 where there is none; (number of parameters,)."""
    norms = [
        torch.zeros((), device=p.device) if p.grad is None else whole(p.grad.norm())
        for p in parameters
    ]
    return torch.stack([norm.float() for norm in norms]) if norms else torch.zeros(0)


@torch.no_grad()
def fingerprints(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Two sums per parameter, (n, 2), that change when any weight does, in practice."""
    rows = []
    for parameter in parameters:
        values = parameter.detach()
        wide = values if values.device.type == "mps" else values.double()
        sums = [whole(wide.sum()), whole(wide.square().sum())]
        rows.append(torch.stack(sums))
    return torch.stack(rows).cpu() if rows else torch.zeros(0, 2)


@torch.no_grad()
def leak(model: LanguageModel) -> str | None:
    """One line if changing the last token changes earlier logits, else None.

    A cheap probe (two short forward passes); ``lmzoo check`` is the proof.
    """
    length = min(model.context_length, 16)
    if length < 2 or model.vocab_size < 2:
        return None
    tokens = torch.arange(length, device=model.device)[None] % model.vocab_size
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % model.vocab_size
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    # .forward: a compiled model is not recompiled for this length; shares of weights
    # are gathered by the call alone
    forward = model if model.sharded else model.forward
    try:
        before, after = forward(tokens), forward(other)
    finally:
        for module, training in modes:
            module.training = training
    change = (before - after)[:, :-1].abs().amax(dim=(0, 2))  # (T - 1,)
    noise = 100 * torch.finfo(before.dtype).eps * before.abs().max()
    seen = (change > noise).nonzero()
    if not len(seen):
        return None
    return (
        f"the logits at position {int(seen[-1])} depend on the token at position "
        f"{length - 1}: {type(model).__name__} sees what it should predict, so its "
        f"loss and perplexity are leaked and comparable with nothing"
    )


def woken_by_two(model: nn.Module, names: list[str]) -> list[str]:
    """Of these parameters, the ones that get a gradient from two tokens in a row.

    From one token alone nothing flows to a next one, so that the weights of a recurrent
    state or of an attention score have no gradient whatever the model is.
    """
    if not isinstance(model, LanguageModel | Classifier):
        return []
    named = dict(model.named_parameters())
    tokens = torch.arange(2, device=model.device)[None] % model.arguments["vocab_size"]
    with torch.random.fork_rng(), torch.enable_grad():
        try:
            logits = (
                model.forward(tokens)
                if isinstance(model, LanguageModel)
                else model.forward(tokens, torch.ones_like(tokens, dtype=torch.bool))
            )
        except (RuntimeError, ValueError, IndexError):  # one token is all that it reads
            return []
        weights = torch.linspace(1, 2, logits.numel(), device=logits.device)
        loss = (logits.float().flatten() * weights).sum()
        wanted = [named[name] for name in names]
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [
        name
        for name, gradient in zip(names, found, strict=True)
        if gradient is not None and bool(gradient.any())
    ]


def some(names: list[str], limit: int = 4) -> str:
    """The first names of a list, and how many more there are."""
    head = ", ".join(names[:limit])
    rest = len(names) - limit
    return f"{head} and {rest} more" if rest > 0 else head
