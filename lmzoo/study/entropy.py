"""Section IX in one table: is a model less sure where it was not trained?"""

from typing import Any

from lmzoo.report.finding import Finding
from lmzoo.report.spread import Spread, spread
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, decimals, percent, plural, with_interval
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
    texts = _held_out(study)
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
        text=[*_texts_sentence(texts), _sentence(inside, outside)],
        tables=[
            *_texts_table(texts),
            Table(heads, rows, "Mean entropy of the next characters at the end"),
        ],
        notes=[
            "in bits, over the characters that each model made itself after a prompt, "
            "at its last checkpoint; hardened at: the step from which the top choice "
            "no longer changed, among the kept checkpoints",
            *_stand_ins(study),
        ],
        data={"in": inside.values, "out": outside.values, "texts": texts},
    )


def _stand_ins(study: Study) -> list[str]:
    """Where a corpus is called home to a prompt that was made for another."""
    names = set(study.recipe.corpora)
    notes = []
    for prompt in study.recipe.prompts:
        near = [name for name in prompt.home if name in names]
        if near and near[0] != prompt.home[0]:
            notes.append(
                f"{prompt.text!r} was made for a text on {prompt.home[0]}; here "
                f"{near[0]} stands in for it, and 'in domain' means no more than that"
            )
    return notes


def _held_out(study: Study) -> list[dict[str, Any]]:
    """Entropy and cross-entropy of each run on held-out text, at its last checkpoint.

    Of its own corpus, and of another one.
    """
    found = []
    for step, finding in study.of("IX"):
        points = finding.data.get("checkpoints") or []
        told = {one["domain"]: one for one in finding.data.get("texts") or []}
        if not points or set(told) != {"in", "out"}:
            continue
        newest = max(points, key=lambda point: point["step"])["texts"]
        name, _, _ = step.name.removeprefix("softmax-").rpartition("-")
        found.append(
            {
                "run": name,
                **{
                    domain: {
                        "text": one["name"],
                        "unknown": one["unknown"],
                        **newest[one["name"]],
                    }
                    for domain, one in told.items()
                },
            }
        )
    return found


def _texts_table(texts: list[dict[str, Any]]) -> list[Table]:
    heads = ["model"]
    for domain in ("in domain", "out of domain"):
        heads += [domain, "expects", "pays", "unknown"]
    rows = [
        [
            one["run"],
            *(
                word
                for domain in ("in", "out")
                for word in (
                    one[domain]["text"],
                    decimals(one[domain]["entropy"], 2),
                    decimals(one[domain]["cross_entropy"], 2),
                    percent(one[domain]["unknown"], 2),
                )
            ),
        ]
        for one in texts
    ]
    caption = (
        "Held-out text at the last checkpoint, bits a token: expects is the entropy of "
        "what the model predicts, pays is its cross-entropy with what came, unknown "
        "the share of that text outside its vocabulary, which it pays for too"
    )
    return [Table(heads, rows, caption, words=(0, 1, 5))] if rows else []


def _texts_sentence(texts: list[dict[str, Any]]) -> list[str]:
    if not texts:
        return []
    higher = [one for one in texts if one["out"]["entropy"] > one["in"]["entropy"]]
    surer = [
        one
        for one in texts
        if one["out"]["cross_entropy"] - one["out"]["entropy"]
        > one["in"]["cross_entropy"] - one["in"]["entropy"]
    ]
    unknown = max(one["out"]["unknown"] for one in texts)
    return [
        f"On held-out text {len(higher)} of {plural(len(texts), 'model')} expect more "
        f"bits out of their domain than in it, and for {len(surer)} of them what they "
        f"pay lies further above what they expect there; a part of that is paid for "
        f"symbols outside the vocabulary (up to {percent(unknown)} of a text)."
    ]


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
