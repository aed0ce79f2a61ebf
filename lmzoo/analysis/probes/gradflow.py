"""How far the gradient of one position's loss flows: what a model can learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.prompts import labels, read_prompt
from lmzoo.analysis.sensitivity import Inputs
from lmzoo.analysis.texts import text_for, where
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.registry import models
from lmzoo.report.charts import Chart, Curve, colour
from lmzoo.report.finding import Finding
from lmzoo.report.heat import heat_map
from lmzoo.report.svg import SOFT
from lmzoo.report.table import Table
from lmzoo.report.words import count, plural
from lmzoo.text.datamodule import TextDataModule

LONGEST = 64  # input steps that are looked at unless asked otherwise
FLOOR = 1e-6  # of the largest norm: where the logarithmic plot ends


@dataclass
class Subject:
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


def gradflow(
    run: "str | History",
    *,
    position: int = 20,
    prompt: str = "",
    corpus: str = "",
    windows: int = 8,
    length: int = 0,
    checkpoints: str = "last",
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
        checkpoints: last, best, all, steps as 500,1000, or ~5 for five evenly spread;
            of several each is a line, the table and the map are of the newest
        seed: of a fresh model's weights
    """
    _at_least(position, 0, "position")
    _at_least(windows, 1, "windows")
    if length:
        _at_least(length, 2, "length")
    text = (prompt, corpus, windows, length)
    fresh = isinstance(run, str) and not Path(run).exists() and _in_zoo(run)
    subject = (
        _untrained(str(run), text, seed, position)
        if fresh
        else _trained(run, text, checkpoints, position)
    )
    return _finding(subject, position)


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
    run: "str | History", text: tuple[str, str, int, int], which: str, position: int
) -> Subject:
    history = open_history(run)
    prompt, corpus, number, length = text
    steps = history.choose(which)
    model, words = history.at(steps[-1]), []
    if prompt:
        read = read_prompt(history, prompt)
        windows, words, notes = read.tokens(model), read.labels[:-1], read.notes
    else:
        windows, note = held_out(text_for(history.run, corpus), model, number, length)
        notes = [note]
    _inside(position, windows)
    flows = {f"step {at:,}": flow_map(history.at(at), windows) for at in steps}
    return Subject(flows, len(windows), history.name, words, notes)


def _untrained(
    name: str, text: tuple[str, str, int, int], seed: int, position: int
) -> Subject:
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
        ids = tokenizer.encode(prompt).tolist()[-model.context_length - 1 :]
        windows, words = torch.tensor([ids]), labels(tokenizer, ids[:-1])
    else:
        windows, note = held_out(data, model, number, length)
        notes.append(note)
    _inside(position, windows)
    flows = {"untrained": flow_map(model, windows)}
    return Subject(flows, len(windows), name, words, notes)


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


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise UsageError(f"--{name} {value}: give {least} or more")


# ---- words, table, figures -----------------------------------------------------------


def _finding(subject: Subject, position: int) -> Finding:
    newest, flow = list(subject.flows.items())[-1]
    row = flow[position]
    name = f"{subject.name}, {newest}"
    found = Finding("gradflow", f"Gradient flow of {name}")
    found.text = [
        _sentence(row, position),
        *_shape(flow),
        *_fall(row, position),
        *_over_time(subject, position),
    ]
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
        "norms": _norms(subject, position),
        "heat": _heat(flow, subject, name),
    }
    found.notes = [
        "steps are counted from 0; the loss at step t is that of the token after input "
        "t, in nats; a norm is the length of its gradient by one input vector, and "
        "exactly 0 means that no path leads there",
        *subject.notes,
    ]
    found.rows = [
        {
            "checkpoint": label,
            "loss_position": t,
            "input_step": s,
            "gradient_norm": float(norm),
        }
        for label, flow in subject.flows.items()
        for t, line in enumerate(flow)
        for s, norm in enumerate(line)
    ]
    found.data = {
        "model": name,
        "position": position,
        "norms": row.tolist(),
        "flow": flow.tolist(),
        "checkpoints": {k: f[position].tolist() for k, f in subject.flows.items()},
        "windows": subject.windows,
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


def _over_time(subject: Subject, position: int) -> list[str]:
    """How far back the first and the newest checkpoint's gradients reach."""
    if len(subject.flows) < 2:
        return []
    (first, before), *_, (last, after) = subject.flows.items()
    shares = [_half(flow[position], position) for flow in (before, after)]
    return [
        f"Half of the sum of the norms lies within {plural(shares[0], 'step')} back at "
        f"{first}, within {shares[1]} at {last}."
    ]


def _half(row: np.ndarray, position: int) -> int:
    """Steps back that hold half of what flows to the past and to the step itself."""
    back = row[: position + 1][::-1].cumsum()
    return int((back < back[-1] / 2).sum())


def _norms(subject: Subject, position: int) -> str:
    """The norm over the input steps, logarithmic; steps with exactly 0 are left out."""
    rows = {label: flow[position] for label, flow in subject.flows.items()}
    some = np.concatenate([row[row > 0] for row in rows.values()])
    length = subject.steps
    high = float(some.max(initial=0.0)) or 1.0
    low = min(max(float(some.min(initial=high)), FLOOR * high), high / 10)
    chart = Chart(860, 420, 150 if len(rows) > 1 else 40)
    chart.scales((0, max(length - 1, 1)), (low / 1.5, high * 1.5), log_y=True)
    named = subject.name if len(rows) > 1 else f"{subject.name}, {next(iter(rows))}"
    title = f"Gradient of the loss at step {position}: {named}"
    chart.axes(title, "input step", "norm (logarithmic; exactly 0 is not drawn)")
    _mark(chart, position, length)
    ends = []
    for style, (label, row) in enumerate(rows.items()):
        reached = np.flatnonzero(row >= low)
        if not len(reached):
            continue
        curve = Curve(label, reached.tolist(), row[reached].tolist(), style=style)
        end = chart.draw(curve, high * 1.5)
        ends.append((label, *end, colour(style)))
        for s in reached if len(rows) < 3 or len(reached) == 1 else ():
            chart.dot(
                chart.x(float(s)), chart.y(float(row[s])), colour(style), 5, "#fff"
            )
    if len(rows) > 1:
        chart.end_labels(ends)
    return chart.finish(title)


def _mark(chart: Chart, position: int, length: int) -> None:
    """An upright line at the position whose loss it is, and its name."""
    x, right = chart.x(position), position < 0.7 * length
    chart.rule(x, chart.top, x, chart.bottom, SOFT, "6 4", 1.5)
    anchor, gap = ("start", 8) if right else ("end", -8)
    chart.text(x + gap, chart.bottom - 12, f"step {position}", 15, SOFT, anchor)


def _heat(flow: np.ndarray, subject: Subject, name: str) -> str:
    every = 1 if subject.labels and len(flow) <= 40 else 5 if len(flow) <= 40 else 10
    numbers = ["" if t % every else str(t) for t in range(len(flow))]
    return heat_map(
        f"Gradient flow of {name}",
        numbers,
        subject.labels or numbers,
        flow.tolist(),
        x_label="input step",
        y_label="step of the loss",
        legend="gradient norm (logarithmic)",
        log=True,
    )
