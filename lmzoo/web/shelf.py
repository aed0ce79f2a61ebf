"""The runs that a page was given: its models are chosen among these, by name."""

from collections.abc import Collection, Sequence

import torch

from lmzoo import runs
from lmzoo.analysis.history import History
from lmzoo.errors import UsageError
from lmzoo.report.words import plural
from lmzoo.scoring.columns import short_names


class Shelf:
    """Runs by short names, opened once.

    Args:
        paths: run folders, checkpoint files, exported folders.
        device: where the models compute.

    Raises:
        UsageError: a run that cannot be opened, or that is given twice.
    """

    def __init__(self, paths: Sequence[str], device: torch.device) -> None:
        names = short_names(paths)
        if len(set(names)) < len(names):
            raise UsageError("lmzoo app: the same run was given twice")
        self._open = {n: History(p) for n, p in zip(names, paths, strict=True)}
        for history in self._open.values():
            history.run.model.to(device)
        self.spans = {n: runs.read_spans(p) for n, p in zip(names, paths, strict=True)}

    @property
    def names(self) -> list[str]:
        """In the order they were given."""
        return list(self._open)

    def __getitem__(self, name: object) -> History:
        if not isinstance(name, str) or name not in self._open:
            raise UsageError(f"no such run here; there are {', '.join(self.names)}")
        return self._open[name]

    def described(self, name: str) -> str:
        """Architecture, size, vocabulary, training: a line."""
        history = self[name]
        model, tokenizer = history.run.model, history.tokenizer
        count = sum(parameter.numel() for parameter in model.parameters())
        parts = [
            history.name,
            f"{plural(count, 'parameter')}",
            f"{tokenizer.kind} vocabulary of {tokenizer.vocab_size:,}",
            f"context {model.context_length:,}",
        ]
        if history.run.step:
            parts.append(f"step {history.run.step:,}")
        return ", ".join(parts)


def chosen(given: object, known: Collection[str], what: str) -> list[str]:
    """Those of ``known`` that a request named, in their own order.

    Raises:
        UsageError: none, no list, or another among them.
    """
    if not isinstance(given, list) or not given:
        raise UsageError(f"choose one or more {what}")
    if any(not isinstance(name, str) or name not in known for name in given):
        raise UsageError(f"no such {what} here; there are {', '.join(known)}")
    return [name for name in known if name in given]
