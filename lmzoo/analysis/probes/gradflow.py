"""How far the gradient of one position's loss flows: what a model can learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.prompt_positions import labels, read_prompt
from lmzoo.analysis.sensitivity import Inputs
from lmzoo.analysis.texts import text_for, where
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.registry import models
from lmzoo.report.charts import Chart, Curve
from lmzoo.report.finding import Finding
from lmzoo.report.heat import heat_map
from lmzoo.report.table import Table
from lmzoo.report.words import count, plural
from lmzoo.text.datamodule import TextDataModule

LONGEST = 64  # input steps that are looked at unless asked otherwise
FLOOR = 1e-6  # of the largest norm: where the logarithmic plot ends


@dataclass
class Subject:
    """A model and the text that its gradients are taken on."""

    model: LanguageModel
    windows: Tensor  # (N, T + 1): T inputs and the token after each
    name: str
    labels: list[str]  # of the inputs; empty where several windows are averaged
    notes: list[str]


def gradflow(
    run: "str | History",
    *,
    position: int = 20,
    prompt: str = "",
    corpus: str = "",
    windows: int = 8,
    length: int = 0,
    checkpoint: str = "last",
    seed: int = 0,
) -> Finding:
    """Show how the gradient of one position's loss falls off over the input steps.

    Args:
        run: a run folder or checkpoint file; or a model of the zoo by its name, fresh
            and of default size
        position: the output step whose loss is looked at, counted from 0; it sees the
            inputs up to this step, and its target is the token after it
        prompt: the text; by default windows of held-out text
        corpus: held-out text of another corpus, by name or path; by default the run's
            own, or kjv for a fresh model
        windows: of held-out text, evenly spread; their norms are averaged
        length: input steps; by default the context, 64 at most
        checkpoint: last, best, or a step
        seed: of a fresh model's weights
    """
    _at_least(position, 0, "position")
    _at_least(windows, 1, "windows")
    if length:
        _at_least(length, 2, "length")
    text = (prompt, corpus, windows, length)
    fresh = isinstance(run, str) and not Path(run).exists() and _in_zoo(run)
    subject = (
        _untrained(str(run), text, seed) if fresh else _trained(run, text, checkpoint)
    )
    steps = subject.windows.shape[1] - 1
    if position >= steps:
        raise UsageError(
            f"--position {position}: the text has {plural(steps, 'step')} with a "
            f"target; give 0 to {steps - 1}, or a longer text"
        )
    return _finding(subject, flow_map(subject.model, subject.windows), position)


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


# ---- model and text ------------------------------------------------------------------


def _in_zoo(name: str) -> bool:
    return name in models.entries()[0]


def _trained(
    run: "str | History", text: tuple[str, str, int, int], checkpoint: str
) -> Subject:
    history = open_history(run)
    prompt, corpus, number, length = text
    (step, *more) = history.choose(checkpoint)
    if more:
        raise UsageError(f"--checkpoint {checkpoint}: give one step, last or best")
    model = history.at(step)
    name = f"{history.name}, step {step:,}"
    if prompt:
        read = read_prompt(history, prompt)
        found = read.tokens(model)
        return Subject(model, found, name, read.labels[:-1], read.notes)
    data = text_for(history.run, corpus)
    windows, note = held_out(data, model, number, length)
    return Subject(model, windows, name, [], [note])


def _untrained(name: str, text: tuple[str, str, int, int], seed: int) -> Subject:
    """A fresh model of default size, its vocabulary the corpus's characters."""
    prompt, corpus, number, length = text
    data = TextDataModule(**where(corpus)) if corpus else TextDataModule()
    tokenizer, cls = data.tokenizer, models.load(name)
    if cls.counting:
        raise UsageError(f"{name}: it counts and has no gradients; choose another")
    torch.manual_seed(seed)
    model = cls(vocab_size=tokenizer.vocab_size).eval()
    title, note = f"{name}, untrained", f"fresh weights, seed {seed}, default sizes"
    if prompt:
        ids = tokenizer.encode(prompt).tolist()[-model.context_length - 1 :]
        found = torch.tensor([ids])
        return Subject(model, found, title, labels(tokenizer, ids[:-1]), [note])
    windows, where_from = held_out(data, model, number, length)
    return Subject(model, windows, title, [], [note, where_from])


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


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise UsageError(f"--{name} {value}: give {least} or more")


# ---- words, table, figures -----------------------------------------------------------


