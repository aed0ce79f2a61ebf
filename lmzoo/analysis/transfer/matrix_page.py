"""A matrix of losses as tables, a figure, sentences and small print."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmzoo.analysis.transfer.passes import Losses, neighbours
from lmzoo.analysis.transfer.picture import grid
from lmzoo.analysis.transfer.readout import readout
from lmzoo.report.finding import Finding
from lmzoo.report.spread import Spread
from lmzoo.report.table import Table
from lmzoo.report.words import decimals, listed, percent

SPLITS = {"both": ("train", "val")}
IN_WORDS = {
    "val": "held-out (validation)",
    "test": "held-out (test)",
    "train": "training",
}


@dataclass(frozen=True)
class Cell:
    """One model on one split of one text."""

    model: str
    corpus: str
    split: str
    home: bool  # the text that the model was trained on
    losses: Losses
    kind: str  # of the model's tokenizer
    policy: str  # what is done with symbols that the vocabulary lacks
    leak: bool  # held out here, but not where the model was trained
    interval: Spread


def finding(cells: list[Cell], split: str, most: int, which: str) -> Finding:
    """All that a call of ``matrix`` shows."""
    parts = SPLITS.get(split, (split,))
    found = Finding("matrix", "Each model on each corpus")
    for part in parts:
        chosen = [cell for cell in cells if cell.split == part]
        heading = f"{IN_WORDS[part]} text: " if len(parts) > 1 else ""
        found.text += [f"{heading}{line}" for line in readout(chosen)]
        found.tables += _tables(chosen)
        found.figures[part] = grid(
            f"Loss on {IN_WORDS[part]} text, {_unit(cells)}",
            *_square(chosen),
            {(c.model, c.corpus) for c in chosen if c.home},
        )
    if len(parts) > 1:
        found.text += _in_sample(cells)
    found.tables.append(_details(cells))
    found.notes = _notes(cells, most, which)
    found.rows = [_row(cell) for cell in cells]
    found.data = {"split": split, "checkpoint": which, "cells": found.rows}
    return found


def _unit(cells: Sequence[Cell]) -> str:
    return "nats per token" if _alike(cells) else "bits per character"


def _alike(cells: Sequence[Cell]) -> bool:
    """Whether a token is the same for all models."""
    kinds = {cell.kind for cell in cells}
    return len(kinds) == 1 and kinds <= {"char", "byte"}


def _square(
    cells: Sequence[Cell],
) -> tuple[list[str], list[str], dict[tuple[str, str], float]]:
    models = list(dict.fromkeys(cell.model for cell in cells))
    corpora = list(dict.fromkeys(cell.corpus for cell in cells))
    alike = _alike(cells)
    values = {
        (c.model, c.corpus): c.losses.nats_per_token
        if alike
        else c.losses.bits_per_char
        for c in cells
    }
    return models, corpora, values


def _tables(cells: Sequence[Cell]) -> list[Table]:
    """The matrix in nats per token and in bits per character."""
    models, corpora, _ = _square(cells)
    part = IN_WORDS[cells[0].split]
    at = {(cell.model, cell.corpus): cell for cell in cells}

    def table(caption: str, show: Any) -> Table:
        rows = [
            [model, *(show(at[model, corpus]) for corpus in corpora)]
            for model in models
        ]
        return Table(["model \\ corpus", *corpora], rows, caption)

    def bits(cell: Cell) -> str:
        scale = cell.losses.bits_per_char / cell.losses.nats_per_token
        return _marked(cell, cell.losses.bits_per_char, scale)

    return [
        table(
            f"Nats per token, {part} text; * is the model's own corpus",
            lambda cell: _marked(cell, cell.losses.nats_per_token, 1.0),
        ),
        table(f"Bits per character, {part} text", bits),
    ]


def _marked(cell: Cell, value: float, scale: float) -> str:
    half = cell.interval.half
    shown = decimals(value) if half is None else f"{value:.3f} ± {half * scale:.3f}"
    return f"{shown} *" if cell.home else shown


def _details(cells: Sequence[Cell]) -> Table:
    """Coverage, and what the unknown symbols cost, a line for each cell."""
    heads = ["model", "corpus", "part", "coverage", "nats/char, known only",
             "nats/char, with <unk>", "tokens", "blocks"]  # fmt: skip
    rows = [
        [
            cell.model,
            cell.corpus,
            cell.split,
            percent(cell.losses.coverage, 2),
            decimals(cell.losses.known_nats_per_char),
            "skipped" if cell.losses.dropped else decimals(cell.losses.nats_per_char),
            f"{len(cell.losses.nats):,}",
            str(len(cell.interval.values)),
        ]
        for cell in cells
    ]
    return Table(heads, rows, "Symbols outside the vocabulary", (0, 1, 2))


def _in_sample(cells: Sequence[Cell]) -> list[str]:
    """The diagonal on what was trained on against what was held out."""
    at = {(c.model, c.corpus, c.split): c for c in cells if c.home}
    lines = []
    for (model, corpus, part), cell in at.items():
        if part == "train" and (held := at.get((model, corpus, "val"))):
            seen, unseen = cell.losses.bits_per_char, held.losses.bits_per_char
            lines.append(
                f"{model} at home on {corpus}: {seen:.3f} bits per character on text "
                f"that it was trained on, {unseen:.3f} on held-out text; a diagonal "
                f"measured in-sample would stand {abs(unseen - seen):.3f} "
                f"{'lower' if seen < unseen else 'higher'}."
            )
    return lines


def _notes(cells: Sequence[Cell], most: int, which: str) -> list[str]:
    contexts = dict.fromkeys(f"{c.model}: {c.losses.context}" for c in cells)
    blocks = sorted({len(cell.interval.values) for cell in cells})
    chars = [cell.losses.chars.sum() / len(cell.interval.values) for cell in cells]
    near = [neighbours(cell.interval.values) for cell in cells]
    near = [value for value in near if math.isfinite(value)]
    notes = [
        f"The {which} checkpoint of each run, measured by the run's own protocol: "
        + "; ".join(contexts),
        f"± is half of a 95 % interval of the mean of {_range(blocks)} blocks of text "
        f"of equally many characters (at least {min(chars):,.0f}), for neighbouring "
        f"characters are not independent. It speaks of this text and these weights, "
        f"not of another training.",
    ]
    if near:
        notes.append(
            f"Neighbouring blocks still go together: median correlation "
            f"{np.median(near):.2f} (largest {max(near):.2f}); where it is clearly "
            f"above 0 the intervals are too narrow."
        )
    notes += _part_note(cells, most)
    policies = {cell.policy for cell in cells}
    if any(cell.losses.coverage < 1 for cell in cells):
        notes += [_policy_note(policy) for policy in sorted(policies)]
    if not _alike(cells):
        notes.append(
            "The tokenizers differ: models compare in bits per character only."
        )
    notes += [
        f"{c.model} saw a part of this held-out text of {c.corpus}: it was split "
        f"otherwise in training."
        for c in cells
        if c.leak
    ]
    return notes


def _part_note(cells: Sequence[Cell], most: int) -> list[str]:
    """Which cells stand on a part of their text."""
    part = [cell for cell in cells if cell.losses.places is not None]
    if not part:
        return []
    every = len(part) == len(cells)
    which = (
        "each part"
        if every
        else listed(list(dict.fromkeys(f"{c.corpus} ({c.split})" for c in part)))
    )
    return [f"About {most:,} tokens of {which} were measured, evenly spread."]


def _policy_note(policy: str) -> str:
    if policy == "skip":
        return (
            "Symbols outside a vocabulary were skipped: that model reads an easier "
            "text than one that reads all; coverage says how much it read."
        )
    return (
        "Symbols outside a vocabulary were read and charged as <unk>, which a training "
        "text seldom contains; <unk> does not say which symbol it was, so even this "
        "charge is too low. 'Known only' leaves the charge out and is not comparable "
        "with a model that reads every character; coverage says how much is left out."
    )


def _range(numbers: Sequence[int]) -> str:
    ends = sorted({numbers[0], numbers[-1]})
    return " to ".join(map(str, ends))


def _row(cell: Cell) -> dict[str, Any]:
    cost, half = cell.losses, cell.interval.half
    return {
        "model": cell.model,
        "corpus": cell.corpus,
        "split": cell.split,
        "own_corpus": cell.home,
        "nats_per_token": cost.nats_per_token,
        "nats_half_interval": half,
        "bits_per_char": cost.bits_per_char,
        "nats_per_char": cost.nats_per_char,
        "nats_per_known_char": cost.known_nats_per_char,
        "coverage": cost.coverage,
        "policy": cell.policy,
        "skipped_symbols": cost.dropped,
        "tokens": len(cost.nats),
        "characters": float(cost.chars.sum()),
        "blocks": len(cell.interval.values),
        "tokenizer": cell.kind,
        "context": cost.context,
    }
