"""Time against length for the variants of a comparison, measured after they trained.

Each trained architecture with its sizes once: variants that differ in a rate, a seed or
a tokenizer cost the same. What was measured on this processor is kept in ``FILE``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmzoo import files, runs
from lmzoo.compare.surroundings import machine
from lmzoo.compare.timing import Member, Timing, measure
from lmzoo.errors import UsageError

FILE = "timing.json"
FACTORS = (1, 2, 4, 8, 16)  # of the shortest sequence
SHORTEST = (16, 64)  # tokens: the smallest context of the models, between these
BATCH, ROUNDS = 2, 5  # long sequences rather than many: growth is what is asked
OTHER = ("vocab_size", "context_length")  # arguments that measure() sets


def timed(
    cells: Mapping[str, Mapping[str, Any]],
    folder: Path,
    *,
    vocab_size: int,
    threads: int,
) -> tuple[dict[str, Timing], list[str]]:
    """Timings for results.json, and a line for each model that has none.

    Args:
        cells: records by name.
        folder: of the comparison.
        vocab_size: V of all timed models.
        threads: of every pass, as the cells had.
    """
    members, shortest = _members(cells, folder)
    asked = {
        "members": {label: list(member) for label, member in members.items()},
        "lengths": [shortest * factor for factor in FACTORS],
        "vocab_size": vocab_size,
        "threads": threads,
        "processor": machine()["cpu"],
    }
    asked = json.loads(json.dumps(asked))
    if (known := _kept(folder / FILE, asked)) is not None:
        return known["timing"], known["without"]
    without = []
    for label in list(members):
        try:  # one that cannot be built at other lengths stops not the others
            one = {label: members[label]}
            measure(
                one, asked["lengths"][-1:], vocab_size=vocab_size, batch=1, rounds=1
            )
        except UsageError as error:
            without.append(f"not timed: {error}")
            del members[label]
    found = measure(
        members,
        asked["lengths"],
        vocab_size=vocab_size,
        batch=BATCH,
        rounds=ROUNDS,
        threads=threads,
    )
    timing = files.finite(found)
    files.write_json(
        folder / FILE, {"asked": asked, "timing": timing, "without": without}
    )
    return timing, without


def _members(
    cells: Mapping[str, Mapping[str, Any]], folder: Path
) -> tuple[dict[str, Member], int]:
    """Label -> model and arguments, each pair once; and the shortest length."""
    members: dict[str, Member] = {}
    contexts = []
    for cell in cells.values():
        if cell["status"] != "done" or cell["mark"] or cell["label"] in members:
            continue
        identity = runs.read_manifest(folder / cell["run"])["identity"]
        arguments = {
            key.removeprefix("model."): value
            for key, value in identity.items()
            if key.startswith("model.") and key.removeprefix("model.") not in OTHER
        }
        contexts.append(cell["context_length"])
        if (cell["model"], arguments) not in members.values():
            members[cell["label"]] = (cell["model"], arguments)
    least, most = SHORTEST
    return members, max(least, min([most, *contexts]))


def _kept(file: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier sitting measured, if it is what is asked for."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return kept if kept["asked"] == asked else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
