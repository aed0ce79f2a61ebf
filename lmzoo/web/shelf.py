"""The runs that a page was given: its models are chosen among these, by name."""

from collections.abc import Collection, Sequence

import torch

from lmzoo import runs
from lmzoo.analysis.history import History
from lmzoo.errors import UsageError
from lmzoo.report.words import listed, plural
from lmzoo.scoring.columns import short_names

WRITER, LABELLER = "language model", "classifier"  # tasks that the page has a use for


class Shelf:
    """Runs by short names, opened once.

    Args:
        paths: run folders, checkpoint files, exported folders.
        device: where the models compute.

    Attributes:
        names: of all, in the order they were given.
        writers: names of the language models.
        labellers: names of the classifiers.
        spans: what each keeps of its training text.

    Raises:
        UsageError: a run that cannot be opened, that is given twice, or that neither
            continues nor labels a text.
    """

    def __init__(self, paths: Sequence[str], device: torch.device) -> None:
        self.names = short_names(paths)
        if len(set(self.names)) < len(self.names):
            raise UsageError("lmzoo app: the same run was given twice")
        named = list(zip(self.names, paths, strict=True))
        self._open = {name: History(path) for name, path in named}
        self.spans = {name: runs.read_spans(path) for name, path in named}
        tasks = {name: self[name].run.member.task for name in self.names}
        for name, task in tasks.items():
            if task not in (WRITER, LABELLER):
                raise UsageError(
                    f"{self[name].path} holds a model of another task ({task}): the "
                    f"page shows language models and classifiers"
                )
            self[name].run.member.to(device)
        self.writers = [name for name in self.names if tasks[name] == WRITER]
        self.labellers = [name for name in self.names if tasks[name] == LABELLER]

    def __getitem__(self, name: object) -> History:
        if not isinstance(name, str) or name not in self._open:
            raise UsageError(f"no such run here; there are {', '.join(self.names)}")
        return self._open[name]

    def described(self, name: str) -> str:
        """Architecture, size, vocabulary, training: a line."""
        history = self[name]
        run, tokenizer = history.run, history.tokenizer
        count = sum(parameter.numel() for parameter in run.member.parameters())
        parts = [
            history.name,
            plural(count, "parameter"),
            f"{tokenizer.kind} vocabulary of {tokenizer.vocab_size:,}",
            f"context {run.member.context_length:,}",
        ]
        if run.step:
            parts.append(f"step {run.step:,}")
        if name in self.labellers:
            parts.append(f"labels {listed(run.member.arguments['labels'])}")
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
