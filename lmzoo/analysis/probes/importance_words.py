"""What importances of a prompt's positions say: in words, tables and figures."""

import math
from itertools import combinations
from typing import Any

import numpy as np

from lmzoo.analysis.attributions import concentration, normalised, spearman
from lmzoo.analysis.history import History
from lmzoo.analysis.probes.importance import Look, figures, shared
from lmzoo.analysis.prompts import Prompt
from lmzoo.report.finding import Finding
from lmzoo.report.table import Table
from lmzoo.report.words import decimals, percent, visible

CAVEAT = (
    "Read with care: a large gradient says that the answer is sensitive to a small "
    "change there, not that the model relies on it; only occlusion changes the input "
    "itself, and it makes a text that the model may never have met."
)


def finding(
    history: History,
    read: Prompt,
    target: str,
    chosen: bool,
    looks: list[Look],
    beside: list[Look],
    notes: list[str],
) -> Finding:
    """All that is said and shown.

    Args:
        history: of the run.
        read: the prompt.
        target: the token in question, as text.
        chosen: the model chose it itself.
        looks: the run's.
        beside: another run's, or none.
        notes: to add to the small print.
    """
    last = [look for look in looks if look.step == looks[-1].step]
    shown = visible(target)
    of = f"“{shown}” after “{''.join(read.labels)}”"
    found = Finding("attribution", f"What matters for {of}, {history.name}")
    found.text = [
        f"{_sentence(last[0], read)} {_unseen(last, read)}".strip(),
        *_agreement(last),
        *_over_time(looks),
        *_compared(last, beside),
        CAVEAT,
    ]
    found.tables = [*_positions(read, last + beside), *_correlations(last)]
    found.figures = figures(of, read, looks, beside)
    probability = math.exp(last[0].log_probability)
    said = "the model's own first choice; it has" if chosen else "which has"
    found.notes = [
        f"target “{shown}”, {said} a probability of {percent(probability)} at step "
        f"{last[0].step:,}; positions are counted from 0",
        *_explained({look.method for look in looks}),
        *notes,
    ]
    found.rows = [row for look in looks + beside for row in _rows(look, read)]
    found.data = {
        "run": str(history.path),
        "target": target,
        "tokens": read.labels,
        "looks": [_plain(look) for look in looks + beside],
    }
    return found


def _sentence(look: Look, read: Prompt) -> str:
    """What one method says of one model."""
    if not look.any:
        return f"{look.method}: no position has any influence (all exactly 0)."
    share, entropy = concentration(look.values)
    most, length = look.top, len(read.labels)
    last = ", the last" if most == length - 1 else ""
    return (
        f"By {look.method} position {most} (“{read.labels[most]}”{last}) matters most: "
        f"{percent(share, 0)} of the whole over {length} positions; the entropy of the "
        f"shares is {entropy:.2f} bits of at most {math.log2(length):.2f}."
    )


def _unseen(looks: list[Look], read: Prompt) -> str:
    """How far back influence reaches, if some position has exactly none."""
    sure = [look for look in looks if look.method != "grad_cam" and look.any]
    if not sure:
        return ""
    reach = np.any([look.values != 0 for look in sure], axis=0)
    if reach.all():
        return ""
    first = int(reach.argmax())
    return (
        f"Positions with any influence: {int(reach.sum())} of {len(reach)}, the "
        f"farthest is {first} (“{read.labels[first]}”); all others have exactly 0."
    )


def _agreement(looks: list[Look]) -> list[str]:
    """How far several methods rank the positions alike."""
    pairs = _pairs(looks)
    if not pairs:
        return []
    ordered = sorted(pairs, key=lambda pair: pair[2])
    low, high = ordered[0], ordered[-1]
    tops = {look.top for look in looks if look.any}
    same = (
        "All methods name the same top position."
        if len(tops) == 1
        else f"They name {len(tops)} different top positions."
    )
    if len(ordered) == 1:
        return [f"{low[0]} and {low[1]} rank the positions with a Spearman "
                f"correlation of {low[2]:.2f}. {same}"]  # fmt: skip
    return [
        f"The methods rank the positions with Spearman correlations from {low[2]:.2f} "
        f"({low[0]}, {low[1]}) to {high[2]:.2f} ({high[0]}, {high[1]}). {same}"
    ]


