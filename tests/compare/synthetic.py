"""A comparison's results.json made from known truth: nothing is trained."""

import math
from typing import Any

import numpy as np

BLOCKS, CHARACTERS, CHECKS = 64, 111_540, 16
BITS = math.log(2)
FRESH = "fresh windows of 64 tokens, each target once (on average 32 tokens seen)"
CARRIED = "state carried along 16 streams of the text"

# name: (bits per character, seed noise, parameters, tokens/s, context, carries a state)
TRUTH = {
    "lstm": (2.100, 0.006, 560_194, 24_334, 64, True),
    "ff": (2.306, 0.008, 234_402, 41_694, 10, False),
    "gru": (2.310, 0.008, 428_610, 19_832, 64, True),
    "ngram": (2.408, 0.0, 511_436, 0, 4, False),
    "gpt": (2.510, 0.012, 620_160, 15_567, 64, False),
    "conv": (2.469, 0.010, 263_362, 24_996, 63, False),
}
FLOORS = {
    "uniform": (4.190, 6.044),
    "unigram": (3.347, 4.829),
    "trigram": (2.049, 2.956),
    "5-gram": (1.669, 2.408),
}


def results(
    models: tuple[str, ...] = tuple(TRUTH),
    seeds: tuple[int, ...] = (1337, 1338, 1339),
    tokenizers: tuple[str, ...] = ("char",),
    axes: dict[str, list[Any]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Every cell done, plus what ``changes`` replaces at the top level."""
    random = np.random.default_rng(2024)
    text = random.normal(0, 0.15, BLOCKS)
    cells = [
        cell(random, text, model, seed, tokenizer, values)
        for tokenizer in tokenizers
        for model in models
        for values in _grid(axes or {})
        for seed in seeds
    ]
    if len(tokenizers) > 1:
        for one in cells:
            one["label"] += f" {one['tokenizer']}"
    found = {
        "format": 1,
        "command": f"lmzoo compare --models {','.join(models)} "
        f"--seeds {len(seeds)} --budget.seconds 60".split(),
        "versions": {"lmzoo": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "commit": "bf82057",
        "machine": {"cpu": "AMD EPYC 9R14", "cores": 2, "memory": 24 << 30},
        "budget": {"kind": "seconds", "value": 60},
        "threads": 1,
        "parallel": 1,
        "launcher": "local",
        "match": None,
        "tuned": None,
        "axes": axes or {},
        "text": {
            "name": "tinyshakespeare",
            "sha256": "86c4e6aa" * 8,
            "splits": {
                "train": {"characters": 1_003_854, "tokens": 1_003_854},
                "val": {"characters": CHARACTERS, "tokens": CHARACTERS},
            },
            "tokenizer": {"kind": tokenizers[0], "vocab_size": 65},
        },
        "floors": floors(),
        "cells": cells,
    }
    return {**found, **changes}


def floors() -> dict[str, dict[str, float]]:
    counted = {
        name: {
            "nll": nll,
            "perplexity": math.exp(nll),
            "bits_per_char": bits,
            "bits_per_byte": bits,
        }
        for name, (nll, bits) in FLOORS.items()
    }
    packed = {"bz2": 2.398, "xz": 2.516}
    return counted | {
        name: {"bits_per_char": bits, "bits_per_byte": bits}
        for name, bits in packed.items()
    }


def cell(
    random: np.random.Generator,
    text: np.ndarray,
    model: str,
    seed: int,
    tokenizer: str = "char",
    axes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One finished run whose figures follow from ``TRUTH``."""
    bits, noise, parameters, speed, context, carries = TRUTH[model]
    axes = axes or {}
    bits += {"char": 0.0, "word": 0.12, "bpe": -0.08, "byte": 0.02}[tokenizer]
    bits -= 0.02 * sum(math.log2(1 + v) for v in axes.values())
    per_token = {"char": 1.0, "word": 4.26, "bpe": 2.43, "byte": 1.0}[tokenizer]
    rates = bits + text + random.normal(0, 0.02 if noise else 0, BLOCKS)
    rates += random.normal(0, noise) if noise else 0.0
    chars = np.full(BLOCKS, CHARACTERS // BLOCKS)
    nats = rates * chars * BITS
    best = figures(float(nats.sum() / chars.sum() / BITS), per_token)
    counting = model == "ngram"
    curve = [] if counting else _curve(random, best, per_token, parameters, speed)
    label = " ".join(
        [model, *(f"{key.split('.')[-1]}={value}" for key, value in axes.items())]
    )
    name = f"{label}-{tokenizer}-{seed}".replace(" ", "-").replace("=", "")
    tokens = curve[-1]["tokens"] if curve else 1_003_854
    steps = curve[-1]["step"] if curve else 1
    return {
        "name": name,
        "label": label,
        "model": model,
        "seed": seed,
        "axes": axes,
        "corpus": "tinyshakespeare",
        "tokenizer": tokenizer,
        "oov_share": 0.0,
        "status": "done",
        "reason": "",
        "mark": "counting" if counting else "",
        "run": f"cells/{name}",
        "parameters": parameters,
        "parameters_without_embeddings": int(parameters * 0.95),
        "state_bytes": 2048 if carries else None if counting else 64 * 1024,
        "flops_per_token": None if counting else 6 * parameters,
        "training_flops": None if counting else 6.0 * parameters * tokens,
        "tokens": tokens,
        "steps": steps,
        "seconds": 3.0 if counting else 60.0 + random.normal(0, 0.3),
        "tokens_per_second": None if counting else speed + random.normal(0, 300),
        "mfu": None if counting else 0.21,
        "hfu": None if counting else 0.21,
        "peak_memory": int(367e6 + 16 * parameters),
        "context_length": context,
        "protocol": f"every target sees its full window of {context} tokens"
        if context < 64
        else FRESH,
        "best": {"step": steps, **best},
        "last": {"step": steps, **figures(best["bits_per_char"] * 1.004, per_token)},
        "test": figures(best["bits_per_char"] + 0.03, per_token),
        "other": {"protocol": CARRIED, **figures(best["bits_per_char"] - 0.05)}
        if carries
        else None,
        "curve": curve,
        "train_curve": [{"step": c["step"], "nll": c["nll"] - 0.05} for c in curve],
        "blocks": nats.tolist(),
        "block_targets": (chars / per_token).tolist(),
        "block_chars": chars.tolist(),
        "block_bytes": chars.tolist(),
        "position_nll": _positions(best["nll"], 64, context),
        "sample": f"{model.upper()}:\nWhat say you, <lord> & lady? The king {seed}\n"
        "shall not be so, and I will bear the crown\nOf all the world to thee.\n",
        "stopped": "the budget is spent",
    }


def figures(bits: float, per_token: float = 1.0) -> dict[str, float]:
    nll = bits * BITS * per_token
    return {
        "nll": nll,
        "perplexity": math.exp(nll),
        "bits_per_char": bits,
        "bits_per_byte": bits,
        "accuracy": math.exp(-nll / 3),
        "accuracy_top5": math.exp(-nll / 12),
    }


def _curve(
    random: np.random.Generator,
    best: dict[str, float],
    per_token: float,
    parameters: int,
    speed: float,
) -> list[dict[str, float]]:
    """A power law from ln V down to the best figure, checks evenly in steps."""
    per_step = 768
    last = max(CHECKS, int(speed * 60 / per_step))
    found, end = [], best["bits_per_char"]
    for step in np.linspace(0, last, CHECKS + 1).astype(int):
        part = float(step) / last
        bits = end + (6.03 - end) * max(0.0, 1 - part**0.18)
        bits += 0 if step == last else abs(float(random.normal(0, 0.01)))
        found.append(
            {
                "step": int(step),
                "tokens": int(step) * per_step,
                "seconds": 60.0 * part,
                "flops": 6.0 * parameters * int(step) * per_step,
                **{k: v for k, v in figures(bits, per_token).items()},
            }
        )
    return found


def _positions(nll: float, length: int, context: int) -> list[float]:
    return [
        nll * (1 + 0.35 * math.exp(-min(position, context) / 6))
        for position in range(1, length + 1)
    ]


def timing(labels: tuple[str, ...]) -> dict[str, Any]:
    lengths, found = [64, 128, 256, 512, 1024], {}
    for i, label in enumerate(labels):
        power = 1.0 + 0.12 * i
        forward = [1e-3 * (1 + i) * (n / 64) ** power for n in lengths]
        found[label] = {
            "lengths": lengths,
            "forward": forward,
            "backward": [3 * f for f in forward],
            "exponent": power,
        }
    return found


def fail(found: dict[str, Any], name: str, status: str, reason: str) -> None:
    """Turn one finished cell into one that is not."""
    one = next(c for c in found["cells"] if c["name"] == name)
    empty = {
        key: None
        for key in ("best", "last", "test", "other", "seconds", "training_flops")
    }
    one.update(empty, status=status, reason=reason, curve=[], train_curve=[])
    one.update(blocks=[], block_chars=[], block_bytes=[], block_targets=[])
    one.update(position_nll=[], sample="", steps=0, tokens=0, peak_memory=None)


def _grid(axes: dict[str, list[Any]]) -> list[dict[str, Any]]:
    grid: list[dict[str, Any]] = [{}]
    for key, values in axes.items():
        grid = [{**one, key: value} for one in grid for value in values]
    return grid
