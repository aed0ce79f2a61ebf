"""Which positions of a prompt a next token depends on, by five methods."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch

from lmzoo.analysis.attributions import (
    EMBEDDING,
    METHODS,
    Quantity,
    Question,
    concentration,
    normalised,
    spearman,
)
from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.prompt_positions import Prompt, one_token, read_prompt, visible
from lmzoo.errors import UsageError
from lmzoo.report.bars import bars
from lmzoo.report.finding import Finding
from lmzoo.report.heat import heat_map
from lmzoo.report.table import Table
from lmzoo.report.words import decimals, percent
from lmzoo.scoring.common import ready, token_names
from lmzoo.text.tokenizers import Tokenizer

ALL = "all"
FIRST_TRIED = (" ", "e", "a", "\n")  # baseline tokens
CAVEAT = (
    "Read with care: a large gradient says that the answer is sensitive to a small "
    "change there, not that the model relies on it; only occlusion changes the input "
    "itself, and it makes a text that the model may never have met."
)


@dataclass
class Look:
    """Importances of a prompt's positions: one model, one checkpoint, one method."""

    source: str
    step: int
    method: str
    values: np.ndarray  # (T,)
    log_probability: float  # of the target, nats

    @property
    def top(self) -> int:
        """The position that matters most."""
        return int(np.abs(self.values).argmax())

    @property
    def any(self) -> bool:
        """Whether any position matters at all."""
        return bool(self.values.any())


def attribution(
    run: "str | History",
    *,
    prompt: str = "",
    target: str = "",
    methods: str = "grad_norm",
    checkpoints: str = "last",
    against: str = "",
    quantity: Quantity = "log-probability",
    layer: str = EMBEDDING,
    baseline: str = "",
) -> Finding:
    """Show how much each position of a prompt matters to one next token.

    Args:
        run: a run folder, a checkpoint file or an exported folder
        prompt: the text before the token in question
        target: that token, one character of a character model; by default the token
            that the model itself finds most likely
        methods: grad_norm, input_x_gradient, grad_cam, integrated_gradients,
            occlusion; several with commas between them, or all
        checkpoints: last, best, all, steps as 500,1000, or ~5 for five evenly spread
        against: a second run or checkpoint, shown beside the first: after transfer
        quantity: what is differentiated, the target's log-probability or its logit
        layer: where grad_cam looks, the embedding or a block before the last
        baseline: the token that occlusion puts in place of each; by default a space
    """
    history, names = open_history(run), _methods(methods)
    steps, read = history.choose(checkpoints), read_prompt(history, prompt)
    wanted = target or _likeliest(history, steps[-1], read)
    notes = [*read.notes]
    one_token(history.tokenizer, wanted, "--target")
    options = {"quantity": quantity, "layer": layer, "baseline": baseline}
    looks = _looks(history, steps, read, wanted, names, notes, options, methods == ALL)
    beside: list[Look] = []
    if against:
        other = open_history(against)
        again = read_prompt(other, prompt)
        if again.labels != read.labels:
            raise UsageError(
                f"--against {against}: it reads the prompt as other tokens than "
                f"{history.path} does; give a run with the same kind of tokenizer"
            )
        last = [other.last]
        beside = _looks(
            other, last, again, wanted, names, notes, options, methods == ALL
        )
    if not looks:
        raise UsageError(f"{history.path}: none of the methods works for this model")
    return _finding(history, read, wanted, not target, looks, beside, notes)


def _methods(given: str) -> list[str]:
    names = list(METHODS) if given == ALL else [n.strip() for n in given.split(",")]
    if wrong := [name for name in names if name not in METHODS]:
        raise UsageError(
            f"--methods: no method {wrong[0]!r}; there are {', '.join(METHODS)} and all"
        )
    return list(dict.fromkeys(names))


def _likeliest(history: History, step: int, read: Prompt) -> str:
    """The text of the token that the model would choose."""
    model = history.at(step)
    with ready(model), torch.no_grad():
        last = model(read.tokens(model))[0, -1, : history.tokenizer.vocab_size]
    unknown = history.tokenizer.unk_id
    if unknown is not None:
        last[unknown] = -torch.inf
    return token_names(history.tokenizer)(int(last.argmax()))


