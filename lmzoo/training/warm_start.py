"""Another run's weights for a new model, row by row where the vocabulary grew."""

from typing import Any

import torch
from torch import Tensor

from lmzoo import runs
from lmzoo.errors import UsageError


def warm_start(model: Any, data: Any, run: runs.Run) -> list[str]:
    """Give ``model`` the weights of ``run``, row by row where the vocabulary grew.

    Returns:
        Lines that say how many rows were shared and how many are new.

    Raises:
        UsageError: the shapes differ by more than the vocabulary.
    """
    old_rows = {symbol: i for i, symbol in enumerate(run.tokenizer.symbols())}
    new_symbols = data.tokenizer.symbols()
    shared = [(i, old_rows[s]) for i, s in enumerate(new_symbols) if s in old_rows]
    target = model.state_dict()
    source = model.received(run.member.state_dict())
    for name, tensor in target.items():
        if name not in source:
            raise UsageError(f"--init_from {run.path}: it has no weights for {name!r}")
        target[name] = _mapped(tensor, source[name], shared, len(old_rows), name, run)
    _require_tied(model, source, run)
    model.load_state_dict(target)
    fresh = len(new_symbols) - len(shared)
    return [
        f"started from {run.path}: {len(shared)} symbols shared, {fresh} new ones "
        f"initialised"
    ]


def keeps_vocabulary(data: Any, run: runs.Run) -> bool:
    """Whether every symbol of ``run`` is one here: the weights mean what they did."""
    return set(run.tokenizer.symbols()) <= set(data.tokenizer.symbols())


def _require_tied(model: Any, source: dict[str, Tensor], run: runs.Run) -> None:
    """Weights that are one matrix here must have been one there."""
    first: dict[int, str] = {}
    for name, tensor in model.state_dict().items():
        other = first.setdefault(tensor.data_ptr(), name)
        if tensor.numel() and not torch.equal(source[name], source[other]):
            raise UsageError(
                f"--init_from {run.path}: {name!r} and {other!r} are one matrix here "
                f"and two there; leave --model.tie_embeddings as it was"
            )


def _mapped(
    tensor: Tensor,
    old: Tensor,
    shared: list[tuple[int, int]],
    old_size: int,
    name: str,
    run: runs.Run,
) -> Tensor:
    if tensor.shape == old.shape and len(shared) in (old_size, 0):
        return old
    sizes = zip(tensor.shape, old.shape, strict=False)
    axes = [axis for axis, (_, size) in enumerate(sizes) if size == old_size]
    rest_equal = tensor.ndim == old.ndim and all(
        a == b
        for i, (a, b) in enumerate(zip(tensor.shape, old.shape, strict=True))
        if i not in axes[:1]
    )
    if not axes or not rest_equal:
        if tensor.shape == old.shape:
            return old
        raise UsageError(
            f"--init_from {run.path}: {name!r} has shape {tuple(old.shape)} there and "
            f"{tuple(tensor.shape)} here; leave the model's arguments as they were"
        )
    axis = axes[0]
    rows = torch.tensor(shared, dtype=torch.long).reshape(-1, 2)
    mapped = tensor.clone()
    mapped.index_copy_(axis, rows[:, 0], old.index_select(axis, rows[:, 1]))
    return mapped
