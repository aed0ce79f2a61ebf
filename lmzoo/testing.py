"""The contract of a model as executable proof, for built-ins and plugins alike.

    from lmzoo.testing import check_model
    print(check_model("gpt"))            # or a class, or a model
    assert check_model(MyModel).ok

Each law is one function in ``LAWS``. It returns what it saw, or raises ``Broken``.
"""

import inspect
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel, State
from lmzoo.registry import models

VOCAB_SIZE, CONTEXT_LENGTH = 29, 16
INITIAL_TOLERANCE = 0.1  # nats from the class's own expected_initial_nll
OVERFIT_LOSS, OVERFIT_STEPS, OVERFIT_RATES = 0.05, 300, (3e-3, 3e-2)
MEASURES = ("loss", "nll", "validation_step", "test_step")  # lmzoo's own, see ``names``


class Broken(Exception):  # noqa: N818 (a finding about a model, no error of lmzoo)
    """A law does not hold; the message says how it was seen."""


@dataclass(frozen=True)
class Row:
    """One law: ``ok`` is None where it does not apply or was not tried."""

    law: str
    ok: bool | None
    detail: str


@dataclass
class Report:
    """What ``check_model`` found; ``str()`` is a readable table."""

    model: str
    exhibit: str | None = None
    rows: list[Row] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """The laws that do not hold."""
        return [row.law for row in self.rows if row.ok is False]

    @property
    def ok(self) -> bool:
        """Every law holds; of an exhibit, every law but the one it is there to break."""
        return self.broken == ([self.exhibit] if self.exhibit else [])

    @property
    def verdict(self) -> str:
        """The conclusion in one line."""
        broken = ", ".join(self.broken)
        if self.exhibit and self.ok:
            return f"{self.model} breaks {broken}, as an exhibit should"
        if self.exhibit:
            found = f"breaks {broken}" if broken else "breaks no law"
            return f"{self.model} is to break {self.exhibit} and nothing else; it {found}"
        if self.ok:
            return f"{self.model} keeps the contract"
        return f"{self.model} breaks the contract: {broken}"

    def __str__(self) -> str:
        marks = {True: "ok", False: "BROKEN", None: "-"}
        wide = max((len(row.law) for row in self.rows), default=0)
        lines = [f"{r.law:<{wide}}  {marks[r.ok]:<6}  {r.detail}" for r in self.rows]
        return "\n".join([*lines, self.verdict])


def check_model(
    model: str | type | LanguageModel,
    vocab_size: int = VOCAB_SIZE,
    context_length: int = CONTEXT_LENGTH,
    **arguments: Any,
) -> Report:
    """Prove the contract of a model, on a small one with otherwise default arguments.

    Args:
        model: a registered name, a class, or a model (its own arguments are used).
        vocab_size: V of the small model.
        context_length: C of the small model.
        arguments: further constructor arguments.

    Raises:
        UsageError: no model has this name, or its module cannot be imported.
    """
    if isinstance(model, LanguageModel):
        arguments, model = {**model.arguments, **arguments}, type(model)
    else:
        given = {"vocab_size": vocab_size, "context_length": context_length}
        arguments = {**given, **arguments}
    name = model if isinstance(model, str) else getattr(model, "__name__", repr(model))
    cls = models.load(model) if isinstance(model, str) else model
    if not (isinstance(cls, type) and issubclass(cls, LanguageModel)):
        detail = f"{name} is not a LanguageModel: derive it from lmzoo.models.base"
        return Report(name, None, [Row("contract", False, detail)])
    report = Report(name, cls.exhibit)
    with torch.random.fork_rng(devices=[]):
        for law in LAWS:
            report.rows.append(_judge(law, Case(cls, arguments), report.broken))
    return report


