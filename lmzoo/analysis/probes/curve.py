"""The loss curve of a run, made again from nothing but its checkpoints."""

import math
import re

from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.passes import (
    BLOCKS,
    Passage,
    context_rule,
    held_out,
    passage,
)
from lmzoo.analysis.probes.checkpoint_losses import Loss, Point, logged, measurer
from lmzoo.analysis.texts import is_own, text_for
from lmzoo.errors import UsageError
from lmzoo.report.charts import Curve
from lmzoo.report.finding import Finding
from lmzoo.report.lines import lines
from lmzoo.report.table import Table
from lmzoo.report.words import count, decimals, percent, signed, with_interval
from lmzoo.text.datamodule import TextDataModule

AGREE = 1e-4  # nats; rounding in another order of sums stays far below
PARTS = {"train": "train", "val": "validation", "test": "test"}


def curve(
    run: "str | History",
    *,
    checkpoints: str = "all",
    max_tokens: int = 250_000,
    corpus: str = "",
) -> Finding:
    """Train and held-out loss at every kept checkpoint, measured anew.

    Nothing is read from the run's log: each checkpoint is loaded and passes over the
    held-out part and over as many tokens of the training part, dropout off, under the
    context rule of training. The logged validation loss stands beside, as a check.

    Args:
        run: a run folder with several checkpoints
        checkpoints: all, steps as 500,1000, or ~5 for five evenly spread
        max_tokens: of each part, at each checkpoint; a longer part is represented by
            windows evenly spread over it
        corpus: the text, where it is not where the run found it, or another one

    Raises:
        UsageError: a single checkpoint, a text that cannot be found, or a bad option.
    """
    if max_tokens < 1:
        raise UsageError(f"--max_tokens {max_tokens}: give 1 or more")
    history = open_history(run)
    steps = history.several(checkpoints)
    data = text_for(history.run, corpus)
    model = history.at(steps[0])
    split = held_out(data)
    held = passage(model, data, split, max_tokens)
    train = passage(model, data, "train", len(held.targets))
    own = is_own(history.run, data)
    log = logged(history) if held.whole and split == "val" and own else {}
    measure = measurer(train, data, "train"), measurer(held, data, split)
    points = [
        Point(
            step,
            *(one(history.at(step)) for one in measure),
            logged=log.get(step),
        )
        for step in steps
    ]
    elsewhere = "" if own else f", read on {data.corpus_name}"
    name = history.name + elsewhere
    return Finding(
        "curve" if own else f"curve-{plain(data.corpus_name)}",
        f"Loss curve from checkpoints: {name}",
        text=[*_another(history, data, own), *_said(points, PARTS[split])],
        tables=[_table(points, PARTS[split])],
        figures={"loss": _chart(name, points, PARTS[split])},
        notes=_notes(points, train, held, data, split, context_rule(held, model)),
        rows=[point.plain() for point in points],
        data={
            "run": str(history.path),
            "corpus": data.corpus_name,
            "split": split,
            "tokens": {"train": len(train.targets), split: len(held.targets)},
            "context": context_rule(held, model),
            "points": [point.plain() for point in points],
        },
    )


# ---- what is shown -------------------------------------------------------------------


def _another(history: History, data: TextDataModule, own: bool) -> list[str]:
    if own:
        return []
    return [
        f"{history.name} was not trained on {data.corpus_name}: train and held-out are "
        "the parts of that text here."
    ]


