"""Where each head of each layer looks, on a prompt."""

import math
from typing import Any

import numpy as np
import torch

from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.prompts import Prompt, read_prompt
from lmzoo.models.base import LanguageModel
from lmzoo.report.finding import Finding
from lmzoo.report.heat import heat_grid, heat_map
from lmzoo.report.table import Table
from lmzoo.report.words import decimals, percent, plural
from lmzoo.scoring.common import ready

MOST_PANELS = 8  # heads side by side, and layers, in the grid


def attention(
    run: "str | History", *, prompt: str = "", checkpoints: str = "last"
) -> Finding:
    """Show the attention weights of every layer and head.

    Args:
        run: a run folder, a checkpoint file or an exported folder
        prompt: the text
        checkpoints: last, best, all, steps as 500,1000, or ~5 for five evenly spread;
            of several the figures and the words are of the newest
    """
    history = open_history(run)
    steps, read = history.choose(checkpoints), read_prompt(history, prompt, window=True)
    every = {step: _maps(history.at(step), read) for step in steps}
    heads = [
        _measure(maps, step, i, h)
        for step, maps in every.items()
        for i, h in np.ndindex(maps.shape[:2])
    ]
    newest = [head for head in heads if head["step"] == steps[-1]]
    name = f"{history.name}, step {steps[-1]:,}"
    found = Finding("attention", f"Attention of {name}")
    found.text = _sentences(newest, read)
    found.tables = [_table(heads)]
    found.figures = _figures(name, every[steps[-1]], read)
    found.notes = [
        "layers, heads and positions are counted from 0; distance, entropy and the "
        "share of the first token are means over the positions but the first; uniform "
        "is what equal weights on all that a position sees would give",
        *read.notes,
    ]
    found.rows = [
        {"step": step, "layer": i, "head": h, "from": t, "to": s,
         "token": read.labels[s], "weight": float(maps[i, h, t, s])}
        for step, maps in every.items() for i, h, t, s in np.ndindex(maps.shape)
    ]  # fmt: skip
    found.data = {"run": str(history.path), "tokens": read.labels, "heads": heads}
    return found


def _maps(model: LanguageModel, read: Prompt) -> np.ndarray:
    """Weights (L, H, T, T), float64."""
    with ready(model), torch.no_grad():
        return (
            model.attention_maps(read.tokens.to(model.device))[0].double().cpu().numpy()
        )


def _measure(maps: np.ndarray, step: int, layer: int, head: int) -> dict[str, Any]:
    """What one head does, from the weights (L, H, T, T)."""
    weights, visible = maps[layer, head], (maps > 0).any((0, 1))  # masked: 0 in all
    places = np.arange(len(weights))
    distances = np.abs(places[:, None] - places)
    seen = visible.sum(1)
    safe = np.where(weights > 0, weights, 1.0)
    later = slice(1, None) if len(weights) > 1 else slice(None)
    spread = (distances * visible).sum(1) / seen
    return {
        "step": step,
        "layer": layer,
        "head": head,
        "distance": float((weights * distances).sum(1)[later].mean()),
        "uniform_distance": float(spread[later].mean()),
        "entropy_bits": float(-(weights * np.log2(safe)).sum(1)[later].mean()) + 0.0,
        "uniform_entropy_bits": float(np.log2(seen)[later].mean()),
        "first_token": float(weights[later, 0].mean()),
        "previous_token": _previous(weights),
    }


def _previous(weights: np.ndarray) -> float:
    """Mean weight on the token right before; NaN for a single token."""
    return float(np.diagonal(weights, -1).mean()) if len(weights) > 1 else math.nan


def _sentences(heads: list[dict[str, Any]], read: Prompt) -> list[str]:
    def called(one: dict[str, Any]) -> str:
        return f"layer {one['layer']} head {one['head']}"

    near = min(heads, key=lambda one: one["distance"])
    far = max(heads, key=lambda one: one["distance"])
    sharp = min(heads, key=lambda one: one["entropy_bits"])
    text = [
        f"Over the {plural(len(read.labels), 'token')} of the prompt {called(near)} "
        f"looks nearest, {near['distance']:.1f} tokens away on average, and "
        f"{called(far)} farthest, {far['distance']:.1f} (equal weights: "
        f"{far['uniform_distance']:.1f}). The most selective is {called(sharp)}: "
        f"{sharp['entropy_bits']:.2f} bits (equal weights: "
        f"{sharp['uniform_entropy_bits']:.2f})."
    ]
    before = [one for one in heads if one["previous_token"] > 0.5]
    if before:
        said = ", ".join(
            f"{called(one)} ({percent(one['previous_token'], 0)})" for one in before
        )
        text.append(f"More than half on the token right before: {said}.")
    text.append(
        "Weights say where a head reads, not what the model makes of it: values, later "
        "layers and the residual stream decide; compare lmzoo inspect attribution."
    )
    return text


def _table(heads: list[dict[str, Any]]) -> Table:
    several = len({one["step"] for one in heads}) > 1
    rows = [
        [
            *([f"{one['step']:,}"] if several else []),
            str(one["layer"]),
            str(one["head"]),
            decimals(one["distance"], 1),
            decimals(one["uniform_distance"], 1),
            decimals(one["entropy_bits"], 2),
            decimals(one["uniform_entropy_bits"], 2),
            percent(one["first_token"], 0),
            percent(one["previous_token"], 0),
        ]
        for one in heads
    ]
    names = [
        *(["step"] if several else []),
        "layer",
        "head",
        "distance (tokens)",
        "if uniform",
        "entropy (bits)",
        "if uniform",
        "on the first token",
        "on the token before",
    ]
    return Table(names, rows, "What each head does, on average", words=())


def _figures(name: str, maps: np.ndarray, read: Prompt) -> dict[str, str]:
    layers, heads = (min(n, MOST_PANELS) for n in maps.shape[:2])
    panels = [
        [(f"layer {i}, head {h}", maps[i, h].tolist()) for h in range(heads)]
        for i in range(layers)
    ]
    cut = "" if maps.shape[:2] == (layers, heads) else f" (the first {MOST_PANELS})"
    last = maps[:, :, -1].reshape(-1, maps.shape[-1])
    rows = [f"layer {i}, head {h}" for i, h in np.ndindex(maps.shape[:2])]
    return {
        "maps": heat_grid(
            f"Attention of {name}{cut}",
            panels,
            read.labels,
            x_label="the token looked at",
            y_label="the token that looks",
            legend="attention weight",
        ),
        "last": heat_map(
            f"Where the last position looks: {name}",
            rows,
            read.labels,
            last.tolist(),
            x_label="the token looked at",
            legend="attention weight",
        ),
    }