@dataclass(frozen=True)
class Case:
    """A class, the arguments to build it with, and reproducible input."""

    cls: type[LanguageModel]
    arguments: dict[str, Any]

    def fresh(self) -> LanguageModel:
        """The model as it is built; a counting one has counted a little text."""
        torch.manual_seed(0)
        model = self.cls(**self.arguments)
        if self.cls.counting:
            model.count(self.tokens(1, 500)[0].numpy())  # type: ignore[operator]
        return model

    def awake(self) -> LanguageModel:
        """Weights moved a little: layers that start at zero would hide what they do."""
        model = self.fresh().eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.05 * torch.randn(weight.shape, generator=generator)
        return model

    def tokens(self, batch: int, length: int, seed: int = 2) -> Tensor:
        """Random token ids, (B, T)."""
        generator = torch.Generator().manual_seed(seed)
        size = (batch, length)
        return torch.randint(self.arguments["vocab_size"], size, generator=generator)

    @property
    def length(self) -> int:
        """T that fills the context."""
        return self.arguments["context_length"]


# ---- the laws -------------------------------------------------------------------------


def constructor(case: Case) -> str:
    """Annotated keyword arguments with plain defaults, vocab_size and C first."""
    parameters = list(inspect.signature(case.cls).parameters.values())
    names = [parameter.name for parameter in parameters]
    if names[:2] != ["vocab_size", "context_length"]:
        raise Broken(f"the first arguments must be vocab_size, context_length: {names}")
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Broken(f"{parameter} hides what the model takes: name each argument")
        if parameter.kind == parameter.POSITIONAL_ONLY:
            raise Broken(f"{parameter.name} cannot be given as a keyword")
        if parameter.annotation is parameter.empty:
            raise Broken(f"{parameter.name} has no annotation")
        if parameter.default is not parameter.empty and not _plain(parameter.default):
            raise Broken(f"the default of {parameter.name} is not JSON-plain")
    model = case.fresh()
    return f"{sum(p.numel() for p in model.parameters()):,} parameters"


def arguments(case: Case) -> str:
    """The kept arguments are JSON, and build the same model again."""
    model = case.fresh()
    if not _plain(model.arguments):
        raise Broken(f"arguments are not JSON-plain: {model.arguments}")
    again = case.cls(**model.arguments)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (model, again)]
    if shapes[0] != shapes[1] or model.arguments != again.arguments:
        raise Broken("cls(**model.arguments) is another model")
    return ", ".join(model.arguments)


def names(case: Case) -> str:
    """What belongs to the base class is left to it."""
    model = case.fresh()
    own = [n for n in ("loss", "step", "state") if n in {**vars(model), **_parts(model)}]
    if own or hasattr(case.cls, "state"):
        raise Broken(f"takes a name of the contract as an attribute: {own or 'state'}")
    if not inspect.isfunction(inspect.getattr_static(case.cls, "step")):
        raise Broken("step is not a method")
    changed = [n for n in MEASURES if _overrides(case.cls, n)]
    if changed and not case.cls.exhibit:
        raise Broken(f"overrides {', '.join(changed)}: only an exhibit may")
    return "loss and measures are those of the base"


@torch.no_grad()
def shapes(case: Case) -> str:
    """Tokens (B, T) become floating-point logits (B, T, V), for any B and T <= C."""
    model = case.awake()
    sizes = [(1, 1), (3, 1), (2, min(5, case.length)), (1, case.length)]
    for size in sizes:
        logits = model(case.tokens(*size))
        expected = (*size, case.arguments["vocab_size"])
        if not isinstance(logits, Tensor):
            raise Broken(f"forward returns a {type(logits).__name__}, not a tensor")
        if logits.shape != expected:
            raise Broken(f"expected {expected}, given {tuple(logits.shape)}")
        if not logits.is_floating_point() or not logits.isfinite().all():
            raise Broken(f"logits are {logits.dtype} and must be finite floats")
    return f"(B, T) = {', '.join(map(str, sizes))}"


