"""The lab's own numbers, and ours beside them, with what differs.

Table I of two students' reports, and the few-shot log of the first.
"""

import math
from typing import Any

from lmzoo import runs
from lmzoo.report.finding import Finding
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, count, decimals, listed
from lmzoo.study.engine import Study

ROLES = ("wikipedia", "math", "shakespeare")
TABLE_I = {  # (model, corpus) -> nats per character, of the two reports
    ("wikipedia", "wikipedia"): (1.424, 1.3786),
    ("wikipedia", "math"): (2.618, 2.7195),
    ("wikipedia", "shakespeare"): (2.472, 2.5144),
    ("math", "wikipedia"): (2.719, 2.5259),
    ("math", "math"): (1.219, 1.2258),
    ("math", "shakespeare"): (3.52, 3.2619),
    ("shakespeare", "wikipedia"): (2.369, 2.3861),
    ("shakespeare", "math"): (3.988, 3.9497),
    ("shakespeare", "shakespeare"): (1.407, 1.3966),
}
FEW_SHOT = {1: 2.3374, 50: 1.9361, 100: 1.8420, 150: 1.7852, 200: 1.7443}
LAB_SECONDS, LAB_SAMPLING = 161, 130


def beside_the_lab(study: Study) -> Finding:
    """Our matrix and few-shot numbers beside the lab's."""
    roles = _roles(study)
    ours = _matrix(study)
    few = _few_shot(study, roles)
    found = Finding("lab", "Beside the lab's own numbers")
    model = study.recipe.models[0]
    found.tables = [_table(roles, ours, model)]
    if few:
        found.tables.append(_log(few, model))
    found.text = _sentences(roles, ours, few)
    found.notes = _differences(study, roles)
    found.data = {"roles": roles, "few_shot": {str(k): v for k, v in few.items()}}
    return found


def _roles(study: Study) -> dict[str, str]:
    """The lab's corpus -> the one that stands in its place here."""
    recipe, found = study.recipe, {}
    for prompt in recipe.prompts:
        here = [name for name in prompt.home if name in recipe.corpora]
        for role in (role for role in prompt.home if role in ROLES):
            if here:
                found[role] = _label(study, here[0])
    return found


def _label(study: Study, corpus: str) -> str:
    """What the transfer tables call a corpus: by its own name, not the study's."""
    for name, (_, own) in study.recipe.runs().items():
        if own == corpus:
            described = runs.read_manifest(study.places[name]).get("data") or {}
            return str(described.get("name", corpus))
    return corpus


def _matrix(study: Study) -> dict[tuple[str, str], float]:
    """(run, corpus) -> nats per character, as the matrix calls them."""
    pairs = study.of("VI")
    cells = pairs[0][1].data.get("cells", []) if pairs else []
    return {
        (str(cell["model"]), str(cell["corpus"])): cell.get("nats_per_char")
        for cell in cells
        if cell.get("split") != "train"
    }


def _cell(ours: dict[tuple[str, str], float], model: str, corpus: str) -> float | None:
    """Of the first kind of model that was trained on ``model``'s text."""
    for (row, column), value in ours.items():
        if column == corpus and model in row.split():
            return value
    return None


def _table(
    roles: dict[str, str], ours: dict[tuple[str, str], float], kind: str
) -> Table:
    rows = []
    for (model, corpus), (one, other) in TABLE_I.items():
        here = [roles.get(model, ""), roles.get(corpus, "")]
        value = _cell(ours, *here) if all(here) else None
        stand = " on ".join(here) if all(here) else NONE
        rows.append([
            f"{model} on {corpus}", decimals(one), decimals(other, 4), stand,
            decimals(value),
        ])  # fmt: skip
    heads = ["the lab: model on corpus", "first report", "second report",
             "here: model on corpus", "here, held out"]  # fmt: skip
    caption = f"Nats per character after training (the lab's Table I); here: {kind}"
    return Table(heads, rows, caption, words=(0, 3))


def _few_shot(study: Study, roles: dict[str, str]) -> dict[int, float]:
    """Target loss at each step of the pair that stands for math to Shakespeare."""
    pairs = study.of("VII")
    rows = pairs[0][1].rows if pairs else []
    wanted = roles.get("math"), roles.get("shakespeare")
    values: dict[int, list[float]] = {}
    for row in rows:
        if not _is_pair(row, wanted):
            continue
        step, bits = row.get("step"), row.get("bits_per_char")
        if isinstance(step, int) and isinstance(bits, int | float):
            values.setdefault(step, []).append(bits * math.log(2))
    return {step: sum(found) / len(found) for step, found in sorted(values.items())}