def _finding(subject: Subject, flow: np.ndarray, position: int) -> Finding:
    row = flow[position]
    found = Finding("gradflow", f"Gradient flow of {subject.name}")
    found.text = [_sentence(row, position), *_shape(flow), *_fall(row, position)]
    heads = ["input step", "distance", "gradient norm", "share of the largest"]
    heads[1:1] = ["token"] if subject.labels else []
    top = row.max() or 1.0
    found.tables = [
        Table(
            heads,
            [
                [str(s), *subject.labels[s : s + 1], str(position - s),
                 "0" if norm == 0 else f"{norm:.3e}", f"{norm / top:.3f}"]
                for s, norm in enumerate(row)
            ],
            f"Gradient of the loss at step {position} by each input vector",
            words=(1,) if subject.labels else (),
        )
    ]  # fmt: skip
    found.figures = {
        "norms": _norms(row, position, subject),
        "heat": _heat(flow, subject),
    }
    found.notes = [
        "steps are counted from 0; the loss at step t is that of the token after input "
        "t, in nats; a norm is the length of its gradient by one input vector, and "
        "exactly 0 means that no path leads there",
        *subject.notes,
    ]
    found.rows = [
        {"loss_position": t, "input_step": s, "gradient_norm": float(norm)}
        for t, line in enumerate(flow)
        for s, norm in enumerate(line)
    ]
    found.data = {
        "model": subject.name,
        "position": position,
        "norms": row.tolist(),
        "flow": flow.tolist(),
        "windows": len(subject.windows),
    }
    return found


def _sentence(row: np.ndarray, position: int) -> str:
    """Which inputs the loss at one position reaches."""
    reached = np.flatnonzero(row)
    if not len(reached):
        return (
            f"The loss at step {position} has no gradient at any input step: nothing "
            f"below could learn from it."
        )
    first, last = int(reached[0]), int(reached[-1])
    back = position - first
    reach = (
        "its own input step alone"
        if first == last == position
        else f"input steps {first} to {last} ({len(reached)} of {len(row)})"
    )
    ahead = (
        f" It reaches {plural(last - position, 'step')} ahead: the model sees the "
        f"future, its own target included."
        if last > position
        else " Nothing to its right has any."
    )
    far = f", the farthest {plural(back, 'step')} back" if back > 0 else ""
    return f"The loss at step {position} sends a gradient to {reach}{far}.{ahead}"


def _shape(flow: np.ndarray) -> list[str]:
    """What all positions together say the model can see."""
    losses, inputs = np.nonzero(flow)
    if not len(losses):
        return []
    back, ahead = int((losses - inputs).max()), int((inputs - losses).max())
    steps = len(flow)
    if back == 0 and ahead <= 0:
        return ["Over all positions: each sees its own step only."]
    far = (
        f"as far back as the text goes ({plural(back, 'step')})"
        if back == steps - 1
        else f"{plural(back, 'step')} back: a window of {count(back + 1)} tokens"
    )
    future = f", and {plural(ahead, 'step')} ahead" if ahead > 0 else ", none ahead"
    return [f"Over all positions the gradient reaches {far}{future}."]


def _fall(row: np.ndarray, position: int) -> list[str]:
    """How fast the norm falls from the position itself."""
    own = row[position]
    past = row[:position]
    if own == 0 or not past.any():
        return []
    first = int(np.flatnonzero(row)[0])
    below = [d for d in range(1, position + 1) if row[position - d] < own / 10]
    tenth = (
        f"; it first falls below a tenth {plural(below[0], 'step')} back"
        if below
        else "; it never falls below a tenth"
    )
    return [
        f"The norm is {own:.2g} at the step itself and {row[first]:.2g} at the "
        f"farthest, {row[first] / own:.2g} of it{tenth}. A gradient that is small is "
        f"little to learn from; it does not say that the model uses the step."
    ]


def _norms(row: np.ndarray, position: int, subject: Subject) -> str:
    """The norm over the input steps, logarithmic; steps with exactly 0 are left out."""
    chart = Chart(760, 400, 40)
    some = row[row > 0]
    high = float(some.max()) if len(some) else 1.0
    low = min(max(float(some.min(initial=high)), FLOOR * high), high / 10)
    chart.scales((0, max(len(row) - 1, 1)), (low / 1.5, high * 1.5), log_y=True)
    title = f"Gradient of the loss at step {position}: {subject.name}"
    chart.axes(title, "input step", "norm (logarithmic; exactly 0 is not drawn)")
    place = chart.x(position)
    chart.rule(place, chart.top, place, chart.bottom, "#D55E00", "6 4", 2)
    right = position < 0.7 * len(row)
    chart.text(
        place + (8 if right else -8),
        chart.top + 14,
        f"step {position}",
        15,
        "#D55E00",
        "start" if right else "end",
    )
    reached = np.flatnonzero(row >= low)
    if len(reached):
        chart.draw(Curve("norm", reached.tolist(), row[reached].tolist()), high * 1.5)
    for s in reached:
        x, y = chart.x(float(s)), chart.y(float(row[s]))
        chart.dot(x, y, "#0072B2", 5, "#ffffff")
    return chart.finish(title)


def _heat(flow: np.ndarray, subject: Subject) -> str:
    every = 1 if subject.labels and len(flow) <= 40 else 5 if len(flow) <= 40 else 10
    numbers = ["" if t % every else str(t) for t in range(len(flow))]
    return heat_map(
        f"Gradient flow of {subject.name}",
        numbers,
        subject.labels or numbers,
        flow.tolist(),
        x_label="input step",
        y_label="step of the loss",
        legend="gradient norm (logarithmic)",
        log=True,
    )
