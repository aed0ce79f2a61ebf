"""The findings in sentences, made from the same rows as the tables.

Every number in them is one of a table's, or the difference or ratio of two.
"""

from collections.abc import Sequence

from lmzoo.compare import earlier
from lmzoo.compare.caveats import caveats, sizes
from lmzoo.compare.reading import Comparison, Row
from lmzoo.compare.tables import unknown
from lmzoo.report.words import (
    between,
    count,
    decimals,
    listed,
    p_value,
    percent,
    plural,
    seconds,
    size,
    some,
    with_interval,
)

MOST = 5  # other models that times are told for; the table has all
BELOW, ABOVE, NEITHER = "better than it", "worse than it", "not told apart from it"


def paragraph(found: Comparison) -> list[str]:
    """Who wins, against which floors, at what cost, and what is not shown."""
    if found.best is None:
        return ["No run has finished, so there is nothing to compare yet."]
    parts = [_winners(found), _floors(found), _cost(found), caveats(found)]
    return [" ".join(part) for part in parts if part]


# ---- who -----------------------------------------------------------------------------


def _winners(found: Comparison) -> list[str]:
    said = []
    for rows in found.groups():
        (corpus, cut), where = rows[0].coded, ""
        if rows[0] in found.lossy:
            continue
        where += f" on {corpus}" if len(found.corpora) > 1 else ""
        where += f" in {cut} tokens" if cut and len(found.tokenizers) > 1 else ""
        said += _first_place(found, rows, where)
        said += earlier.sentences(found, rows, where)
    if len(found.tokenizers) > 1:
        said.append(
            f"The tokenizers differ ({listed(found.tokenizers)}), so nats per token "
            "and perplexity do not compare and the ranking is in bits per byte."
        )
        said += _lossy(found)
    elif len(found.corpora) > 1:
        said.append(
            "The texts differ, so models are ranked within a text only, in bits per "
            "byte."
        )
    return said


def _lossy(found: Comparison) -> list[str]:
    if not found.lossy:
        return []
    words = [f"{row.label} ({unknown(row.unknown)})" for row in found.lossy]
    return [
        f"Not ranked {'is' if len(words) == 1 else 'are'} {some(words)}: of so many of "
        "the validation tokens only that they are unknown is predicted, not how they "
        "are spelled, so these figures flatter."
    ]


def _first_place(found: Comparison, rows: list[Row], where: str) -> list[str]:
    best = rows[0]
    value = f"{with_interval(best.figure)} {found.unit_words}"
    if len(rows) == 1:
        return [f"{_after(found)} {best.label} reached {value}{where}."]
    if not best.rank:
        return _one_seed(found, rows, where)
    group = [row for row in rows if row.place and row.place[0] == 1]
    rest = [row for row in rows if row not in group]
    over = f"mean of {plural(len(best.cells), 'seed')} and its 95 % interval"
    if not best.figure.half:
        over = "the same for every seed"
    if len(group) == 1:
        said = [
            f"{_after(found)} {_named(best)} is best{where}{_among(rows)}: {value} on "
            f"the validation part ({over})."
        ]
        return said + _lead(found, best, rows[1])
    near = [row.label for row in group if row is not best]
    lowest = (
        f"{_after(found)} {best.label} has the lowest mean{where}, {value} ({over}), "
        f"but no single model is shown to be best: {some(near)} "
        f"{'is' if len(near) == 1 else 'are'} not told apart from it."
    )
    return [lowest, *(_lead(found, best, rest[0]) if rest else [])]


def _among(rows: list[Row]) -> str:
    """A qualification where some models cannot be ranked."""
    unranked = any(not row.rank for row in rows)
    return " of the models with more than one finished seed" if unranked else ""


def _named(row: Row) -> str:
    return (
        f"{row.label} (counted, not trained)" if row.mark == "counting" else row.label
    )


def _one_seed(found: Comparison, rows: list[Row], where: str) -> list[str]:
    best, second = rows[:2]
    said = [
        f"{_after(found)} {best.label} has the lowest figure{where}, "
        f"{decimals(best.figure.mean)} {found.unit_words}, and {second.label} the "
        f"next, {decimals(second.figure.mean)}."
    ]
    return [*said, _unranked(best)]


def _unranked(best: Row) -> str:
    return (
        f"There is one seed of {best.label} only, which says nothing about training "
        "noise: no model is ranked, and what the pairwise table calls better or worse "
        "is about the text alone."
    )