def _is_pair(row: dict[str, Any], wanted: tuple[str | None, str | None]) -> bool:
    if not isinstance(row.get("start"), int) or row.get("text") != "target":
        return False  # the control, which starts anew; what is forgotten
    return (row.get("source"), row.get("target")) == wanted


def _log(few: dict[int, float], kind: str) -> Table:
    rows = [
        [str(step), decimals(FEW_SHOT.get(step)), decimals(few.get(step))]
        for step in sorted({*FEW_SHOT, *few})
    ]
    caption = "Loss on the target, nats per character: math to Shakespeare"
    caption += f"; here: {kind}, held out"
    return Table(["step", "the lab's log", "here"], rows, caption, words=())


def _sentences(
    roles: dict[str, str],
    ours: dict[tuple[str, str], float],
    few: dict[int, float],
) -> list[str]:
    told = []
    grid = {
        (m, c): _cell(ours, roles[m], roles[c])
        for m in ROLES for c in ROLES if m in roles and c in roles
    }  # fmt: skip
    if len(grid) == 9 and all(value is not None for value in grid.values()):
        plain = {key: float(value or 0) for key, value in grid.items()}
        lowest = sum(plain[c, c] == min(plain[m, c] for m in ROLES) for c in ROLES)
        told.append(
            f"The lab's diagonal is the lowest of its column in 3 of 3 columns, ours "
            f"in {lowest} of 3."
        )
        home = sum(plain[c, c] for c in ROLES) / 3
        away = sum(v for (m, c), v in plain.items() if m != c) / 6
        lab = sum(TABLE_I[c, c][0] for c in ROLES) / 3
        far = sum(v[0] for (m, c), v in TABLE_I.items() if m != c) / 6
        told.append(
            f"From its own corpus to another a model loses {away - home:.2f} nats per "
            f"character more on average here, {far - lab:.2f} in the first report."
        )
    if few and 200 in few and 0 in few:
        told.append(
            f"200 steps on the other corpus take our loss from {few[0]:.2f} to "
            f"{few[200]:.2f}; the lab's log begins at step 1 with 2.34, far below its "
            f"own zero-shot 3.52, and ends at 1.74."
        )
    return told or ["The matrix here has no counterpart in the lab's table."]


def _differences(study: Study, roles: dict[str, str]) -> list[str]:
    other = [f"{here} for {lab}" for lab, here in roles.items() if lab != here]
    told = [
        "the lab's diagonal is almost surely in-sample with dropout off: its 1.407 on "
        "Shakespeare is below the 1.4697 that nanoGPT reports for a model 26 times "
        f"larger; the column of ours is held-out text{_in_sample(study)}",
    ]
    if other:
        told.append(
            f"other corpora stand in the lab's places: {listed(other)}; absolute "
            f"values of different texts do not compare"
        )
    told.append(
        "the lab: 2 layers, 2 heads, width 128 (0.41 M parameters; its text says 2, "
        "which cannot be), context 64, 5,000 steps; batch, learning rate and dropout "
        f"are not stated. {_sizes(study)}"
    )
    told.append(
        f"the lab's few-shot log took {LAB_SECONDS} s, about {LAB_SAMPLING} s of it "
        f"sampling"
    )
    return told


def _in_sample(study: Study) -> str:
    """What the same models lose on training text, where the matrix has it too."""
    pairs = study.of("VI")
    cells = pairs[0][1].data.get("cells", []) if pairs else []
    told = [
        f"{cell['model']} {decimals(cell.get('nats_per_char'))}"
        for cell in cells
        if cell.get("split") == "train" and cell.get("own_corpus")
    ]
    if not told:
        return ""
    return f"; in-sample, on training text, our diagonal is {listed(told)}"


SIZES = {  # of a model's arguments
    "num_layers": "layers",
    "num_heads": "heads",
    "d_model": "width",
    "d_hidden": "hidden units",
    "context_length": "context",
    "dropout": "dropout",
}
HABITS = {"trainer.max_steps": "steps", "optimizer.lr": "peak learning rate"}


def _sizes(study: Study) -> str:
    """What our models are and how they were trained, by what their runs keep."""
    model = study.recipe.models[0]
    found = [
        one.data
        for step, one in study.of("II")
        if study.recipe.runs()[step.name.removeprefix("architecture-")][0] == model
    ]
    if not found:
        return ""
    first = found[0]
    told = [
        f"{words} {value}"
        for part, named in (
            ("arguments", SIZES),
            ("data", {"batch_size": "batch"}),
            ("training", HABITS),
        )
        for key, words in named.items()
        if (value := first[part].get(key)) is not None
    ]
    numbers = sorted({one["parameters"] for one in found})
    ends = dict.fromkeys(count(number) for number in (numbers[0], numbers[-1]))
    return f"Here ({model}): {', '.join(told)}; {' to '.join(ends)} parameters"
