"""Gradients with respect to the vectors that a model reads, for any model.

The vectors of a text are taken out of the model: during a forward pass each embedding
of a token is replaced by the vector at the input position that the token came from. So
autograd itself adds up what a position contributes, wherever and however often the
model looks its token up; the model's own code runs unchanged.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel

PADDING = -1  # where a vector stands for no input position
Places = list[Tensor]  # for each look-up: which input position each index came from
Patch = Callable[[Tensor, Tensor], Tensor | None]  # (indices, vectors) -> new vectors


class Inputs:
    """The input vectors of ``tokens``, apart from the model that reads them.

    Only look-ups of the tokens count: a position embedding is a part of the model. A
    model with several token embeddings reads their vectors side by side.

    Args:
        model: any member of the zoo; it is used in evaluation mode and left as it was.
        tokens: (B, T).

    Attributes:
        vectors: (B, T, D), without gradient.

    Raises:
        UsageError: the model looks no token up in an ``nn.Embedding`` (or ``embed``).
    """

    def __init__(self, model: LanguageModel, tokens: Tensor) -> None:
        self.model, self.tokens = model, tokens
        self._located: dict[int, dict[str, Places]] = {}
        places = self._places(len(tokens))
        with _prepared(model), torch.no_grad():
            parts = [_look_up(model, name, tokens) for name in places]
        self.widths = [part.shape[-1] for part in parts]
        self.vectors = torch.cat(parts, dim=-1)

    def logits(self, vectors: Tensor) -> Tensor:
        """Logits (N, T, V) of the model that reads ``vectors`` (N, T, D).

        N is B or, where B is 1, any number of rows for the same tokens.
        """
        rows = len(vectors)
        tokens = self.tokens.expand(rows, -1) if len(self.tokens) == 1 else self.tokens
        parts = vectors.split(self.widths, dim=-1)
        located = self._places(rows)
        with _prepared(self.model), ExitStack() as patched:
            for (name, places), part in zip(located.items(), parts, strict=True):
                patched.enter_context(_patch(self.model, name, _reading(places, part)))
            return self.model(tokens)

    def gradient(self, value: Callable[[Tensor], Tensor]) -> Tensor:
        """Gradient of ``value(logits)``, a scalar, by the vectors; (B, T, D).

        Raises:
            UsageError: nothing flows back to the vectors.
        """
        leaf = self.vectors.detach().requires_grad_()
        with _prepared(self.model), torch.enable_grad():
            return self.flow([value(self.logits(leaf))], leaf)[0]

    def gradients(self, values: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Gradients of each entry of ``values(logits)`` (N,), from one forward pass.

        Each is (B, T, D). Raises as ``gradient``.
        """
        leaf = self.vectors.detach().requires_grad_()
        with _prepared(self.model), torch.enable_grad():
            for value in values(self.logits(leaf)):
                yield self.flow([value], leaf, keep=True)[0]

    def through(
        self, modules: Mapping[str, nn.Module], value: Callable[[Tensor], Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What named modules put out, and the gradient of ``value(logits)`` by it.

        Returns:
            name -> (output, gradient), each (B, T, D'), of the modules whose output is
            a vector for each position and reaches the value.
        """
        leaf, outputs = self.vectors.detach().requires_grad_(), {}
        shape = self.tokens.shape

        def keep(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                first = output[0] if isinstance(output, tuple) else output
                vectors = isinstance(first, Tensor) and first.ndim == 3
                if vectors and first.shape[:2] == shape and first.requires_grad:
                    outputs[name] = first

            return hook

        with _prepared(self.model), torch.enable_grad(), ExitStack() as hooks:
            for name, module in modules.items():
                hooks.callback(module.register_forward_hook(keep(name)).remove)
            scalar = value(self.logits(leaf))
            flows = self.flow([scalar], *outputs.values()) if outputs else ()
        pairs = zip(outputs.items(), flows, strict=True)
        return {name: (output.detach(), flow) for (name, output), flow in pairs}

    def flow(
        self, values: list[Tensor], *sources: Tensor, keep: bool = False
    ) -> tuple[Tensor, ...]:
        """Gradients of a scalar by ``sources``; zeros where it does not depend on one.

        Raises:
            UsageError: the scalar has no gradient at all.
        """
        if not values[0].requires_grad:
            raise UsageError(_without(self.model))
        return torch.autograd.grad(
            values,
            sources,
            retain_graph=keep,
            allow_unused=True,
            materialize_grads=True,
        )

    def _places(self, rows: int) -> dict[str, Places]:
        """Look-ups of the tokens in a batch of ``rows``: embedding -> its places."""
        if rows not in self._located:
            one = len(self.tokens) == 1
            tokens = self.tokens.expand(rows, -1) if one else self.tokens
            self._located[rows] = locate(self.model, tokens)
        return self._located[rows]


def locate(model: LanguageModel, tokens: Tensor) -> dict[str, Places]:
    """Which embeddings look the tokens up, and what came from which position.

    Positions are written into the tokens, digit by digit to the base V, and read again
    where the embeddings are asked; once more with another first digit, so that what
    stays the same is known as padding.

    Returns:
        name of an embedding -> for each of its calls a tensor of its indices' shape
        with places in ``tokens.flatten()``, or ``PADDING``.

    Raises:
        UsageError: no embedding is asked for the tokens.
    """
    number, base = tokens.numel(), model.vocab_size
    numbers = torch.arange(number, device=tokens.device).view_as(tokens)
    digits = 1
    while base > 1 and base**digits < number:
        digits += 1
    written = [(numbers // base**k) % base for k in range(digits)]
    seen = [_asked(model, digit) for digit in [*written, (written[0] + 1) % base]]
    real = _asked(model, tokens)
    found = {}
    for name, calls in real.items():
        copies = [asked.get(name, []) for asked in seen]
        if any(len(asked) != len(calls) for asked in copies):
            continue
        places = [
            _read(list(marks), base, number) for marks in zip(*copies, strict=True)
        ]
        if _same(calls, places, tokens.flatten()):
            found[name] = places
    own = [name for name in found if name != EMBED]
    if not found:
        raise UsageError(_without(model))
    return {name: found[name] for name in own or found}


EMBED = "embed()"  # a model's own way to its input vectors


def _read(marks: list[Tensor], base: int, number: int) -> Tensor:
    """Positions from their digits; the last mark is the first digit, moved by one."""
    *digits, moved = marks
    place = sum((digit * base**k for k, digit in enumerate(digits)), moved * 0)
    copied = (moved == (digits[0] + 1) % base) & (place < number)
    return torch.where(copied, place, PADDING)


def _same(calls: list[Tensor], places: Places, tokens: Tensor) -> bool:
    """Whether the located indices are tokens of the text, unchanged."""
    pairs = list(zip(calls, places, strict=True))
    known = [(call[p >= 0], tokens[p[p >= 0]]) for call, p in pairs]
    some = any(len(call) for call, _ in known)
    return some and all(torch.equal(call, token) for call, token in known)


def _asked(model: LanguageModel, tokens: Tensor) -> dict[str, list[Tensor]]:
    """Indices of every look-up of one forward pass, by embedding."""
    asked: dict[str, list[Tensor]] = {}

    def note(name: str) -> Patch:
        def patch(indices: Tensor, _vectors: Tensor) -> None:
            asked.setdefault(name, []).append(indices.detach().clone())

        return patch

    with _prepared(model), torch.no_grad(), ExitStack() as patched:
        for name in _embeddings(model):
            patched.enter_context(_patch(model, name, note(name)))
        model(tokens)
    return asked


def _embeddings(model: LanguageModel) -> list[str]:
    """Names of what may look tokens up."""
    named = model.named_modules()
    found = [name for name, module in named if isinstance(module, nn.Embedding)]
    own = type(model).embed is not LanguageModel.embed
    return [*found, EMBED] if own else found


def _look_up(model: LanguageModel, name: str, tokens: Tensor) -> Tensor:
    found = model.embed if name == EMBED else model.get_submodule(name)
    return found(tokens)


def _reading(places: Places, vectors: Tensor) -> Patch:
    """A patch that gives, call by call, the vectors at the places that are asked."""
    calls = iter(places)

    def patch(indices: Tensor, output: Tensor) -> Tensor:
        place = next(calls)
        if place.shape != indices.shape:
            raise UsageError("the model does not look its tokens up in the same way")
        flat = vectors.reshape(-1, vectors.shape[-1])
        own = flat[place.clamp(min=0)].to(output.dtype)
        return torch.where((place >= 0)[..., None], own, output)

    return patch


@contextmanager
def _patch(model: LanguageModel, name: str, patch: Patch) -> Iterator[None]:
    """For a while, an embedding's vectors go through ``patch``."""
    if name != EMBED:

        def replace(_module: nn.Module, given: Any, named: Any, output: Tensor) -> Any:
            return patch(given[0] if given else named["input"], output)

        found = model.get_submodule(name)
        hook = found.register_forward_hook(replace, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
        return
    own = model.embed

    def embed(tokens: Tensor) -> Tensor:
        vectors = own(tokens)
        changed = patch(tokens, vectors)
        return vectors if changed is None else changed

    model.__dict__["embed"] = embed
    try:
        yield
    finally:
        del model.__dict__["embed"]


@contextmanager
def _prepared(model: LanguageModel) -> Iterator[None]:
    """Evaluation mode, and cuDNN off: its recurrent layers have no backward in it."""
    training = {module: module.training for module in model.modules()}
    with torch.backends.cudnn.flags(enabled=False):
        model.eval()
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode


def _without(model: LanguageModel) -> str:
    why = (
        "it counts and has no gradients"
        if model.counting
        else "no embedding of its tokens was found that a gradient reaches"
    )
    return (
        f"{type(model).__name__}: {why}; occlusion works for every model: "
        f"lmzoo inspect attribution ... --methods occlusion"
    )
