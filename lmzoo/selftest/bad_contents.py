"""Checkpoints that lie: tensors, states, records and tokenizers that are none."""

from collections.abc import Callable
from typing import Any

import torch

from lmzoo.selftest.bad_checkpoints import Content, forged
from lmzoo.selftest.lab import Case, Lab, generate, measure, resume


def _weight(content: Content, change: Callable[[torch.Tensor], Any]) -> None:
    state = content["state_dict"]
    name = max(state, key=lambda key: state[key].numel())
    state[name] = change(state[name])


def _weights(change: Callable[[torch.Tensor], Any]) -> Callable[[Lab], str]:
    return lambda lab: generate(lab.forge(lambda content: _weight(content, change)))


def _moments(change: Callable[[torch.Tensor], Any]) -> Callable[[Lab], str]:
    """Adam's averages are changed; a fused step writes to them without looking."""

    def forge(content: Content) -> None:
        for state in content["optimizer_states"][0]["state"].values():
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = change(state[key])

    return lambda lab: resume(lab.forge(forge))


def _tokenizer(name: str, said: str, **changes: Any) -> Case:
    def forge(content: Content) -> None:
        content["lmzoo"]["tokenizer"].update(changes)

    return Case(name, lambda lab: generate(lab.forge(forge)), said)


def _remembered(name: str, said: str, callback: str, **changes: Any) -> Case:
    """A callback, by the first letters of its name, that remembers something else."""

    def forge(content: Content) -> None:
        states = content["callbacks"]
        next(states[key] for key in states if key.startswith(callback)).update(changes)

    return Case(name, lambda lab: resume(lab.forge(forge)), said)


def _option(name: str, said: str, **changes: Any) -> Case:
    """An optimizer's option that it cannot step with."""

    def forge(content: Content) -> None:
        content["optimizer_states"][0]["param_groups"][0].update(changes)

    return Case(name, lambda lab: resume(lab.forge(forge)), said)


def _schedule(name: str, said: str, **changes: Any) -> Case:
    def forge(content: Content) -> None:
        content["lr_schedulers"][0].update(changes)

    return Case(name, lambda lab: resume(lab.forge(forge)), said)


CALLBACK = "callbacks/Checkpoints"
NAN = float("nan")
AVERAGE, APART = "exp_avg is not one of a parameter", "do not belong together"
LIES = [
    Case("a weight of another shape", _weights(lambda t: t[:1].clone()), "mismatch"),
    Case("a weight of whole numbers", _weights(lambda t: t.long()), "is torch.int64"),
    Case("a sparse weight", _weights(lambda t: t.to_sparse()), "is sparse"),
    Case("a weight that is a word", _weights(lambda t: "weight"), "is of type str"),
    Case(
        "an averaged gradient too short",
        _moments(lambda t: t.flatten()[:1].clone()),
        AVERAGE,
    ),
    Case(
        "an averaged gradient that repeats",
        _moments(lambda t: t[:1].expand(t.shape)),
        AVERAGE,
    ),
    Case("an averaged gradient that is a word", _moments(lambda t: "mean"), AVERAGE),
    forged("an unknown weight", "state_dict/x", torch.zeros(1), "'x' is unknown to it"),
    forged(
        "weights that are a list",
        "state_dict",
        [1, 2],
        "'state_dict' is of type list",
    ),
    forged(
        "an unknown argument",
        "lmzoo/arguments/backdoor",
        1,
        "no argument 'backdoor'",
    ),
    forged(
        "arguments that are a list",
        "lmzoo/arguments",
        [1],
        "'arguments' is of type list",
    ),
    forged(
        "a step that is a word",
        "global_step",
        "many",
        "'global_step' is of type str",
        measure,
    ),
    forged("a format of the future", "lmzoo/format", 99, "has format 99"),
    forged("data that is a list", "lmzoo/data", [1], "'data' is of type list", measure),
    forged(
        "training that is a word",
        "lmzoo/training",
        "yes",
        "'training' is of type str",
        resume,
    ),
    forged("no loops", "loops", {}, "its state of training cannot be taken up", resume),
    forged("loops that are a word", "loops", "fit", "'loops' is of type str", resume),
    forged(
        "no optimizer",
        "optimizer_states",
        [],
        "not one state for each optimizer",
        resume,
    ),
    forged(
        "callbacks that are a list",
        "callbacks",
        [1],
        "its state of training cannot be taken up",
        resume,
    ),
    forged(
        "a callback's state without its keys",
        CALLBACK,
        {},
        "does not say what was saved",
        resume,
    ),
    forged(
        "a name that leads out of the folder",
        f"{CALLBACK}/last",
        {"file": "../../text.txt", "step": 2, "metrics": {}},
        "names '../../text.txt'",
        resume,
    ),
    forged(
        "a record that is a number",
        f"{CALLBACK}/best",
        7,
        "its record of the best checkpoint is 7",
        resume,
    ),
    _remembered(
        "a best checkpoint that nobody measured",
        "has no step or no nll",
        "Checkpoints",
        best={"file": "step-000000002.ckpt", "step": 2, "metrics": {}},
    ),
    _remembered(
        "seconds beyond any number", "too large", "Checkpoints", seconds=10**400
    ),
    _remembered(
        "an early stopping that counts words",
        "reference of early stopping is 'abc'",
        "EarlyStopping",
        reference="abc",
    ),
    _option("averages of one rate", "the optimizer's betas is 7", betas=7),
    _option(
        "averages of no rate", "the optimizer's betas is (0.9, nan)", betas=(0.9, NAN)
    ),
    _schedule("a schedule without a step", "the schedule's step is 3", step=3),
    _schedule("a schedule of words", "cannot be taken up", base_lrs=["fast"]),
    forged("origins that are a number", "lmzoo/origins", 7, "'origins' is of type int"),
    _tokenizer("a tokenizer of no kind", "its kind must be one of", kind="pickle"),
    _tokenizer("symbols that are numbers", "non-empty strings", symbols=[1, 2, 3]),
    _tokenizer("a symbol twice", "a symbol twice", symbols=["a", "a"]),
    _tokenizer(
        "more symbols than the model has", APART, symbols=[*map(chr, range(32, 999))]
    ),
    _tokenizer("fewer symbols than the model has", APART, symbols=["a", "b"]),
    forged(
        "a tokenizer that is a list",
        "lmzoo/tokenizer",
        [1],
        "'tokenizer' is of type list",
    ),
]
