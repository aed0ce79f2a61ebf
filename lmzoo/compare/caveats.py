"""What a comparison does not show, in sentences."""

from statistics import median

from lmzoo.compare.reading import Comparison, context, pick
from lmzoo.compare.statistics import TIE, Pair
from lmzoo.report.words import between, count, decimals, listed, percent, plural, some

FEW = 3  # tied pairs that are named one by one


def caveats(found: Comparison) -> list[str]:
    """Sentences on ties, seeds, protocols, sizes, rates, missing runs."""
    said = [
        *_ties(found),
        *_resolution(found),
        *_few_seeds(found),
        *_protocols(found),
        *_unknown(found),
        *_unequal(found),
        *_missing(found),
        "The best weights were chosen on the same validation part that these figures "
        "are measured on.",
    ]
    return [f"What this does not show. {said[0]}", *said[1:]]


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
    gap = f"{decimals(abs(pair.difference))} bits"
    if not pair.interval:
        return gap
    gap += f", interval {between(pair.interval)}"
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
        f"With {plural(found.seeds, 'seed')} the interval of a difference is "
        f"± {decimals(median(halves))} bits in the middle of the pairs; differences "
        "much smaller than that would not show."
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
    words = [f"{told} for {some(labels)}" for told, labels in groups.items()]
    return [
        f"The models do not see the same context: {listed(words)}. A longer context is "
        "part of what a figure measures."
    ]


def _unknown(found: Comparison) -> list[str]:
    """Rows that leave a part of the text unspelled."""
    shares = [(row.label, pick(row.first, "unknown")) for row in found.rows]
    return [
        f"{label} does not spell out its unknown tokens ({percent(share)}), so its "
        "place before models that spell everything is not shown."
        for label, share in shares
        if share and share >= 0.001
    ]


def _unequal(found: Comparison) -> list[str]:
    """What was not made equal."""
    said, ends = [], sizes(found)
    if ends and not found.results.get("match") and ends[1] > 1.02 * ends[0]:
        spans = f"from {count(ends[0])} to {count(ends[1])} parameters"
        said.append(f"Sizes were not matched: {spans}.")
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


def _missing(found: Comparison) -> list[str]:
    missing = [cell for cell in found.cells if cell.get("status") != "done"]
    if not missing:
        return []
    kinds = {}
    for cell in missing:
        kinds.setdefault(cell.get("status"), []).append(cell["name"])
    words = [f"{len(names)} {status}" for status, names in kinds.items()]
    return [f"Of {plural(len(found.cells), 'run')}, {listed(words)}: listed below."]
