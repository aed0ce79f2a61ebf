"""How far the gradient of one position's loss flows: what a model can learn from."""

from pathlib import Path

import numpy as np

from lmzoo.analysis.history import History
from lmzoo.analysis.probes.flows import Flows, in_zoo, trained, untrained
from lmzoo.errors import UsageError
from lmzoo.report.charts import Chart, Curve, colour
from lmzoo.report.finding import Finding
from lmzoo.report.heat import heat_map
from lmzoo.report.svg import SOFT
from lmzoo.report.table import Table
from lmzoo.report.words import count, plural

FLOOR = 1e-6  # of the largest norm: where the logarithmic plot ends


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
    fresh = isinstance(run, str) and not Path(run).exists() and in_zoo(run)
    subject = (
        untrained(str(run), text, seed, position)
        if fresh
        else trained(run, text, checkpoints, position)
    )
    return _finding(subject, position)


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise UsageError(f"--{name} {value}: give {least} or more")


# ---- words, table, figures ----------------------------------------------------------


def _finding(subject: Flows, position: int) -> Finding:
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
    found.tables = [_table(row, position, subject)]
    found.figures = {
        "norms": _norms(subject, position),
        "heat": _heat(flow, subject, name),
    }
    found.notes = [
        "steps are counted from 0; the loss at step t is that of the token after input "
        "t, in nats; a norm is the length of its gradient by one input vector, and "
        "exactly 0 means that no path leads there, or one whose slope is 0 in float32",
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


def _table(row: np.ndarray, position: int, subject: Flows) -> Table:
    """The norm at each input step."""
    words, top = subject.labels, row.max() or 1.0
    heads = ["input step", "distance", "gradient norm", "share of the largest"]
    heads[1:1] = ["token"] if words else []
    rows = [
        [
            str(s),
            *words[s : s + 1],
            str(position - s),
            "0" if norm == 0 else f"{norm:.3e}",
            f"{norm / top:.3f}",
        ]
        for s, norm in enumerate(row)
    ]
    caption = f"Gradient of the loss at step {position} by each input vector"
    return Table(heads, rows, caption, words=(1,) if words else ())


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


def _over_time(subject: Flows, position: int) -> list[str]:
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


def _norms(subject: Flows, position: int) -> str:
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


def _heat(flow: np.ndarray, subject: Flows, name: str) -> str:
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