def plain(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", name)


def _said(points: list[Point], name: str) -> list[str]:
    first, last = points[0], points[-1]
    best = min(points, key=lambda point: point.held_out.nll)
    said = [
        f"From step {first.step:,} to {last.step:,} the {name} loss went from "
        f"{first.held_out.nll:.3f} to {last.held_out.nll:.3f} nats per token, the "
        f"train loss from {first.train.nll:.3f} to {last.train.nll:.3f}."
    ]
    if best is last:
        said.append(
            f"The {name} loss is lowest at the last checkpoint "
            f"({last.held_out.bits_per_char:.3f} bits per character): nothing here "
            "says that training had ended."
        )
    else:
        said.append(
            f"The {name} loss is lowest at step {best.step:,} "
            f"({best.held_out.bits_per_char:.3f} bits per character); by the last "
            f"checkpoint it has risen by {last.held_out.nll - best.held_out.nll:.3f}, "
            f"while the train loss changed by "
            f"{signed(last.train.nll - best.train.nll)}."
        )
    said.append(_gap(points, name))
    return said


def _gap(points: list[Point], name: str) -> str:
    """How far the two parts lie apart, against what their texts alone could explain."""
    last = points[-1]
    halves = [half for half in (last.train.half, last.held_out.half) if half]
    line = (
        f"At the last checkpoint the {name} loss is {signed(last.gap)} nats from the "
        f"train loss (at the first, {signed(points[0].gap)})"
    )
    if len(halves) < 2:
        return f"{line}."
    if abs(last.gap) < math.hypot(*halves):
        return f"{line}: no more than two parts of one text may differ by themselves."
    said = f"{line}; the intervals of the two parts do not explain that by chance"
    if abs(last.gap) <= abs(points[0].gap):
        return f"{said}, but it did not grow: so far apart are the texts of the parts."
    return f"{said}."


def _table(points: list[Point], name: str) -> Table:
    heads = ["step", "train, nats", f"{name}, nats", "gap"]
    heads += ["train, bits/char", f"{name}, bits/char"]
    checked = any(point.logged is not None for point in points)
    heads += ["check: off the log"] if checked else []
    rows = []
    for point in points:
        row = [
            count(point.step),
            with_interval(point.train.figure),
            with_interval(point.held_out.figure),
            signed(point.gap),
            decimals(point.train.bits_per_char),
            decimals(point.held_out.bits_per_char),
        ]
        if checked:
            off = None if point.logged is None else point.held_out.nll - point.logged
            row.append(signed(off, 6))
        rows.append(row)
    best = min(range(len(points)), key=lambda i: points[i].held_out.nll)
    caption = "Loss in nats per token with its 95 % interval, and in bits per character"
    return Table(heads, rows, caption, words=(), kinds={best: "best"})


def _chart(name_of_run: str, points: list[Point], name: str) -> str:
    steps = [float(point.step) for point in points]

    def line(label: str, losses: list[Loss], style: int) -> Curve:
        halves = [loss.half or 0.0 for loss in losses]
        y = [loss.nll for loss in losses]
        low = [a - b for a, b in zip(y, halves, strict=True)]
        high = [a + b for a, b in zip(y, halves, strict=True)]
        return Curve(label, steps, y, low, high, style)

    curves = [
        line("train", [point.train for point in points], 0),
        line(name, [point.held_out for point in points], 1),
    ]
    title = f"{name_of_run}: loss, from checkpoints alone"
    return lines(curves, title, "optimizer steps", "nats per token")


def _notes(
    points: list[Point],
    train: Passage,
    held: Passage,
    data: TextDataModule,
    split: str,
    rule: str,
) -> list[str]:
    size, whole = len(held.targets), len(held.tokens) - 1
    part = "all" if held.whole else f"{percent(size / whole)}, evenly spread,"
    notes = [
        f"{data.corpus_name}: {count(size)} targets ({part} of the {PARTS[split]} "
        f"part), and {count(len(train.targets))} of the train part "
        f"({percent(len(train.targets) / (len(train.tokens) - 1))} of it, evenly "
        f"spread); dropout off; {rule}",
        f"intervals: 95 %, Student's t over {min(BLOCKS, size)} consecutive blocks of "
        "each part, taken as independent; they say how far another text of this kind "
        "could differ, not what another seed would give",
    ]
    notes.append(_check(points, held, split))
    return notes + [note for note in data.notes if note.startswith((split, "train"))]


def _check(points: list[Point], held: Passage, split: str) -> str:
    """Whether the run logged the same."""
    off = [
        abs(point.held_out.nll - point.logged)
        for point in points
        if point.logged is not None
    ]
    if not off:
        why = "" if held.whole and split == "val" else ", for it took another part"
        return f"no logged validation loss to check against{why}"
    found, of = max(off), f"{len(off)} of {len(points)} checkpoints"
    if found <= AGREE:
        exact = f"to within {found:.0e} nats" if found else "to the last digit"
        return f"check: the validation loss in the run's log agrees at {of}, {exact}"
    return (
        f"check: the run's log DIFFERS at {of}, by up to {found:.2g} nats: it was "
        "written under another precision or context rule, or its text has changed"
    )