def _lead(found: Comparison, best: Row, other: Row) -> list[str]:
    pair = found.pair(best.label, other.label)
    if pair is None:
        return []
    gap = abs(pair.difference)
    share = percent(gap / other.figure.mean)
    ends = sorted(abs(end) for end in pair.interval) if pair.interval else None
    same_sign = pair.interval and pair.interval[0] * pair.interval[1] > 0
    interval = f", 95 % interval {between((ends[0], ends[1]))}" if ends else ""
    shared = " on the one seed that both have" if pair.seeds == 1 else ""
    if not same_sign or not pair.shown:
        return [
            f"{other.label} follows with {with_interval(other.figure)}, a difference "
            f"of {decimals(gap)} bits ({share}){shared}."
        ]
    return [
        f"{other.label} follows with {with_interval(other.figure)}: the lead is "
        f"{decimals(gap)} bits ({share}{interval}; p {p_value(pair.adjusted)} after "
        f"Holm's correction over {plural(len(found.pairs), 'pair')})."
    ]


def _after(found: Comparison) -> str:
    budget = found.results.get("budget") or {}
    ending = "" if budget.get("kind") == "flops" else " of training"
    return f"After {found.budget()}{ending},"


# ---- against what --------------------------------------------------------------------


def _floors(found: Comparison) -> list[str]:
    floors, counted = found.floors(), found.counted_floor()
    if counted is None or len(found.corpora) > 1:
        return []
    packed = {k: v for k, v in floors.items() if k in ("bz2", "xz")}
    name, value = counted
    said = f"On the same text a counted {name} model reaches {decimals(value)}"
    if packed:
        best = min(packed, key=lambda k: packed[k])
        said += f" and the compressor {best} {decimals(packed[best])}"
    sides = {BELOW: [], ABOVE: [], NEITHER: []}
    for row in found.rows:
        if row.mark != "counting" and row not in found.lossy:
            sides[_side(row, value)].append(row.label)
    words = [
        f"{side if i else side.replace('it', f'the {name} floor')} "
        f"{'is' if len(labels) == 1 else 'are'} {some(labels)}"
        for i, (side, labels) in enumerate((s, ls) for s, ls in sides.items() if ls)
    ]
    return [f"{said}.", f"{_capital('; '.join(words))}."] if words else [f"{said}."]


def _side(row: Row, floor: float) -> str:
    low, high = row.figure.interval or (row.figure.mean, row.figure.mean)
    if high < floor:
        return BELOW
    return ABOVE if low > floor else NEITHER


# ---- at what cost --------------------------------------------------------------------


def _cost(found: Comparison) -> list[str]:
    trained = [row for row in found.rows if row.mark != "counting"]
    if not trained or len(found.corpora) > 1:
        return []
    best = trained[0]
    others = [row for row in trained[1:] if row.coded == best.coded]
    facts = [f"{count(best.mean('parameters'))} parameters"]
    if best.mean("tokens_per_second"):
        facts.append(f"{count(best.mean('tokens_per_second'))} tokens a second")
    if best.mean("peak_memory"):
        facts.append(f"{size(best.mean('peak_memory'))} of memory at its peak")
    said = [f"The cost of {best.label}: {listed(facts)}{_beside(best, others)}."]
    return said + _times(found, best, others) + _recipe(found)


def _beside(best: Row, others: Sequence[Row]) -> str:
    if not others:
        return ""
    other = others[0]
    facts = []
    for key, word in (
        ("parameters", "the parameters"),
        ("tokens_per_second", "the speed"),
    ):
        mine, its = best.mean(key), other.mean(key)
        if mine and its:
            facts.append(f"{mine / its:.2f} times {word}")
    return f" ({listed(facts)} of {other.label})" if facts else ""


def _times(found: Comparison, best: Row, others: Sequence[Row]) -> list[str]:
    counted, facts = found.counted_floor(), []
    if counted:
        facts.append(_reach(best, counted[1], f"the {counted[0]} floor"))
    facts += [
        _reach(best, row.figure.mean, f"the best of {row.label}")
        for row in others[:MOST]
    ]
    met = [fact for fact in facts if fact]
    return [f"It reached {listed(met)}."] if met else []


def _reach(row: Row, target: float, name: str) -> str:
    times = row.seconds_to(target)
    if not times:
        return ""
    seeds = "" if len(times) == len(row.cells) else f" in {len(times)} of its seeds"
    return f"{name} after {seconds(sum(times) / len(times))} s{seeds}"


def _recipe(found: Comparison) -> list[str]:
    """What was made equal."""
    said, match, tuned = [], found.results.get("match"), found.results.get("tuned")
    if match and (ends := sizes(found)):
        spans = f"{count(ends[0])} to {count(ends[1])}"
        said.append(f"Sizes were matched to {count(match.get('params'))} ({spans}).")
    if tuned:
        trials = plural(int(tuned.get("trials") or 0), "trial")
        said.append(f"Learning rates were searched for each model, {trials} each.")
    return said


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
