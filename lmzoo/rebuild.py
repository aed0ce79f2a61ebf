"""A model from its description: a registry name, plain arguments, tensors.

The description may come from a file of unknown origin. So the arguments are checked to
be data; the model is first built on the meta device, where it takes no memory, and
compared with the tensors by name and shape; only then is it built for real.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as hooks

from lmzoo.errors import UsageError, first_line
from lmzoo.models.member import Member
from lmzoo.registry import models

PARTS = 1000, 50  # modules and parameters that may be built: some, and more per tensor


def rebuild(
    name: str, arguments: dict[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> Member:
    """The model called ``name`` with its weights, in evaluation mode, on the CPU.

    Tensors that the model shares (a tied head) may be given once, under any of their
    names.

    Raises:
        UsageError: see ``build_model``; or a tensor is missing, unknown, or of another
            shape than the model's. Nothing of the model's size is allocated then.
    """
    with limited(len(tensors), path), torch.device("meta"):
        skeleton = build_model(name, arguments, path)
    state = _complete(skeleton, tensors, name, path)
    model = build_model(name, arguments, path)
    model.load_state_dict(state)
    return model.eval()


def require_known(name: str, path: Path) -> None:
    """Refuse a model that no built-in, installed package or plugin file provides.

    Raises:
        UsageError: saying how to bring it.
    """
    if name not in models.entries()[0]:
        raise UsageError(
            f"{path} holds a {name!r} model, which is unknown here: if it came from a "
            f"plugin file, give that file again with --plugin; else install its package"
        )


def build_model(name: str, arguments: dict[str, Any], path: Path) -> Member:
    """The model called ``name``, after its stored arguments have been checked.

    Raises:
        UsageError: unknown name, or arguments that its constructor does not declare or
            that are more than JSON scalars, lists and dictionaries of them.
    """
    require_known(name, path)
    cls = models.load(name)
    check_plain(arguments, f"{path}: model arguments")
    declared = set(inspect.signature(cls).parameters)
    if unknown := sorted(set(arguments) - declared):
        raise UsageError(f"{path}: {name} has no argument {unknown[0]!r}")
    try:
        return cls(**arguments)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{path}: {name} refuses its arguments: {first_line(error)}"
        ) from error
    except (RuntimeError, OverflowError) as error:  # a size beyond what torch can count
        raise UsageError(
            f"{path}: a {name} cannot be built from its arguments ({first_line(error)})"
        ) from error


def check_plain(value: Any, where: str) -> None:
    """Refuse anything but JSON values, and keys that could name code.

    Raises:
        UsageError: naming ``where`` and the offending key or type.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or key.startswith("_"):
                raise UsageError(f"{where}: the key {key!r} is not allowed")
            if key in ("class_path", "init_args", "dict_kwargs"):
                raise UsageError(f"{where}: the key {key!r} could name code; refused")
            check_plain(item, where)
    elif isinstance(value, list | tuple):
        for item in value:
            check_plain(item, where)
    elif not (value is None or isinstance(value, str | int | float | bool)):
        raise UsageError(f"{where}: {type(value).__name__} is not a plain value")


def _complete(
    skeleton: Member, tensors: Mapping[str, Tensor], name: str, path: Path
) -> dict[str, Tensor]:
    """The tensors under all names of the model, each of the shape that it has there.

    Raises:
        UsageError: a tensor is missing, unknown, or does not fit.
    """
    wanted = skeleton.state_dict(keep_vars=True)  # the tensors themselves: shared ones
    sources: dict[int, str] = {}  # are one object
    for key, tensor in wanted.items():
        if key in tensors:
            sources.setdefault(id(tensor), key)
    state = {}
    for key, tensor in wanted.items():
        source = key if key in tensors else sources.get(id(tensor))
        if source is None:
            raise _misfit(path, name, f"the tensor {key!r} is missing")
        given = tensors[source]
        if given.shape != tensor.shape:
            raise _misfit(
                path,
                name,
                f"size mismatch for {key!r}: {tuple(given.shape)} in the file, "
                f"{tuple(tensor.shape)} by its description",
            )
        if given.is_floating_point() != tensor.is_floating_point():
            raise _misfit(path, name, f"{key!r} is {given.dtype}, not {tensor.dtype}")
        state[key] = given
    if unknown := sorted(set(tensors) - set(wanted)):
        raise _misfit(path, name, f"the tensor {unknown[0]!r} is unknown to it")
    return state


def _misfit(path: Path, name: str, why: str) -> UsageError:
    return UsageError(
        f"{path}: its weights do not fit its own description of a {name!r} ({why}); "
        f"the file is damaged"
    )


@contextmanager
def limited(count: int, path: Path) -> Iterator[None]:
    """Stop a model from building very many more parts than there are tensors."""
    built, limit = 0, PARTS[0] + PARTS[1] * count

    def count_part(*_: Any) -> None:
        nonlocal built
        built += 1
        if built > limit:
            raise UsageError(
                f"its arguments ask for more than {limit:,} parts, and there are "
                f"{count} tensors; the description is damaged"
            )

    registered = [
        hooks.register_module_module_registration_hook(count_part),
        hooks.register_module_parameter_registration_hook(count_part),
    ]
    try:
        yield
    finally:
        for one in registered:
            one.remove()
