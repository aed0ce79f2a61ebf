"""Checkpoints that want code to run, or ask for the impossible.

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


def changed(where: str, to: Any) -> Callable[[Content], None]:
    """A change: what is found by following ``where``, "part/key", becomes ``to``."""

    def change(content: Content) -> None:
        *keys, last = where.split("/")
        for key in keys:
            content = content[key]
        content[last] = to

    return change


def forged(
    name: str,
    where: str,
    to: Any,
    said: str = "",
    read: Callable[[Any], str] = generate,
) -> Case:
    """A checkpoint in which one value is another; harmless if ``said`` is empty."""
    change = changed(where, to)
    return Case(name, lambda lab: read(lab.forge(change)), said)


# ---- code ----------------------------------------------------------------------------


def _trapped(where: str, read: Callable[[Any], str] = generate) -> Callable[[Lab], str]:
    return lambda lab: read(lab.forge(changed(where, lab.trap())))


def _plain_pickle(lab: Lab) -> str:
    return generate(lab.sealed(lab.pickled()))


def _without_trailer(lab: Lab) -> str:
    path = lab.place() / "model.ckpt"
    path.write_bytes(saved(lab, {"state_dict": {}, "lmzoo": lab.trap()}))
    return generate(path)


def _legacy(lab: Lab) -> str:
    content = {**lab.content(), "more": lab.trap()}
    old = saved(lab, content, _use_new_zipfile_serialization=False)
    return generate(lab.sealed(old))


def _torchscript(lab: Lab) -> str:
    """What marks one lies beside the pickle, and both want to run."""
    body = io.BytesIO(saved(lab, {**lab.content(), "more": lab.trap()}))
    with zipfile.ZipFile(body, "a") as archive:
        inside = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{inside}/constants.pkl", lab.pickled())
    return generate(lab.sealed(body.getvalue()))


def _tar(lab: Lab) -> str:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        pickled = lab.pickled()
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(pickled)
            archive.addfile(entry, io.BytesIO(pickled))
    return generate(lab.sealed(body.getvalue()))


DATA, LOCAL, NAMES_CODE = "only data", "only local files are loaded", "could name code"
NO_ARCHIVE, UNKNOWN = "not a zip file", "which is unknown here"
HIDDEN = {"net": EVIL, "_class_path": "evil.Trap", "_instantiator": "evil.Trap"}
CODE = [
    Case("a pickle that is no checkpoint of lmzoo", _without_trailer, "does not end"),
    Case("a bare pickle under a right hash", _plain_pickle, NO_ARCHIVE),
    Case("a pickled call in lmzoo's part", _trapped("lmzoo/arguments/x"), DATA),
    Case("a pickled call among the weights", _trapped("state_dict/x"), DATA),
    Case("a pickled call in the optimizer", _trapped("optimizer_states", resume), DATA),
    Case(
        "the same, weights_only off by the environment",
        _trapped("optimizer_states", resume),
        DATA,
        environment=NO_WEIGHTS_ONLY,
    ),
    Case(
        "a pickled call, weights_only off by the environment",
        _trapped("more"),
        DATA,
        environment=NO_WEIGHTS_ONLY,
    ),
    Case("torch's old format with a pickled call", _legacy, NO_ARCHIVE),
    Case("a TorchScript archive", _torchscript, "TorchScript"),
    Case("a tar of torch's first format", _tar, NO_ARCHIVE),
    Case("a URL", lambda lab: generate(lab.url("x.ckpt")), LOCAL),
    Case("a URL to resume from", lambda lab: resume(lab.url("x.ckpt", "https")), LOCAL),
    Case("a file:// URL", lambda lab: generate(f"file://{lab.run}"), LOCAL),
    forged("a class path in Lightning's hyper-parameters", "hyper_parameters", HIDDEN),
    forged("the same, to resume from", "hyper_parameters", HIDDEN, read=resume),
    forged("a class path in the arguments", "lmzoo/arguments/bias", EVIL, NAMES_CODE),
    forged(
        "an _instantiator",
        "lmzoo/arguments/_instantiator",
        "evil.Trap",
        "'_instantiator' is not allowed",
    ),
    forged("a model by its class path", "lmzoo/model", "evil.Trap", UNKNOWN),
    forged("a model by module and class", "lmzoo/model", "evil:Trap", UNKNOWN),
    forged(
        "data by a class path", "lmzoo/data/name", "evil.Trap", "'evil.Trap'", measure
    ),
    forged(
        "a class path in the data's arguments",
        "lmzoo/data/arguments/stride",
        EVIL,
        NAMES_CODE,
        measure,
    ),
    forged(
        "an optimizer of somebody's",
        "lmzoo/training/optimizer.class_path",
        "evil.Trap",
        "names 'evil.Trap' as its optimizer",
        resume,
    ),
    forged(
        "a class path as a learning rate",
        "lmzoo/training/optimizer.lr",
        EVIL,
        NAMES_CODE,
        resume,
    ),
    forged(
        "a callback for the Trainer",
        "lmzoo/training/trainer.callbacks",
        ["evil.Trap"],
        "the training option 'trainer.callbacks'",
        resume,
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


TOO_MANY = "its description asks for"  # more numbers than the file holds
SIZES = [
    forged(
        "a thousand million layers",
        "lmzoo/arguments/num_layers",
        10**9,
        "at most 10,000",
    ),
    forged("a vocabulary of 1e12", "lmzoo/arguments/vocab_size", HUGE, "size mismatch"),
    forged(
        "a width beyond 64 bits", "lmzoo/arguments/d_model", 10**30, "its arguments"
    ),
    forged(
        "a context of 1e12", "lmzoo/arguments/context_length", HUGE, "size mismatch"
    ),
    Case(
        "tensors stretched to terabytes",
        lambda lab: generate(lab.forge(_expanded)),
        TOO_MANY,
    ),
    Case(
        "tensors without memory",
        lambda lab: generate(lab.forge(_of_no_memory)),
        "without memory",
    ),
    Case(
        "one storage for 100 layers",
        lambda lab: generate(lab.forge(_one_storage)),
        TOO_MANY,
    ),
    Case("weights that are compressed zeros", _bomb, "compressed"),
    Case("a terabyte asked for by a pickle", _bytearray, "memory of its own"),
]
