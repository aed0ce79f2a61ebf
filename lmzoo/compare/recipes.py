"""What each model was trained with: sizes, batch, optimizer, rate, schedule, precision.

From the configuration of the runs themselves, so a size that was solved for and a rate
that was searched are stated as they were used.
"""

from collections.abc import Mapping
from typing import Any

from lmzoo.compare.reading import Comparison, Row, pick
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, count

SECTIONS = {"optimizer": "optimizer", "schedule": "lr_scheduler"}

Recipe = Mapping[str, Any]


def recipe(identity: Mapping[str, Any], context_length: int) -> dict[str, Any]:
    """What decides a training, of a run's flat configuration; JSON-plain.

    Returns:
        ``model``, ``optimizer`` and ``schedule`` (or None) with their arguments;
        ``batch`` in windows and ``batch_tokens``, both of an optimizer step;
        ``gradient_clip`` (or None) and ``precision``.
    """
    batch = identity["data.batch_size"] * identity["trainer.accumulate_grad_batches"]
    made: dict[str, Any] = {
        "model": _section(identity, "model"),
        "batch": batch,
        "batch_tokens": batch * context_length,
        "gradient_clip": identity.get("trainer.gradient_clip_val"),
        "precision": identity.get("trainer.precision"),
    }
    for name, section in SECTIONS.items():
        found = _section(identity, section)
        made[name] = found or None
        if found:
            found["name"] = str(found.pop("class_path")).rpartition(".")[2]
    return made


def _section(identity: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Its arguments; an empty value is what the class does by itself."""
    return {
        key.removeprefix(f"{section}."): value
        for key, value in identity.items()
        if key.startswith(f"{section}.") and value is not None
    }


# ---- in words ------------------------------------------------------------------------


def table(found: Comparison) -> Table | None:
    """One line for each label; a searched rate and solved sizes are in it."""
    rows = [row for row in [*found.rows, *found.exhibits] if row.first.get("recipe")]
    heads = ["model", "sizes", "tokens a step", "learning rate", "optimizer"]
    heads += ["schedule", "clipped at", "precision"]
    lines = [_line(row, row.first["recipe"]) for row in rows]
    return Table(heads, lines, "", (0, 1, 4, 5, 7)) if lines else None


def _line(row: Row, used: Recipe) -> list[str]:
    sizes = _told(used["model"])
    if row.mark == "counting":  # nothing below has a say
        return [row.label, sizes, *[NONE] * 6]
    optimizer, schedule = used["optimizer"] or {}, used["schedule"] or {}
    batch = f"{count(used['batch_tokens'])} ({count(used['batch'])} windows)"
    return [
        row.label,
        sizes,
        batch,
        _plain(optimizer.get("lr")),
        _named(optimizer),
        _named(schedule),
        _plain(used["gradient_clip"]),
        _plain(used["precision"]),
    ]


def _named(part: Mapping[str, Any]) -> str:
    """``AdamW: betas 0.9, 0.99; weight_decay 0.1``."""
    rest = {key: value for key, value in part.items() if key not in ("name", "lr")}
    words = _told(rest)
    name = str(part.get("name", "none"))
    return f"{name}: {words}" if words else name


def _told(arguments: Mapping[str, Any]) -> str:
    """A switch that is off says nothing."""
    words = [
        key if value is True else f"{key} {_plain(value)}"
        for key, value in arguments.items()
        if value is not False
    ]
    return "; ".join(words)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return NONE if value is None else str(value)


def batches(found: Comparison) -> dict[int, list[str]]:
    """Tokens of an optimizer step -> the trained labels that take so many."""
    sizes: dict[int, list[str]] = {}
    for row in found.rows:
        tokens = pick(row.first, "recipe", "batch_tokens")
        if tokens and row.mark != "counting":
            sizes.setdefault(int(tokens), []).append(row.label)
    return sizes
