"""Laws of form: what a model file must look like from outside."""

import inspect
import json

import torch
from torch import Tensor

from lmzoo.laws.subject import Broken, Subject, tokens
from lmzoo.models.base import LanguageModel

RESERVED = ("state", "arguments", "metrics")
MEASURES = ("nll", "validation_step", "test_step", "step")


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
    for size in getattr(subject.cls, "sizes", ()):
        if size not in names:
            raise Broken(f"sizes names {size!r}, which is no argument of it")
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
    context = model.context_length
    for rows, length in ((1, 1), (2, min(5, context)), (3, context)):
        logits = model(tokens(rows, length))
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            raise Broken("forward must return one floating tensor of logits")
        if logits.shape != (rows, length, model.vocab_size):
            raise Broken(
                f"expected logits {(rows, length, model.vocab_size)} for tokens "
                f"{(rows, length)}, given {tuple(logits.shape)}"
            )


def state_dict(subject: Subject) -> None:
    """Weights saved and loaded into a new instance give the same logits."""
    model, other = subject.make(seed=0), None
    other = subject.cls(**model.arguments)
    other.load_state_dict(model.state_dict())
    text = tokens(2, model.context_length)
    with torch.no_grad():
        if not torch.equal(model(text), other.eval()(text)):
            raise Broken("a copy with the same weights gives other logits")
