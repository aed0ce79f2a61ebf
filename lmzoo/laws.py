"""The laws of a model's contract: each a function that raises ``Broken``.

They are judged by ``lmzoo.testing.check_model``. A law gets a ``Subject``, makes the
instances it needs, and returns a remark worth printing or nothing.
"""

import inspect
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel

VOCABULARY = 29
CONTEXT = 16
INITIAL_TOLERANCE = 0.1  # nats around the expected initial loss
RESERVED = ("state", "arguments", "metrics")
MEASURES = ("nll", "validation_step", "test_step", "step")


class Broken(Exception):  # a verdict, not an error
    """A law does not hold; the message says what was seen."""


@dataclass
class Subject:
    """A model class under test, and how to make fresh instances of it."""

    cls: type[LanguageModel]
    arguments: dict[str, Any]

    def make(self, seed: int = 0, **changes: Any) -> Any:
        """A new instance from a fixed seed, in evaluation mode."""
        torch.manual_seed(seed)
        model = self.cls(**{**self.arguments, **changes})
        if self.cls.counting:
            model.count(tokens(1, 400, seed=1)[0].numpy())  # type: ignore[operator]
        return model.eval()


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    """Random token ids (rows, length)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (rows, length), generator=generator)


def constructor(subject: Subject) -> None:
    """Annotated keywords, vocab_size first, arguments JSON-plain and kept."""
    parameters = list(inspect.signature(subject.cls.__init__).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    if "vocab_size" not in names or "context_length" not in names:
        raise Broken("it must take vocab_size and context_length")
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Broken(f"*{parameter.name} hides arguments from the command line")
        if parameter.annotation is parameter.empty:
            raise Broken(f"the argument {parameter.name!r} has no annotation")
        if parameter.name != "vocab_size" and parameter.default is parameter.empty:
            raise Broken(f"the argument {parameter.name!r} has no default")
    model = subject.make()
    if json.loads(json.dumps(model.arguments)) != model.arguments:
        raise Broken("its arguments are not the same after JSON: use lists, not tuples")
    again = subject.cls(**model.arguments)
    mine, other = model.state_dict(), again.state_dict()
    if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in other.items()}:
        raise Broken("its own arguments build another model")


def attributes(subject: Subject) -> None:
    """Nothing of the base is hidden by an attribute of the same name."""
    model, cls = subject.make(), subject.cls
    for name in RESERVED:
        if name in vars(cls):
            raise Broken(f"{name!r} belongs to the base class")
    if "state" in vars(model) or "step" in vars(model) or "loss" in vars(model):
        raise Broken("'state', 'step' and 'loss' are methods or live outside")
    for name in MEASURES:
        if getattr(cls, name) is not getattr(LanguageModel, name):
            raise Broken(f"{name!r} decides how quality is measured: the base's alone")
    if cls.loss is not LanguageModel.loss and not cls.exhibit:
        raise Broken("the loss belongs to the base class; only an exhibit overrides it")


def shapes(subject: Subject) -> None:
    """(B, T) -> (B, T, V), floating, for several B and T."""
    model = subject.make()
    for rows, length in ((1, 1), (2, 5), (3, model.context_length)):
        logits = model(tokens(rows, length))
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            raise Broken("forward must return one floating tensor of logits")
        if logits.shape != (rows, length, model.vocab_size):
            raise Broken(
                f"expected logits {(rows, length, model.vocab_size)} for tokens "
                f"{(rows, length)}, given {tuple(logits.shape)}"
            )


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


def stirred(subject: Subject) -> Any:
    """An instance with noise on its weights: nothing hides behind a zero."""
    model = subject.make()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.02 * noise
    return model


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


def state_dict(subject: Subject) -> None:
    """Weights saved and loaded into a new instance give the same logits."""
    model, other = subject.make(seed=0), None
    other = subject.cls(**model.arguments)
    other.load_state_dict(model.state_dict())
    text = tokens(2, model.context_length)
    with torch.no_grad():
        if not torch.equal(model(text), other.eval()(text)):
            raise Broken("a copy with the same weights gives other logits")


def initial_loss(subject: Subject) -> str:
    """Before training the loss is what the class expects: ln V unless it says so."""
    expected = subject.cls.expected_initial_nll(VOCABULARY)
    losses = []
    for seed in range(3):
        model = subject.make(seed)
        text = tokens(8, model.context_length + 1, seed=seed)
        with torch.no_grad():
            nll = model.nll(model(text[:, :-1]), text[:, 1:])
        losses.append(float(nll.mean()))
    worst = max(losses, key=lambda loss: abs(loss - expected))
    if not abs(worst - expected) <= INITIAL_TOLERANCE:
        raise Broken(f"{worst:.3f} nats at the start, {expected:.3f} were expected")
    return f"{worst:.3f} nats, expected {expected:.3f}"


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
    """Under bfloat16 autocast logits, loss and gradients stay finite."""
    model = subject.make().train()
    text = tokens(2, model.context_length + 1)
    with torch.autocast("cpu", torch.bfloat16):
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


def close(left: Tensor, right: Tensor, tolerance: float, what: str) -> None:
    """Raise ``Broken`` unless two tensors agree to ``tolerance``."""
    if left.shape != right.shape:
        raise Broken(f"{what}: shape {tuple(left.shape)}, not {tuple(right.shape)}")
    gap = float((left - right).abs().max())
    if not gap <= tolerance:
        raise Broken(f"{what}: differs by {gap:.2g} from the full forward pass")


LAWS: dict[str, Callable[[Subject], str | None]] = {
    "constructor": constructor,
    "attributes": attributes,
    "shapes": shapes,
    "deterministic": deterministic,
    "causality": causality,
    "batch": batch,
    "window": window,
    "step": step,
    "fork": fork,
    "state_dict": state_dict,
    "initial_loss": initial_loss,
    "gradient": gradient,
    "overfit": overfit,
    "bf16": bf16,
    "counts": counts,
}
GRADIENT_LAWS = ("initial_loss", "gradient", "overfit")
