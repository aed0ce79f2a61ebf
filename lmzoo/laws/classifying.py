"""Laws of classifiers and encoders: padding is nothing, rows and labels stand apart."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lmzoo.laws.subject import CONTEXT, VOCABULARY, Broken, Subject, close, tokens

LABELS = ["one", "two", "three"]
INITIAL_TOLERANCE = 0.15  # nats around ln K before training
ROUNDING = 1e-5


def texts(rows: int = 4) -> tuple[Tensor, Tensor]:
    """Texts of different lengths (rows, CONTEXT), padded at the right, and the mask."""
    lengths = torch.tensor([CONTEXT, 1, 5, CONTEXT - 1] * rows)[:rows]
    mask = torch.arange(CONTEXT) < lengths[:, None]
    return tokens(rows, CONTEXT).masked_fill(~mask, 0), mask


def made(subject: Subject, seed: int = 0, **changes: Any) -> Any:
    """An instance with three labels and noise on its weights."""
    model = subject.make(seed, labels=LABELS, **changes)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def logit_shapes(subject: Subject) -> None:
    """(B, T) and (B, T) -> (B, K), floating, for several B, T and K."""
    for labels in (["no", "yes"], LABELS):
        model = subject.make(labels=labels)
        for rows, length in ((1, 1), (3, CONTEXT)):
            mask = torch.ones(rows, length, dtype=torch.bool)
            logits = model(tokens(rows, length), mask)
            if not isinstance(logits, Tensor) or not logits.is_floating_point():
                raise Broken("forward must return one floating tensor of logits")
            if logits.shape != (rows, len(labels)):
                raise Broken(
                    f"expected logits {(rows, len(labels))} for tokens "
                    f"{(rows, length)}, given {tuple(logits.shape)}"
                )


@torch.no_grad()
def padding(subject: Subject) -> None:
    """Neither what stands in the padding nor how much there is changes a logit."""
    model = made(subject)
    text, mask = texts()
    before = model(text, mask)
    other = torch.where(mask, text, (text + 7) % VOCABULARY)
    close(model(other, mask), before, ROUNDING, "with other tokens in the padding")
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = model(text[row : row + 1, :length], mask[row : row + 1, :length])
        close(alone[0], before[row], ROUNDING, f"{length} tokens without padding")


@torch.no_grad()
def rows(subject: Subject) -> None:
    """A row's logits do not depend on the other rows."""
    model = made(subject)
    text, mask = texts()
    other = text.clone()
    other[1:] = torch.where(mask[1:], (text[1:] + 3) % VOCABULARY, 0)
    close(model(other, mask)[0], model(text, mask)[0], ROUNDING, "beside other texts")
    if torch.equal(model(other, mask)[3], model(text, mask)[3]):
        raise Broken("another text has the same logits: nothing of it is read")


def label_order(subject: Subject) -> None:
    """The names are kept in order, and each logit is that of its label's target."""
    model = made(subject)
    if model.labels != LABELS or model.arguments["labels"] != LABELS:
        raise Broken(f"given the labels {LABELS}, it keeps {model.labels}")
    text, mask = texts(3)
    logits = model(text, mask)
    wanted = -logits.log_softmax(-1)[torch.arange(3), torch.arange(3)].mean()
    loss = model.loss(logits, torch.arange(3)).detach()
    close(loss, wanted.detach(), ROUNDING, "the loss")


def round_trip(subject: Subject) -> None:
    """Plain arguments and weights build a copy with the same logits and labels."""
    model = made(subject)
    copy = subject.cls(**model.arguments).eval()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        if not torch.equal(model(*texts()), copy(*texts())):
            raise Broken("a copy with the same weights gives other logits")
    if copy.labels != model.labels:
        raise Broken("a copy has other labels")


def start(subject: Subject) -> str:
    """Before training the loss is near ln K: no label is preferred."""
    model = subject.make(labels=LABELS)
    with torch.no_grad():
        loss = float(model.loss(model(*texts(3)), torch.arange(3)))
    if not abs(loss - math.log(3)) <= INITIAL_TOLERANCE:
        raise Broken(f"{loss:.3f} nats at the start, ln 3 = {math.log(3):.3f} expected")
    return f"{loss:.3f} nats, ln 3 = {math.log(3):.3f}"


def reached(subject: Subject) -> str:
    """The loss has a gradient at every trainable parameter."""
    model = made(subject).train()
    model.loss(model(*texts()), torch.tensor([0, 1, 2, 0])).backward()
    return _no_dead(model)


def learnt(subject: Subject) -> str:
    """Four texts and their labels can be learned by heart."""
    model = subject.make(labels=LABELS).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    (text, mask), wanted = texts(), torch.tensor([0, 1, 2, 0])
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.0)
    for number in range(200):
        loss = model.loss(model(text, mask), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if float(loss.detach()) < 0.05:
            return f"below 0.05 nats after {number + 1} steps"
    raise Broken(f"four texts cannot be learned: {float(loss):.3f} nats")


# ---- encoders ------------------------------------------------------------------------


@torch.no_grad()
def encoder_padding(subject: Subject) -> None:
    """No vector of a text depends on what stands in the padding."""
    model = subject.make()
    text, mask = texts()
    before = model.features(text, mask)[mask]
    other = torch.where(mask, text, (text + 7) % VOCABULARY)
    after = model.features(other, mask)[mask]
    close(after, before, ROUNDING, "with other tokens in the padding")


@torch.no_grad()
def both_ways(subject: Subject) -> None:
    """A vector depends on the tokens before it and after it."""
    model, text = subject.make(), tokens(1, CONTEXT)
    before = model.features(text)
    for place in (0, CONTEXT - 1):
        changed = text.clone()
        changed[:, place] = (changed[:, place] + 1) % VOCABULARY
        if torch.equal(model.features(changed)[:, 7], before[:, 7]):
            raise Broken(f"position 7 does not see the token at {place}")


@torch.no_grad()
def hidden(subject: Subject) -> None:
    """What is hidden cannot be seen: another token there changes no vector."""
    model, text = subject.make(), tokens(2, CONTEXT)
    covered = torch.zeros(2, CONTEXT, dtype=torch.bool)
    covered[:, 3] = True
    other = torch.where(covered, (text + 1) % VOCABULARY, text)
    mine, theirs = (model.features(t, None, covered) for t in (text, other))
    if not torch.equal(mine, theirs):
        raise Broken("the vectors change with a token that is hidden")


def encoder_reached(subject: Subject) -> str:
    """Restoring hidden tokens trains every parameter."""
    model = subject.make().train()
    torch.manual_seed(3)
    nll, _, _ = model._restored(tokens(8, CONTEXT), None)
    nll.sum().backward()
    return _no_dead(model)


def _no_dead(model: nn.Module) -> str:
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.abs().max() > 0)
    ]
    if dead:
        raise Broken(f"no gradient reaches {', '.join(dead[:4])}")
    return f"{sum(1 for _ in model.parameters())} tensors"


# ---- bodies --------------------------------------------------------------------------


@torch.no_grad()
def body(subject: Subject) -> str:
    """It gives one vector for each token of a text, and padding changes none."""
    model = subject.make()
    size = model.take_head()
    text, mask = texts()
    found = model.features(text, mask)
    if found.shape != (*text.shape, size):
        raise Broken(f"features {tuple(found.shape)}, {(*text.shape, size)} expected")
    other = torch.where(mask, text, (text + 7) % VOCABULARY)
    close(model.features(other, mask)[mask], found[mask], ROUNDING, "other padding")
    return f"{size} wide"
