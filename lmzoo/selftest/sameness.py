"""Whether two run folders hold the same run, to the bit."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lmzoo import runs

CLOCK = {"seconds", "tokens_per_second", "peak_memory"}  # no two runs share a clock
MOST, ALL = 5, 10_000  # differences that are named


def differences(one: Path, other: Path, most: int = MOST) -> list[str]:
    """Where two run folders differ: last checkpoint, curve, samples, summary.

    Of a checkpoint everything is compared: weights, optimizer, schedule, every
    callback, the position in the text and Lightning's own counters; of the rest all but
    what a clock says.
    """
    found: list[str] = []
    for read in (_checkpoint, _curve, _samples, _summary):
        found += _unlike(read(one), read(other), read.__name__[1:])
        if len(found) >= most:
            break
    return found[:most]


def _checkpoint(folder: Path) -> Any:
    return runs.read_checkpoint(runs.newest_first(folder)[0])


def _curve(folder: Path) -> Any:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _samples(folder: Path) -> Any:
    files = sorted((folder / "samples").glob("*.txt"))
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def _summary(folder: Path) -> Any:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    kept = ("model", "steps", "stopped", "best", "last", "test", "tokens")
    return {key: summary[key] for key in kept}


def _unlike(one: Any, other: Any, where: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            if key in CLOCK:
                continue
            if key not in one or key not in other:
                yield f"{where}/{key} is in one only"
            else:
                yield from _unlike(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f"{where}: {len(one)} and {len(other)} items"
        for number, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from _unlike(left, right, f"{where}/{number}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not _same_bits(one, other):
            yield f"{where}: tensors differ"
    elif one != other and not (one != one and other != other):
        yield f"{where}: {one!r} and {other!r}"


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal to the bit; NaN equals itself."""
    if one.shape != other.shape:
        return False
    left, right = (t.detach().contiguous().view(-1) for t in (one, other))
    return torch.equal(left.view(torch.uint8), right.view(torch.uint8))
