"""What a comparison does not show, in sentences."""

import re
from statistics import median

from lmzoo.compare.conditions import commits
from lmzoo.compare.reading import Comparison, context, distinct, off_budget, pick
from lmzoo.compare.recipes import batches
from lmzoo.compare.statistics import TIE, Pair
from lmzoo.report.words import between, count, decimals, listed, plural, signed, some

ALIKE = re.compile(r"its curve is that of (\S+), value for value")
FEW = 3  # tied pairs that are named one by one


def caveats(found: Comparison) -> list[str]:
    """Sentences on ties, seeds, protocols, sizes, rates, missing runs."""
    said = [
        *_ties(found),
        *_resolution(found),
        *_few_seeds(found),
        *_protocols(found),
        *_unequal(found),
        *_time(found),
        *_missing(found),
        *_commits(found),
        *_alike(found),
        _chosen(found),
    ]
    return [f"What this does not show. {said[0]}", *said[1:]]


def _chosen(found: Comparison) -> str:
    chosen = "The best weights were"
    if found.results.get("tuned"):
        chosen = "The best weights and the learning rates were"
    return (
        f"{chosen} chosen on the same validation part that these figures are measured "
        "on."
    )


def _ties(found: Comparison) -> list[str]:
    ties = [pair for pair in found.pairs if pair.verdict == TIE]
    if not ties:
        return []
    if len(ties) > FEW:
        return [
            f"No difference was shown in {len(ties)} of {len(found.pairs)} pairs; the "
            "pairwise table names them."
        ]
    words = [f"{pair.one} and {pair.other} ({_gap(pair)})" for pair in ties]
    return [f"No difference was shown between {listed(words)}."]


def _gap(pair: Pair) -> str:
    if not pair.interval:
        return f"{decimals(abs(pair.difference))} bits"
    gap = f"{signed(pair.difference)} bits, interval {between(pair.interval)}"
    alone = pair.interval[0] * pair.interval[1] > 0
    return f"{gap}, which Holm's correction does not let stand" if alone else gap


def _resolution(found: Comparison) -> list[str]:
    """How small a difference could have been seen."""
    halves = [
        (pair.interval[1] - pair.interval[0]) / 2
        for pair in found.pairs
        if pair.interval and pair.seeds > 1
    ]
    if not halves:
        return []
    return [
        f"With {plural(found.seeds, 'seed')} the interval of a difference is typically "
        f"± {decimals(median(halves))} bits wide (the median pair)."
    ]


def _few_seeds(found: Comparison) -> list[str]:
    if found.best and not found.best.rank and len(found.rows) > 1:
        return ["How much other seeds would move these figures is not known."]
    few = [row.label for row in found.rows if 0 < len(row.cells) < found.seeds]
    few = [label for label in few if label not in _counting(found)]
    if not few:
        return []
    word = "has" if len(few) == 1 else "have"
    return [f"{some(few)} {word} fewer finished seeds than the others."]


def _counting(found: Comparison) -> set[str]:
    return {row.label for row in found.rows if row.mark == "counting"}


def _protocols(found: Comparison) -> list[str]:
    groups: dict[str, list[str]] = {}
    for row in found.rows:
        for cell in row.cells[:1]:
            groups.setdefault(context(cell), []).append(row.label)
    if len(groups) < 2 and len(found.protocols()) < 2:
        return []
    if len(groups) < 2:
        return [
            "The models are not evaluated under one protocol: the table says which."
        ]
    words = [
        f"{'1 token' if told == '1 tokens' else told} for {some(labels)}"
        for told, labels in groups.items()
    ]
    return [
        f"The models do not see the same context: {listed(words)}. A longer context is "
        "part of what a figure measures."
    ]


def _unequal(found: Comparison) -> list[str]:
    """What was not made equal."""
    said, ends = [], sizes(found)
    if ends and not found.results.get("match") and ends[1] > 1.02 * ends[0]:
        spans = f"from {count(ends[0])} to {count(ends[1])} parameters"
        said.append(f"Sizes were not matched: {spans}.")
    if len(steps := batches(found)) > 1:
        words = [f"{count(n)} for {some(labels)}" for n, labels in steps.items()]
        said.append(f"A step does not take the same number of tokens: {listed(words)}.")
    if not found.results.get("tuned"):
        said.append(
            "Learning rates are each model's own defaults, not searched for this "
            "budget: another rate could change the order."
        )
    return said


def sizes(found: Comparison) -> tuple[float, float] | None:
    """Parameters of the smallest and the largest trained model."""
    trained = [row for row in found.rows if row.mark != "counting"]
    sizes = [s for row in trained if (s := row.mean("parameters"))]
    return (min(sizes), max(sizes)) if len(sizes) > 1 else None


def _time(found: Comparison) -> list[str]:
    """How far the runs are from equal seconds."""
    known = [cell for cell in found.cells if pick(cell, "deviation") is not None]
    if not known:
        return []
    worst = max(known, key=lambda cell: abs(cell["deviation"]))
    share = f"{signed(100 * worst['deviation'], 1)} % ({worst['name']})"
    said = f"Measured seconds differ from the budget by up to {share}"
    if off := [cell["name"] for cell in known if off_budget(cell)]:
        are = "is" if len(off) == 1 else "are"
        said += f"; outside 5 %, and so not ranked, {are} {some(off)}"
    return [f"{said}.", *_steps(found)]


def _steps(found: Comparison) -> list[str]:
    """Seeds of a model that took another number of steps in the same time."""
    said = []
    for row in found.rows:
        timed = [cell for cell in row.cells if pick(cell, "deviation") is not None]
        if len(distinct(str(cell["steps"]) for cell in timed)) > 1:
            each = [f"{cell['name']} {count(cell['steps'])}" for cell in timed]
            said.append(
                f"The machine's speed changed between the seeds of {row.label}, which "
                f"took as many steps as the time held: {listed(each)}."
            )
    return said


def _commits(found: Comparison) -> list[str]:
    told, said = commits(found), []
    if len(told) > 1:
        said.append(f"The runs were not made by one lmzoo: commits {listed(told)}.")
    made = [cell["versions"] for cell in found.cells if cell.get("versions")]
    for name in made[0] if made else ():
        if len(several := distinct(str(one.get(name)) for one in made)) > 1:
            said.append(f"The runs were not made by one {name}: {listed(several)}.")
    return said


def _alike(found: Comparison) -> list[str]:
    """Labels whose curves are equal in every digit: an axis that changed nothing."""
    labels = {cell["name"]: cell["label"] for cell in found.cells}
    twins = set()
    for cell in found.cells:
        other = ALIKE.match(cell.get("note") or "")
        if other and other[1] in labels:
            twins.add(tuple(sorted((cell["label"], labels[other[1]]))))
    return [
        f"{one} and {other} trained alike, value for value: what tells them apart "
        "changed nothing."
        for one, other in sorted(twins)
    ]


def _missing(found: Comparison) -> list[str]:
    missing = [cell for cell in found.cells if cell.get("status") != "done"]
    if not missing:
        return []
    kinds = {}
    for cell in missing:
        kinds.setdefault(cell.get("status"), []).append(cell["name"])
    words = [f"{len(names)} {status}" for status, names in kinds.items()]
    return [f"Of {plural(len(found.cells), 'run')}, {listed(words)}: listed below."]
