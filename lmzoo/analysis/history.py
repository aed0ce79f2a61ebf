"""The checkpoints that a run kept: one model, whose weights go through its history."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lmzoo import portable, runs
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.report.words import plural
from lmzoo.text.tokenizers import Tokenizer

HELD = 1 << 30  # bytes of weights kept in memory
Weights = dict[str, Tensor]


class History:
    """A run's checkpoints, each read and verified once.

    Args:
        path: a run folder; or one checkpoint file or exported folder, whose history is
            that one step.

    Attributes:
        path: as given.
        folder: the run folder, where results belong; None for an exported folder.
        steps: of the checkpoints, ascending.
        best: the step with the lowest validation loss.
        last: the newest step.
        name: model and corpus, for headings: ``gpt on kjv``, or ``gpt on pydoc, then
            200 steps on kjv``.

    Raises:
        UsageError: no run, or one without a sound checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._files: dict[int, Path] = {}
        self._weights: OrderedDict[int, Weights] = OrderedDict()
        single = self.path.is_file() or portable.is_portable(self.path)
        self.run = runs.load(path)
        self.best = self.last = self.run.step
        self.folder: Path | None = self.path
        if single:
            above = self.path.parent.parent
            is_run = (above / "manifest.json").is_file()
            self.folder = above if is_run and self.path.is_file() else None
            self._files[self.run.step] = self.path
        else:
            for file in reversed(runs.newest_first(self.path)):
                self._files[int(file.stem.removeprefix("step-"))] = file
            self.last = max(self._files)
        self.steps = sorted(self._files)
        self._hold(self.run.step, self.run.checkpoint["state_dict"])
        self._at: int | None = self.run.step

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's own."""
        return self.run.tokenizer

    @property
    def model_name(self) -> str:
        """The registry name."""
        return str(self.run.stored["model"])

    @property
    def corpus(self) -> str:
        """What it was trained on, in words; "" if that is not known."""
        data = self.run.stored.get("data") or {}
        name, begun = (data.get("described") or {}).get("name"), data.get("adapted")
        if name and begun:
            steps = plural(int(begun["steps"]), "step")
            return f"{begun['from'] or 'another text'}, then {steps} on {name}"
        return str(name or "")

    @property
    def name(self) -> str:
        """Model and corpus, for headings."""
        corpus = self.corpus
        return f"{self.model_name} on {corpus}" if corpus else self.model_name

    def at(self, step: int) -> LanguageModel:
        """The model after ``step`` steps, in evaluation mode; always the same object.

        Raises:
            UsageError: no such checkpoint, or it is damaged.
        """
        if step not in self._files:
            raise UsageError(
                f"{self.path}: no checkpoint of step {step}; there are "
                f"{listed(self.steps)}"
            )
        model = self.run.model
        if self._at != step:
            model.load_state_dict(self._read(step))
            self._at = step
        return model.eval()

    def choose(self, which: str = "all") -> list[int]:
        """Steps, named by ``best``, ``last``, ``all``, ``500,1000`` or ``~5``.

        ``~5`` takes five, evenly spread, the last among them.

        Raises:
            UsageError: another word, or a step that was not kept.
        """
        named = {"all": self.steps, "best": [self.best], "last": [self.last]}
        if which in named:
            return named[which]
        few = which.startswith("~")
        numbers = [word.strip() for word in which.removeprefix("~").split(",")]
        if not all(word.isdecimal() for word in numbers) or (few and len(numbers) > 1):
            raise UsageError(
                f"--checkpoints {which}: give all, best, last, steps as 500,1000, or "
                f"~5 for five that are evenly spread"
            )
        if few:
            return spread(self.steps, int(numbers[0]))
        wanted = sorted({int(word) for word in numbers})
        if missing := [step for step in wanted if step not in self._files]:
            raise UsageError(
                f"{self.path}: no checkpoint of step {missing[0]}; there are "
                f"{listed(self.steps)}"
            )
        return wanted

    def several(self, which: str = "all") -> list[int]:
        """``choose``, where one checkpoint says nothing.

        Raises:
            UsageError: fewer than two.
        """
        steps = self.choose(which)
        if len(steps) < 2:
            raise UsageError(
                f"{self.path} has one checkpoint here, of step {steps[0]}: its history "
                f"needs several; train with --checkpoints.every_n_steps 500"
            )
        return steps

    def _read(self, step: int) -> Weights:
        if step not in self._weights:
            found: dict[str, Any] = runs.read_checkpoint(self._files[step])
            self._hold(step, found["state_dict"])
        self._weights.move_to_end(step)
        return self._weights[step]

    def _hold(self, step: int, weights: Weights) -> None:
        self._weights[step] = dict(weights)
        while len(self._weights) > 1 and self._held() > HELD:
            self._weights.popitem(last=False)

    def _held(self) -> int:
        return sum(
            tensor.numel() * tensor.element_size()
            for weights in self._weights.values()
            for tensor in weights.values()
        )


def open_history(run: "str | os.PathLike[str] | History") -> History:
    """A run's history; one that is open already stays as it is."""
    return run if isinstance(run, History) else History(run)


def names_apart(runs: Sequence[History]) -> list[str]:
    """The names of several runs; with folders, or numbers, where they are alike."""
    plain = [run.name for run in runs]
    folders = [(run.folder or run.path).name for run in runs]
    both = [f"{name} ({folder})" for name, folder in zip(plain, folders, strict=True)]
    for names in (plain, both):
        if len(set(names)) == len(names):
            return names
    return [f"{i + 1} {name}" for i, name in enumerate(both)]


def spread(steps: list[int], number: int) -> list[int]:
    """``number`` of the steps, evenly spread, the last among them."""
    if number < 1:
        raise UsageError(f"--checkpoints ~{number}: give ~1 or more")
    if number >= len(steps):
        return steps
    gap = len(steps) / number
    return [steps[round(gap * (i + 1)) - 1] for i in range(number)]


def listed(steps: list[int]) -> str:
    """``500, 1000, ... 5000``: what there is, in few words."""
    words = [str(step) for step in steps]
    return ", ".join(words if len(words) < 8 else [*words[:3], "...", *words[-2:]])