def _looks(
    history: History,
    steps: list[int],
    read: Prompt,
    target: str,
    names: list[str],
    notes: list[str],
    options: dict[str, Any],
    lenient: bool,
) -> list[Look]:
    """One for each step and method; with ``lenient`` what cannot be had is noted."""
    identity = one_token(history.tokenizer, target, "--target")
    baselines = _baselines(history.tokenizer, options["baseline"])
    plain = {key: options[key] for key in ("quantity", "layer")}
    found = []
    for step in steps:
        model = history.at(step)
        tokens = read.tokens(model)
        question = Question(model, tokens, identity, **plain, baselines=baselines)
        logits = Question(model, tokens, identity).plain(tokens)
        for name in names:
            try:
                values = METHODS[name](question)
            except UsageError as error:
                if not lenient:
                    raise
                line = f"{name} left out: {error}"
                notes += [] if line in notes else [line]
                continue
            found.append(Look(history.name, step, name, values, float(logits)))
    if "occlusion" in names:
        shown = [repr(history.tokenizer.decode([b])) for b in baselines]
        line = f"occlusion puts {shown[0]} in place of each token, and {shown[1]} where"
        notes += [] if line in " ".join(notes) else [f"{line} {shown[0]} stood already"]
    return found


def _baselines(tokenizer: Tokenizer, given: str) -> tuple[int, ...]:
    """The token that stands in, and another for where it stands already."""
    first = [one_token(tokenizer, given, "--baseline")] if given else []
    tried = [tokenizer.encode(text).tolist() for text in FIRST_TRIED]
    usable = [ids[0] for ids in tried if len(ids) == 1 and ids[0] != tokenizer.unk_id]
    return tuple(dict.fromkeys([*first, *usable, 0, 1]))[:2]


# ---- words, tables, figures ----------------------------------------------------------


def _finding(
    history: History,
    read: Prompt,
    target: str,
    chosen: bool,
    looks: list[Look],
    beside: list[Look],
    notes: list[str],
) -> Finding:
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
    found.figures = _figures(of, read, looks, beside)
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
    if (last < first) == (other > one):
        way = "became more concentrated" if last < first else "spread out"
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
    if not beside:
        return []
    one, other = looks[0], next(b for b in beside if b.method == looks[0].method)
    (first, before), (second, after) = map(concentration, (one.values, other.values))
    return [
        f"Against {other.source} (step {other.step:,}) {one.method} ranks the "
        f"positions with a Spearman correlation of {spearman_words(one, other)}: top "
        f"position {one.top} there {other.top}, top share {percent(first, 0)} there "
        f"{percent(second, 0)}, entropy {before:.2f} there {after:.2f} bits; the "
        f"target's probability is {percent(math.exp(one.log_probability))} there "
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
    several = len({look.source for look in looks}) > 1
    names = [
        f"{look.method.replace('_', ' ')}{f', {look.source}' if several else ''}"
        for look in looks
    ]
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


def _figures(
    of: str, read: Prompt, looks: list[Look], beside: list[Look]
) -> dict[str, str]:
    first = next(look for look in looks if look.step == looks[-1].step)
    pair = [first, *(b for b in beside if b.method == first.method)]
    series = {
        f"{look.source}, step {look.step:,}": normalised(look.values).tolist()
        for look in pair
    }
    title = f"{first.method}: what matters for {of}"
    drawn = {"bars": bars(read.labels, series, title, "importance / largest")}
    legend = "importance / largest of the row"
    if len({look.step for look in looks}) == 1:
        return {**drawn, "heat": _heat(f"What matters for {of}", read, looks + beside,
                                       legend)}  # fmt: skip
    for name in dict.fromkeys(look.method for look in looks):
        rows = [look for look in looks + beside if look.method == name]
        drawn[f"heat-{name}"] = _heat(f"{name}: what matters for {of}", read, rows,
                                      legend)  # fmt: skip
    return drawn


def _heat(title: str, read: Prompt, looks: list[Look], legend: str) -> str:
    """A row for each look, named by what tells it from the others."""
    differ = {
        key for key in ("source", "step", "method")
        if len({getattr(look, key) for look in looks}) > 1
    }  # fmt: skip
    names = []
    for look in looks:
        words = [look.source] if "source" in differ else []
        words += [f"step {look.step:,}"] if "step" in differ else []
        words += [look.method] if "method" in differ or not differ else []
        names.append(", ".join(words))
    values = [normalised(look.values).tolist() for look in looks]
    return heat_map(
        title, names, read.labels, values, x_label="prompt", legend=legend, top=1.0
    )


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