def _over_time(looks: list[Look]) -> list[str]:
    """How concentration changed from the first checkpoint to the last."""
    own = [look for look in looks if look.method == looks[0].method and look.any]
    if len(own) < 2:
        return []
    (one, first), (other, last) = (concentration(own[i].values) for i in (0, -1))
    if last < first and other > one:
        way = "became more concentrated"
    elif last > first and other < one:
        way = "spread out"
    else:
        way = "neither concentrated nor spread out clearly"
    sizes = [float(np.abs(own[i].values).max()) for i in (0, -1)]
    return [
        f"From step {own[0].step:,} to {own[-1].step:,} {own[0].method} {way}: "
        f"entropy {first:.2f} to {last:.2f} bits, top share {percent(one, 0)} to "
        f"{percent(other, 0)}; its largest value went from {sizes[0]:.3g} to "
        f"{sizes[1]:.3g}, which is why rows are normalised."
    ]


def _compared(looks: list[Look], beside: list[Look]) -> list[str]:
    """Before and after: the same method in two models."""
    one, other = shared(looks, beside)
    if not other:
        return ["The two models have no method in common."] if beside else []
    (first, before), (second, after) = map(concentration, (one.values, other.values))
    return [
        f"Against {other.source} (step {other.step:,}) {one.method} ranks the "
        f"positions with a Spearman correlation of {spearman_words(one, other)}. Here "
        f"the top position is {one.top} with {percent(first, 0)}, there {other.top} "
        f"with {percent(second, 0)}; the entropy is {before:.2f} bits here and "
        f"{after:.2f} there, the target's probability "
        f"{percent(math.exp(one.log_probability))} and "
        f"{percent(math.exp(other.log_probability))}."
    ]


def spearman_words(one: Look, other: Look) -> str:
    """The rank correlation of two magnitudes."""
    return decimals(spearman(np.abs(one.values), np.abs(other.values)), 2)


def _pairs(looks: list[Look]) -> list[tuple[str, str, float]]:
    every = [
        (a.method, b.method, spearman(np.abs(a.values), np.abs(b.values)))
        for a, b in combinations(looks, 2)
    ]
    return [pair for pair in every if not math.isnan(pair[2])]


def _correlations(looks: list[Look]) -> list[Table]:
    if len(looks) < 2:
        return []
    rows = [
        [
            one.method.replace("_", " "),
            *("1" if a is one else spearman_words(one, a) for a in looks),
        ]
        for one in looks
    ]
    heads = ["", *(look.method.replace("_", " ") for look in looks)]
    return [Table(heads, rows, "Spearman correlation of the magnitudes")]


def _positions(read: Prompt, looks: list[Look]) -> list[Table]:
    """Raw and normalised values, side by side."""
    sources, steps = ({getattr(x, key) for x in looks} for key in ("source", "step"))
    names = []
    for look in looks:
        name = look.method.replace("_", " ")
        name += f", {look.source}" if len(sources) > 1 else ""
        several = len(sources) == 1 and len(steps) > 1
        names.append(f"{name}, step {look.step:,}" if several else name)
    return [
        Table(
            ["position", "token", *names],
            [
                [str(t), label, *(form.format(part[t]) for part in parts)]
                for t, label in enumerate(read.labels)
            ],
            caption,
            words=(1,),
        )
        for caption, form, parts in (
            ("Importance of each position", "{:.4g}", [look.values for look in looks]),
            (
                "The same, magnitude divided by the largest",
                "{:.2f}",
                [normalised(look.values) for look in looks],
            ),
        )
    ]


def _explained(methods: set[str]) -> list[str]:
    said = {
        "grad_cam": "grad_cam weighs channels, not positions: a position that the "
        "target cannot see may have a share all the same",
        "integrated_gradients": "integrated_gradients go from zero vectors to the "
        "prompt's, by Captum; they add up to the whole change within 1 %",
        "input_x_gradient": "input_x_gradient, integrated_gradients and occlusion have "
        "a sign: above 0 the position speaks for the target",
    }
    return [line for method, line in said.items() if method in methods]


def _rows(look: Look, read: Prompt) -> list[dict[str, Any]]:
    parts = normalised(look.values)
    return [
        {
            "run": look.source,
            "step": look.step,
            "method": look.method,
            "position": t,
            "token": label,
            "value": float(look.values[t]),
            "normalised": float(parts[t]),
        }
        for t, label in enumerate(read.labels)
    ]


def _plain(look: Look) -> dict[str, Any]:
    share, entropy = concentration(look.values)
    return {
        "run": look.source,
        "step": look.step,
        "method": look.method,
        "log_probability": look.log_probability,
        "top_position": look.top if look.any else None,
        "top_share": share,
        "entropy_bits": entropy,
        "values": look.values.tolist(),
        "normalised": normalised(look.values).tolist(),
    }
