"""Gradients of every loss of a text by every input, of runs and of fresh models."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.prompts import known_ids, labels, read_prompt
from lmzoo.analysis.sensitivity import Inputs
from lmzoo.analysis.texts import text_for, where
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.registry import models
from lmzoo.report.words import plural
from lmzoo.text.datamodule import TextDataModule

LONGEST = 64  # input steps that are looked at unless asked otherwise


@dataclass
class Flows:
    """The gradients of a model on a text, at one or several checkpoints."""

    flows: dict[str, np.ndarray]  # checkpoint -> norms (T, T), the newest last
    windows: int  # over which norms are averaged
    name: str
    labels: list[str]  # of the inputs; empty where several windows are averaged
    notes: list[str]

    @property
    def steps(self) -> int:
        """Inputs that have a target, T."""
        return len(next(iter(self.flows.values())))


def flow_map(model: LanguageModel, windows: Tensor) -> np.ndarray:
    """Norms of every loss's gradient by every input vector.

    Args:
        model: any member of the zoo with gradients.
        windows: (N, T + 1) tokens.

    Returns:
        (T, T) float64: row t is the loss at output step t (nats), column s the input
        step; the mean over the windows of the gradient's length.

    Raises:
        UsageError: the model has no gradients.
    """
    tokens, targets = windows[:, :-1], windows[:, 1:]

    def losses(logits: Tensor) -> Tensor:
        # the windows do not touch one another, so each keeps its own gradient in a sum
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        each = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return each.sum(0)  # (T,)

    rows = Inputs(model, tokens).gradients(losses)
    norms = [row.double().norm(dim=-1).mean(0).cpu().numpy() for row in rows]
    return np.stack(norms)


def in_zoo(name: str) -> bool:
    """Whether a word is a model's name."""
    return name in models.entries()[0]


def trained(
    run: "str | History", text: tuple[str, str, int, int], which: str, position: int
) -> Flows:
    """Gradients of a run's checkpoints; ``text`` as of the probe."""
    history = open_history(run)
    prompt, corpus, number, length = text
    steps = history.choose(which)
    model, words = history.at(steps[-1]), []
    if prompt:
        read = read_prompt(history, prompt, window=True)
        windows, words, notes = (
            read.tokens.to(model.device),
            read.labels[:-1],
            read.notes,
        )
    else:
        windows, note = held_out(text_for(history.run, corpus), model, number, length)
        notes = [note]
    _inside(position, windows)
    flows = {f"step {at:,}": flow_map(history.at(at), windows) for at in steps}
    return Flows(flows, len(windows), history.name, words, notes)


def untrained(
    name: str, text: tuple[str, str, int, int], seed: int, position: int
) -> Flows:
    """A fresh model of default size, its vocabulary the corpus's characters."""
    prompt, corpus, number, length = text
    data = TextDataModule(**where(corpus)) if corpus else TextDataModule()
    tokenizer, cls = data.tokenizer, models.load(name)
    if cls.counting:
        raise UsageError(f"{name}: it counts and has no gradients; choose another")
    torch.manual_seed(seed)
    model = cls(vocab_size=tokenizer.vocab_size).eval()
    words, notes = [], [f"fresh weights, seed {seed}, default sizes"]
    if prompt:
        ids = known_ids(tokenizer, prompt, data.settings.unknown, name, notes)
        ids = ids[-model.context_length - 1 :]
        windows, words = torch.tensor([ids]), labels(tokenizer, ids[:-1])
    else:
        windows, note = held_out(data, model, number, length)
        notes.append(note)
    _inside(position, windows)
    flows = {"untrained": flow_map(model, windows)}
    return Flows(flows, len(windows), name, words, notes)


def _inside(position: int, windows: Tensor) -> None:
    steps = windows.shape[1] - 1
    if position >= steps:
        raise UsageError(
            f"--position {position}: the text has {plural(max(steps, 0), 'step')} with "
            f"a target; "
            + (f"give 0 to {steps - 1}, or a longer text" if steps > 0
               else "give a longer text")
        )  # fmt: skip


def held_out(
    data: TextDataModule, model: LanguageModel, number: int, length: int
) -> tuple[Tensor, str]:
    """Evenly spread windows (N, T + 1) of validation text, and a line about them."""
    tokens = data.val_tokens
    steps = min(length or min(model.context_length, LONGEST), len(tokens) - 1)
    if not model.unbounded and model.window is None and steps > model.context_length:
        raise UsageError(
            f"--length {length}: the model's context is {model.context_length} tokens"
        )
    if steps < 2:
        raise UsageError("the held-out text is too short; give --prompt TEXT")
    starts = np.linspace(0, len(tokens) - steps - 1, number).astype(int)
    starts = np.unique(starts)
    rows = np.stack([tokens[start : start + steps + 1] for start in starts])
    described = data.describe()
    said = plural(len(starts), "window")
    return torch.from_numpy(rows.astype(np.int64)), (
        f"mean over {said} of {steps} steps from the validation text of "
        f"{described['name']}, evenly spread; each starts with an empty memory"
    )