def causality(case: Case) -> str:
    """Logits at t are bit-equal whatever follows t; nor do gradients flow back from it."""
    model, length = case.awake(), case.length
    tokens, others = case.tokens(2, length), case.tokens(2, length, seed=3)
    for t, mode in [(t, m) for t in range(length - 1) for m in (False, True)]:
        changed = torch.cat([tokens[:, : t + 1], others[:, t + 1 :]], dim=1)
        kept = [_logits(model, x, train=mode)[:, : t + 1] for x in (tokens, changed)]
        if not torch.equal(*kept):
            seen = int((kept[0] != kept[1]).any(-1).any(0).nonzero()[0])
            raise Broken(f"logits at {seen} change with the tokens after {t}")
    model.eval()
    for t in {0, length // 2, max(0, length - 2)}:
        flow = _gradient(model, tokens, t)
        if flow is None:
            return "bit-equal under changed tokens (no embedding to differentiate)"
        if flow[:, t + 1 :].any():
            raise Broken(f"the gradient of logits at {t} reaches later embeddings")
    return "bit-equal under changed tokens, zero gradient from later embeddings"


def batch(case: Case) -> str:
    """A row's logits are bit-equal whatever stands in the other rows."""
    model, tokens = case.awake(), case.tokens(3, case.length)
    others = torch.cat([tokens[:1], case.tokens(2, case.length, seed=3)])
    for mode in (False, True):
        first, second = (_logits(model, x, train=mode)[0] for x in (tokens, others))
        if not torch.equal(first, second):
            raise Broken(f"a row changes with the other rows{' in training' * mode}")
    return "rows are independent, in training too"


@torch.no_grad()
def window(case: Case) -> str:
    """Tokens before the stated ``window`` do not matter."""
    model = case.awake()
    if model.window is None:
        return "the whole context"
    length = max(case.length, model.window + 3)
    tokens = case.tokens(2, length)
    early = case.tokens(2, length - model.window, seed=3)
    changed = torch.cat([early, tokens[:, length - model.window :]], dim=1)
    if not _close(model(changed)[:, -1], model(tokens)[:, -1]):
        raise Broken(f"a prediction sees further back than window = {model.window}")
    return f"{model.window} tokens"


@torch.no_grad()
def step(case: Case) -> str:
    """However the input is cut, past overflow too: equal to ``forward`` of the window."""
    model, total = case.awake(), 2 * case.length + case.length // 2 + 1
    tokens, expected = case.tokens(2, total), []
    for n in range(1, total + 1):
        start = 0 if case.cls.unbounded else model.window_start(n)
        expected.append(model(tokens[:, start:n])[:, -1])
    reference = torch.stack(expected, dim=1)  # (B, total, V)
    cuts = np.random.default_rng(0).multinomial(total - 8, np.ones(8) / 8) + 1
    for sizes in ([total], [1] * total, cuts.tolist()):
        state, seen = None, 0
        for chunk in tokens.split(sizes, dim=1):
            forked = model.fork(state)
            logits, state = model.advance(chunk, state)
            last, _ = model.step(chunk, forked)
            due = reference[:, seen : seen + chunk.shape[1]]
            seen += chunk.shape[1]
            if logits.shape != due.shape or last.shape != due[:, -1].shape:
                raise Broken(f"advance gives {tuple(logits.shape)} for {chunk.shape}")
            if not (_close(logits, due) and _close(last, due[:, -1])):
                raise Broken(f"in chunks of {max(sizes)}, differs by token {seen}")
    return f"{total} tokens at once, one by one, in uneven chunks"


@torch.no_grad()
def state(case: Case) -> str:
    """A forked state gives the same answers after the original was used."""
    model, size = case.awake(), 3
    for seen in (1, case.length - 1 or 1, 2 * case.length):
        _, kept = model.step(case.tokens(size, seen), None)
        for leaf in _leaves(kept):
            if isinstance(leaf, Tensor) and (not leaf.ndim or len(leaf) != size):
                raise Broken(f"a state tensor of {tuple(leaf.shape)} is not (B, ...)")
            if not isinstance(leaf, Tensor | int | float | None):
                raise Broken(f"a state holds a {type(leaf).__name__}")
        copies, answers = [model.fork(kept), kept], []
        for copy in copies:
            for token in case.tokens(size, 3, seed=3).split(1, dim=1):
                logits, copy = model.step(token, copy)
                answers.append(logits)
            model.step(case.tokens(size, 5, seed=4), None)  # another text in between
        if not all(map(torch.equal, answers[:3], answers[3:])):
            raise Broken(f"used twice after {seen} tokens, it gives two answers")
    return "used twice, one answer; tensors are batch-first"


def determinism(case: Case) -> str:
    """In evaluation mode nothing is random."""
    model, tokens = case.awake(), case.tokens(2, case.length)
    first, second = (_logits(model, tokens, seed=s) for s in (0, 1))
    if not torch.equal(first, second):
        raise Broken("two passes in evaluation mode differ")
    return "two passes are bit-equal in evaluation mode"


def state_dict(case: Case) -> str:
    """Weights written and read back into a new model give the same logits."""
    model, file = case.awake(), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    again = case.cls(**json.loads(json.dumps(model.arguments)))
    again.load_state_dict(torch.load(file, weights_only=True))
    tokens = case.tokens(2, case.length)
    if not torch.equal(_logits(model, tokens), _logits(again, tokens)):
        raise Broken("something that matters is not in the state_dict")
    return "same logits after saving and loading"


@torch.no_grad()
def initial_loss(case: Case) -> str:
    """Untrained, the model is as unsure as its class says (ln V)."""
    model, tokens = case.fresh().eval(), case.tokens(16, case.length + 1)
    nll = float(model.nll(model(tokens[:, :-1]), tokens[:, 1:]).mean())
    expected = case.cls.expected_initial_nll(model.vocab_size)
    if not abs(nll - expected) <= INITIAL_TOLERANCE:
        raise Broken(f"{nll:.3f} nats, expected {expected:.3f}")
    return f"{nll:.3f} nats, expected {expected:.3f}"


def gradient(case: Case) -> str:
    """The loss reaches every parameter that is not frozen."""
    model, tokens = case.awake(), case.tokens(4, case.length + 1)
    loss = model.loss(model(tokens[:, :-1]), tokens[:, 1:])
    if loss.grad_fn is None:
        raise Broken("the loss depends on no parameter through a differentiable path")
    loss.backward()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    dead = [n for n, p in named if p.grad is None or not p.grad.any()]
    if dead:
        raise Broken(f"no gradient reaches {', '.join(dead)}")
    return f"all {len(named)} parameters"


def overfit(case: Case) -> str:
    """One small batch can be learned by heart."""
    length, reached = min(64, case.length), float("inf")
    for rate in OVERFIT_RATES:
        model = case.fresh().eval()  # without dropout
        rows = case.tokens(4, length + 1)
        if model.window is not None and model.window < 4:  # too short to tell them apart
            order = torch.randperm(model.vocab_size)
            rows = order[(rows[:, :1] + torch.arange(length + 1)) % model.vocab_size]
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
        for taken in range(OVERFIT_STEPS):
            loss = model.loss(model(rows[:, :-1]), rows[:, 1:])
            reached = min(reached, float(loss))
            if reached < OVERFIT_LOSS:
                return f"{reached:.3f} nats after {taken} steps at rate {rate:g}"
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    raise Broken(f"{reached:.3f} nats at best in {OVERFIT_STEPS} steps")


def bf16(case: Case) -> str:
    """Logits, loss and gradients stay finite under bfloat16 autocast."""
    model, tokens = case.awake(), case.tokens(4, case.length + 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens[:, :-1])
        loss = model.loss(logits, tokens[:, 1:])
    if loss.grad_fn is not None:
        loss.backward()
    found = [logits, loss, *(p.grad for p in model.parameters() if p.grad is not None)]
    if not all(bool(tensor.isfinite().all()) for tensor in found):
        raise Broken("logits, loss or gradients are not finite")
    return "logits, loss and gradients are finite"


def counts(case: Case) -> str:
    """Of a counting model: ``counts_after`` equals counting by hand."""
    model = case.fresh()
    text, checked = case.tokens(1, 500)[0].tolist(), 0
    for start in range(0, 60):
        context = text[start : start + start % 4]
        size = len(context)
        by_hand = [0] * model.vocab_size
        for i in range(size, len(text)):
            by_hand[text[i]] += text[i - size : i] == context
        given = model.counts_after(context)  # type: ignore[operator]
        checked += 1
        if given.tolist() != by_hand:
            raise Broken(f"after {context}: expected {by_hand}, given {given.tolist()}")
    return f"{checked} contexts of 0 to 3 tokens, as counted by hand"


LAWS: dict[str, Callable[[Case], str]] = {
    "constructor": constructor,
    "shapes": shapes,
    "arguments": arguments,
    "names": names,
    "causality": causality,
    "batch": batch,
    "window": window,
    "step": step,
    "state": state,
    "determinism": determinism,
    "state_dict": state_dict,
    "initial loss": initial_loss,
    "gradient": gradient,
    "overfit": overfit,
    "bf16": bf16,
    "counts": counts,
}
NEEDS = {  # a law is not tried where one that it rests on is broken
    **{law: ("constructor", "shapes") for law in list(LAWS)[2:]},
    "shapes": ("constructor",),
    "step": ("constructor", "shapes", "causality"),
    "overfit": ("constructor", "shapes", "gradient"),
}
EXEMPT = {"counting": ("initial loss", "gradient", "overfit"), "pretrained": ("initial loss",)}


def _judge(law: str, case: Case, broken: list[str]) -> Row:
    for trait, laws in EXEMPT.items():
        if law in laws and getattr(case.cls, trait):
            return Row(law, None, f"does not apply: {trait}")
    if law == "counts" and not case.cls.counting:
        return Row(law, None, "for counting models only")
    for other in NEEDS.get(law, ()):
        if other in broken:
            return Row(law, None, f"not tried: {other} is broken")
    try:
        return Row(law, True, LAWS[law](case))
    except Broken as finding:
        return Row(law, False, str(finding))
    except Exception as error:  # a plugin may fail in any way; that breaks the law too
        first = (str(error).strip().splitlines() or [""])[0]
        return Row(law, False, f"{type(error).__name__}: {first}")


# ---- looking at a model ---------------------------------------------------------------


@torch.no_grad()
def _logits(
    model: LanguageModel, tokens: Tensor, train: bool = False, seed: int = 0
) -> Tensor:
    model.train(train)
    torch.manual_seed(seed)  # the same dropout each time
    return model(tokens)


def _gradient(model: LanguageModel, tokens: Tensor, t: int) -> Tensor | None:
    """Gradient of the logits at ``t`` by the token embeddings, (B, T, D)."""
    leaves: list[Tensor] = []

    def replace(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        del module, args
        if leaves or output.shape[:2] != tokens.shape:
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[0]

    found = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    handles = [module.register_forward_hook(replace) for module in found]
    try:
        # squares: a plain sum would cancel in a model that ends in a softmax
        total = model(tokens)[:, t].square().sum()
    finally:
        for handle in handles:
            handle.remove()
    if not leaves:
        return None
    if total.grad_fn is None:
        return torch.zeros_like(leaves[0])
    (flow,) = torch.autograd.grad(total, leaves, allow_unused=True)
    return torch.zeros_like(leaves[0]) if flow is None else flow


def _close(given: Tensor, expected: Tensor) -> bool:
    """Equal but for the rounding of another order of summation."""
    scale = float(expected.abs().max())
    return bool(((given - expected).abs() <= 1e-4 * scale + 1e-7).all())


def _leaves(state: State) -> Iterator[Any]:
    if isinstance(state, tuple | list):
        for part in state:
            yield from _leaves(part)
    else:
        yield state


def _plain(value: Any) -> bool:
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False


def _parts(model: nn.Module) -> dict[str, Any]:
    parts = (model._modules, model._parameters, model._buffers)
    return {name: None for part in parts for name in part}


def _overrides(cls: type[LanguageModel], name: str) -> bool:
    return getattr(cls, name) is not getattr(LanguageModel, name)
