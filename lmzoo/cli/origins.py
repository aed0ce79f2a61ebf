"""What a run started from: others' weights, or what another model said."""

from pathlib import Path
from typing import Any, NamedTuple

from lmzoo import gguf, hub, runs

SHORT = 12  # characters of a commit's hash that a person reads


class Origin(NamedTuple):
    """One model that a run rests on.

    Attributes:
        use: "weights" (all of them), "body" (a classifier's) or "teacher".
        name: what a person calls it.
        text: name of the text that it was trained on; None where nobody says.
    """

    use: str
    name: str
    text: str | None


def origins(plan: Any) -> list[Origin]:
    """The models that a plan starts from or learns from; none for a fresh start.

    A run that goes on from its checkpoint has them from there.
    """
    if plan.run is not None:
        kept = plan.run.stored.get("origins") or []
        named = (row for row in kept if isinstance(row, dict))
        return [Origin(**row) for row in named if {*row} == {*Origin._fields}]
    named = (("weights", plan.weights), ("body", plan.body), ("teacher", plan.teacher))
    return [
        Origin(use, name_of(run), _text_of(run))
        for use, run in named
        if run is not None
    ]


def name_of(run: runs.Run) -> str:
    """A short name of a run, a model's folder or a GGUF file."""
    place = run.place.resolve()
    if fetched := hub.origin(str(place)):
        return f"{fetched['name']}@{fetched['revision'][:SHORT]}"
    return Path(place.name).stem if place.suffix == gguf.SUFFIX else place.name


def title(summary: dict[str, Any]) -> str:
    """What a summary is headed by: whose weights they were, and what was added."""
    given = {row["use"]: row["name"] for row in summary.get("origins", ())}
    if not given.keys() & {"weights", "body"}:
        return summary["model"]
    name = given.get("weights") or f"{summary['model']} on {given['body']}"
    rank = summary.get("lora_rank")
    return f"{name} + LoRA {rank}" if rank else name


def _text_of(run: runs.Run) -> str | None:
    described = (run.stored.get("data") or {}).get("described") or {}
    return described.get("name")
