"""Checkpoints that want code to run, lie about themselves, or ask for the impossible.

Their hashes are right, so that nothing but how they are read protects.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from lmzoo.selftest.lab import EVIL, Case, Lab, generate, measure, resume, saved

Content = dict[str, Any]
HUGE = 10**12
NO_WEIGHTS_ONLY = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}


def _set(*keys: Any, to: Any) -> Callable[[Content], None]:
    """A change: the value found by following ``keys`` becomes ``to``."""

    def change(content: Content) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


def _forged(
    name: str,
    *keys: Any,
    to: Any,
    read: Callable[[Any], str] = generate,
    works: bool = False,
) -> Case:
    """A checkpoint in which one value is another."""
    change = _set(*keys, to=to)
    return Case(name, lambda lab: read(lab.forge(change)), works=works)


# ---- code ----------------------------------------------------------------------------


def _trapped(*keys: Any, read: Callable[[Any], str] = generate) -> Callable[[Lab], str]:
    return lambda lab: read(lab.forge(_set(*keys, to=lab.trap())))


def _plain_pickle(lab: Lab) -> str:
    """Protocol 0 by hand: io.open(marker, "w")."""
    return generate(lab.sealed(f"cio\nopen\n(V{lab.marker}\nVw\ntR.".encode()))


def _without_trailer(lab: Lab) -> str:
    path = lab.place() / "model.ckpt"
    path.write_bytes(saved(lab, {"state_dict": {}, "lmzoo": lab.trap()}))
    return generate(path)


def _legacy(lab: Lab) -> str:
    content = {**lab.content(), "more": lab.trap()}
    old = saved(lab, content, _use_new_zipfile_serialization=False)
    return generate(lab.sealed(old))


def _torchscript(lab: Lab) -> str:
    body = io.BytesIO(saved(lab, lab.content()))
    with zipfile.ZipFile(body, "a") as archive:
        archive.writestr("archive/constants.pkl", b"cio\nopen\n(V/\ntR.")
    return generate(lab.sealed(body.getvalue()))


def _tar(lab: Lab) -> str:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        pickled = f"cio\nopen\n(V{lab.marker}\nVw\ntR.".encode()
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(pickled)
            archive.addfile(entry, io.BytesIO(pickled))
    return generate(lab.sealed(body.getvalue()))


CODE = [
    Case("a pickle that is no checkpoint of lmzoo", _without_trailer),
    Case("a bare pickle under a right hash", _plain_pickle),
    Case("a pickled call in lmzoo's part", _trapped("lmzoo", "arguments", "x")),
    Case("a pickled call among the weights", _trapped("state_dict", "x")),
    Case("a pickled call in the optimizer", _trapped("optimizer_states", read=resume)),
    Case(
        "the same, weights_only off by the environment",
        _trapped("optimizer_states", read=resume),
        environment=NO_WEIGHTS_ONLY,
    ),
    Case(
        "a pickled call, weights_only off by the environment",
        _trapped("more"),
        environment=NO_WEIGHTS_ONLY,
    ),
    Case("torch's old format with a pickled call", _legacy),
    Case("a TorchScript archive", _torchscript),
    Case("a tar of torch's first format", _tar),
    Case("a URL", lambda lab: generate("http://127.0.0.1:9/x.ckpt")),
    Case("a URL to resume from", lambda lab: resume("https://127.0.0.1:9/x.ckpt")),
    Case("a file:// URL", lambda lab: generate(f"file://{lab.run}")),
    _forged(
        "a class path in Lightning's hyper-parameters",
        "hyper_parameters",
        to={"net": EVIL, "_class_path": "evil.Trap", "_instantiator": "evil.Trap"},
        works=True,
    ),
    _forged(
        "the same, to resume from",
        "hyper_parameters",
        to={"net": EVIL, "_class_path": "evil.Trap", "_instantiator": "evil.Trap"},
        read=resume,
        works=True,
    ),
    _forged("a class path in the arguments", "lmzoo", "arguments", "bias", to=EVIL),
    _forged("an _instantiator", "lmzoo", "arguments", "_instantiator", to="evil.Trap"),
    _forged("a model by its class path", "lmzoo", "model", to="evil.Trap"),
    _forged("a model by module and class", "lmzoo", "model", to="evil:Trap"),
    _forged("data by a class path", "lmzoo", "data", "name", to="evil.T", read=measure),
    _forged(
        "a class path in the data's arguments",
        *("lmzoo", "data", "arguments", "stride"),
        to=EVIL,
        read=measure,
    ),
    _forged(
        "an optimizer of somebody's",
        *("lmzoo", "training", "optimizer.class_path"),
        to="evil.Trap",
        read=resume,
    ),
    _forged(
        "a class path as a learning rate",
        *("lmzoo", "training", "optimizer.lr"),
        to=EVIL,
        read=resume,
    ),
    _forged(
        "a callback for the Trainer",
        *("lmzoo", "training", "trainer.callbacks"),
        to=["evil.Trap"],
        read=resume,
    ),
]


# ---- sizes ---------------------------------------------------------------------------


def _expanded(content: Content) -> None:
    """A model of 4 TB whose tensors are one number each, repeated by their strides."""
    content["lmzoo"]["arguments"].update(d_model=1 << 17, num_heads=1)
    content["state_dict"] = _stretched(content, torch.zeros(1))


def _of_no_memory(content: Content) -> None:
    """The same by tensors on the meta device, which hold nothing at all."""
    content["lmzoo"]["arguments"].update(d_model=1 << 17, num_heads=1)
    content["state_dict"] = _stretched(content, torch.zeros(1, device="meta"))


def _stretched(content: Content, one: torch.Tensor) -> Content:
    def size(length: int) -> int:
        return length // 16 * (1 << 17) if length % 16 == 0 else length

    vocabulary = content["lmzoo"]["arguments"]["vocab_size"]
    return {
        key: one.expand(
            [n if n == vocabulary else size(n) for n in tensor.shape]
            if not key.startswith("position")
            else [tensor.shape[0], 1 << 17]
        )
        for key, tensor in content["state_dict"].items()
    }


def _one_storage(content: Content) -> None:
    """A hundred layers that share the memory of one."""
    content["lmzoo"]["arguments"]["num_layers"] = 100
    state = content["state_dict"]
    for key in [key for key in state if ".0." in key]:
        for layer in range(1, 100):
            state[key.replace(".0.", f".{layer}.")] = state[key]


def _bomb(lab: Lab) -> str:
    """64 MB of zeros, compressed to as many kilobytes: a file of any size unpacks."""
    source = zipfile.ZipFile(io.BytesIO(saved(lab, lab.content())))
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data/0"):
                content = bytes(1 << 26)
            archive.writestr(entry.filename, content)
    return generate(lab.sealed(body.getvalue()))


def _bytearray(lab: Lab) -> str:
    """An allowed call that takes as much memory as it is told."""
    file = lab.place() / "data.pkl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "archive/data.pkl", b"c__builtin__\nbytearray\n(L%dL\ntR." % HUGE
        )
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    return generate(lab.sealed(file.read_bytes()))


SIZES = [
    _forged("a thousand million layers", "lmzoo", "arguments", "num_layers", to=10**9),
    _forged("a vocabulary of 1e12", "lmzoo", "arguments", "vocab_size", to=HUGE),
    _forged("a width beyond 64 bits", "lmzoo", "arguments", "d_model", to=10**30),
    _forged("a context of 1e12", "lmzoo", "arguments", "context_length", to=HUGE),
    Case("tensors stretched to terabytes", lambda lab: generate(lab.forge(_expanded))),
    Case("tensors without memory", lambda lab: generate(lab.forge(_of_no_memory))),
    Case("one storage for 100 layers", lambda lab: generate(lab.forge(_one_storage))),
    Case("weights that are compressed zeros", _bomb),
    Case("a terabyte asked for by a pickle", _bytearray),
]


# ---- lies ----------------------------------------------------------------------------


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


def _tokenizer(name: str, **changes: Any) -> Case:
    def forge(content: Content) -> None:
        content["lmzoo"]["tokenizer"].update(changes)

    return Case(name, lambda lab: generate(lab.forge(forge)))


CALLBACK = ("callbacks", "Checkpoints")
LIES = [
    Case("a weight of another shape", _weights(lambda t: t[:1].clone())),
    Case("a weight of whole numbers", _weights(lambda t: t.long())),
    Case("a sparse weight", _weights(lambda t: t.to_sparse())),
    Case("a weight that is a word", _weights(lambda t: "weight")),
    Case("an averaged gradient too short", _moments(lambda t: t.flatten()[:1].clone())),
    Case(
        "an averaged gradient that repeats", _moments(lambda t: t[:1].expand(t.shape))
    ),
    Case("an averaged gradient that is a word", _moments(lambda t: "mean")),
    _forged("an unknown weight", "state_dict", "x", to=torch.zeros(1)),
    _forged("weights that are a list", "state_dict", to=[1, 2]),
    _forged("an unknown argument", "lmzoo", "arguments", "backdoor", to=1),
    _forged("arguments that are a list", "lmzoo", "arguments", to=[1]),
    _forged("a step that is a word", "global_step", to="many", read=measure),
    _forged("a format of the future", "lmzoo", "format", to=99),
    _forged("data that is a list", "lmzoo", "data", to=[1], read=measure),
    _forged("training that is a word", "lmzoo", "training", to="yes", read=resume),
    _forged("no loops", "loops", to={}, read=resume),
    _forged("loops that are a word", "loops", to="fit", read=resume),
    _forged("no optimizer", "optimizer_states", to=[], read=resume),
    _forged("callbacks that are a list", "callbacks", to=[1], read=resume),
    _forged("a callback's state without its keys", *CALLBACK, to={}, read=resume),
    _forged(
        "a name that leads out of the folder",
        *(*CALLBACK, "last"),
        to={"file": "../../text.txt", "step": 2, "metrics": {}},
        read=resume,
    ),
    _forged("a record that is a number", *CALLBACK, "best", to=7, read=resume),
    _tokenizer("a tokenizer of no kind", kind="pickle"),
    _tokenizer("symbols that are numbers", symbols=[1, 2, 3]),
    _tokenizer("a symbol twice", symbols=["a", "a"]),
    _tokenizer("more symbols than the model has", symbols=[*map(chr, range(32, 999))]),
    _tokenizer("fewer symbols than the model has", symbols=["a", "b"]),
    _forged("a tokenizer that is a list", "lmzoo", "tokenizer", to=[1]),
]
CASES = [*CODE, *SIZES, *LIES]
