"""Section IX in one table: is a model less sure where it was not trained?"""

from lmzoo.report.finding import Finding
from lmzoo.report.spread import Spread, spread
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, decimals, with_interval
from lmzoo.study.engine import Study
from lmzoo.study.steps import in_domain


def domains(study: Study) -> Finding | None:
    """Entropy of what comes next, prompts in the domain of a model against others."""
    cells: dict[tuple[str, int], tuple[float, bool, object]] = {}
    for step, found in study.of("IX"):
        name, _, number = step.name.removeprefix("softmax-").rpartition("-")
        prompt = study.recipe.prompts[int(number) - 1]
        points = found.data.get("checkpoints") or []
        if points:
            newest = max(points, key=lambda point: point["step"])
            last = float(newest["mean_entropy"])
            home = in_domain(study.recipe, name, prompt)
            cells[name, int(number)] = last, home, found.data.get("hardened_at")
    if not cells:
        return None
    prompts = list(enumerate(study.recipe.prompts, 1))
    rows = []
    for name in dict.fromkeys(name for name, _ in cells):
        row = [name]
        for number, _ in prompts:
            value, home, step = cells.get((name, number), (None, False, None))
            mark = " in domain" if home else ""
            row += [f"{decimals(value, 2)}{mark}", _steps(step)]
        rows.append(row)
    heads = ["model"]
    for _, prompt in prompts:
        heads += [f"{prompt.text!r}, bits", "hardened at"]
    inside = spread([value for value, home, _ in cells.values() if home])
    outside = spread([value for value, home, _ in cells.values() if not home])
    return Finding(
        "entropy-domains",
        "Entropy in domain against out of domain",
        text=[_sentence(inside, outside)],
        tables=[Table(heads, rows, "Mean entropy of the next characters at the end")],
        notes=[
            "in bits, over the characters that each model made itself after a prompt, "
            "at its last checkpoint; hardened at: the step from which the top choice "
            "no longer changed, among the kept checkpoints"
        ],
        data={"in": inside.values, "out": outside.values},
    )


def _steps(hardened: object) -> str:
    """One step for each character; a dash where the choice still changes."""
    steps = hardened if isinstance(hardened, list) else [hardened]
    return ", ".join(NONE if step is None else str(step) for step in steps)


def _sentence(inside: Spread, outside: Spread) -> str:
    if not inside.values or not outside.values:
        return "There is no prompt both in and out of the domain of these models."
    side = "lower" if inside.mean < outside.mean else "not lower"
    return (
        f"After prompts of their own domain the models' next characters have an "
        f"entropy of {with_interval(inside, 2)} bits, after others "
        f"{with_interval(outside, 2)}: {side} at home. These are "
        f"{len(inside.values)} and {len(outside.values)} prompts, too few for more "
        f"than a hint."
    )
