"""From the bytes of a checkpoint to plain data, and the form that the data must have.

The bytes may be anybody's. What ``torch.load(weights_only=True)`` does not look at is
looked at first: only an uncompressed archive is opened, and no allowed call in it may
ask for memory of its own. What comes out is checked before anything relies on it.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmzoo.errors import UsageError, first_line

ASKS_FOR_MEMORY = (b"builtins\nbytearray\n", b"builtin__\nbytearray\n")
CALL = re.compile(r"(?:GLOBAL|global:|class) ([\w.]+\.\w+)")
STATES = ("callbacks", "loops", "optimizer_states", "lr_schedulers")
FORM: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "arguments": dict,
    "tokenizer": (dict, type(None)),
    "data": dict,
    "training": dict,
    "versions": dict,
    "origins": (list, tuple, type(None)),
}
REQUIRED = ("format", "model", "arguments", "tokenizer")


def unpack(body: memoryview, path: Path) -> Any:
    """The value that ``torch.save`` wrote as ``body``.

    Raises:
        UsageError: damaged, not an archive of torch's, or more than data.
    """
    file = io.BytesIO(body)
    try:
        _require_plain_archive(file, len(body))
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can break a reader in any way
        raise UsageError(
            f"{path} is not a checkpoint that is safe to load: {_why(error)}"
        ) from error


def _why(error: Exception) -> str:
    """What was wrong, without torch's advice on how to load it all the same."""
    if called := CALL.search(str(error)):
        return f"it asks for {called[1]}, and a checkpoint is only data"
    return first_line(error)


def _require_plain_archive(file: io.BytesIO, size: int) -> None:
    """Refuse what unpacks to more than the file.

    Raises:
        ValueError: compressed, overlapping, or calling for memory.
        zipfile.BadZipFile: no archive at all.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise ValueError("its parts are compressed, or larger than it is")
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("it holds two parts of one name")
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        for entry in pickles:
            content = archive.read(entry)
            if any(call in content for call in ASKS_FOR_MEMORY):
                raise ValueError("it asks for memory of its own")


def require_form(checkpoint: Any, path: Path) -> None:
    """Refuse a checkpoint that is not made as lmzoo makes one.

    What its parts mean is checked where they are used; here, that each is of its kind.

    Raises:
        UsageError: naming the part.
    """
    stored = checkpoint.get("lmzoo") if isinstance(checkpoint, dict) else None
    if not isinstance(stored, dict) or "state_dict" not in checkpoint:
        raise UsageError(f"{path} was not written by lmzoo; give a run folder or .ckpt")
    if missing := [key for key in REQUIRED if key not in stored]:
        raise UsageError(f"{path}: {missing[0]!r} is missing; it is damaged")
    for key, kind in FORM.items():
        if key in stored and not isinstance(stored[key], kind):
            raise _misshapen(path, key, stored[key])
    data = stored.get("data") or {}
    for key, kind in (("name", str), ("arguments", dict), ("described", dict)):
        if key in data and not isinstance(data[key], kind):
            raise _misshapen(path, f"data.{key}", data[key])
    step = checkpoint.get("global_step", 0)
    if type(step) is not int or not 0 <= step < 1 << 62:
        raise _misshapen(path, "global_step", step)
    for key in STATES:
        if key in checkpoint and not isinstance(checkpoint[key], dict | list):
            raise _misshapen(path, key, checkpoint[key])
    require_tensors(checkpoint["state_dict"], path)


def require_tensors(tensors: Any, path: Path) -> None:
    """Refuse weights that are not plain tensors by name.

    Raises:
        UsageError: naming the first that is not: sparse, quantized, without memory.
    """
    if not isinstance(tensors, Mapping):
        raise _misshapen(path, "state_dict", tensors)
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise _misshapen(path, str(name), tensor)
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not dense or tensor.is_quantized:
            raise UsageError(
                f"{path}: the tensor {name!r} is sparse, quantized or without memory, "
                f"which no weight of lmzoo is; it was changed"
            )


def elements_held(tensors: Mapping[str, Tensor]) -> int:
    """How many numbers the memory of the tensors holds, each counted once.

    A tensor's shape says nothing of that: by its strides it may repeat one number a
    million million times.
    """
    held = {}
    for tensor in tensors.values():
        memory = tensor.untyped_storage()
        held[memory.data_ptr()] = memory.nbytes() // tensor.itemsize
    return sum(held.values())


def _misshapen(path: Path, key: str, value: Any) -> UsageError:
    return UsageError(
        f"{path}: its {key!r} is of type {type(value).__name__}, which it is in no "
        f"checkpoint of lmzoo; it was changed, or is damaged"
    )
