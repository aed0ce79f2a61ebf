"""Few-shot trainings as tables, curves and sentences."""

from collections.abc import Sequence
from typing import Any

from lmzoo.analysis.transfer.cells import Plan, block_rates, file_name
from lmzoo.analysis.transfer.curves import curves
from lmzoo.analysis.transfer.story_tables import (
    course,
    forgetting,
    mean,
    verdicts,
)
from lmzoo.analysis.transfer.verdicts import Verdict, verdict
from lmzoo.report.finding import Finding
from lmzoo.report.words import listed, plural, seconds

Result = dict[str, Any]
Pair = tuple[str, str]


def finding(
    results: Sequence[Result], plan: Plan, runs: dict[str, Any], save: str
) -> Finding:
    """All that a call of ``fewshot`` shows."""
    end = max(plan.at)
    groups = grouped(results)
    rows = [
        _judged(pair, start, groups, end) for pair, start in groups if start is not None
    ]
    found = Finding("fewshot", f"{end} steps on another corpus")
    found.text = _sentences(rows, end)
    found.tables = [verdicts(rows, end), forgetting(rows, end), course(groups, plan)]
    found.figures = {
        file_name(f"{source}-to-{target}"): curves((source, target), groups, plan.at)
        for source, target in dict.fromkeys(pair for pair, _ in groups)
    }
    found.samples = _samples(groups, plan)
    found.notes = _notes(results, plan, runs, save)
    found.rows = [line for result in results for line in _lines(result)]
    found.data = {
        "runs": runs,
        "plan": vars(plan),
        "verdicts": [_plain(row) for row in rows],
        "trainings": list(results),
    }
    return found


def grouped(results: Sequence[Result]) -> dict[tuple[Pair, int | None], list[Result]]:
    """The seeds of each pair and start; start None is the control."""
    found: dict[tuple[Pair, int | None], list[Result]] = {}
    for one in results:
        pair = (one["source"], one["target"])
        found.setdefault((pair, one["start"]), []).append(one)
    return found


def _judged(
    pair: Pair,
    start: int,
    groups: dict[tuple[Pair, int | None], list[Result]],
    end: int,
) -> dict[str, Any]:
    """One pair and start: its figures, and the verdicts on it."""
    own, control = groups[pair, start], groups[pair, None]
    after, left = (block_rates(own, end, text) for text in ("target", "source"))
    latest = max(s for p, s in groups if p == pair and s is not None)
    row = {
        "pair": pair,
        "start": start,
        "unadapted": mean(own, None, "target"),
        "step_0": mean(own, 0, "target"),
        "after": mean(own, end, "target"),
        "control": mean(control, end, "target"),
        "source_before": mean(own, None, "source"),
        "source_step_0": mean(own, 0, "source"),
        "source_after": mean(own, end, "source"),
        "against_unadapted": verdict(after, block_rates(own, None, "target")),
        "against_new": verdict(after, block_rates(control, end, "target")),
        "source_against_before": verdict(left, block_rates(own, None, "source")),
        "source_against_step_0": verdict(left, block_rates(own, 0, "source")),
        "against_latest": None,
        "latest": latest,
    }
    if start != latest:
        last = block_rates(groups[pair, latest], end, "target")
        row["against_latest"] = verdict(after, last)
    return row


# ---- words ---------------------------------------------------------------------------


def _sentences(rows: Sequence[dict[str, Any]], end: int) -> list[str]:
    lines = [
        f"After {plural(end, 'step')} on the target the adapted model is "
        + _tally(rows, "against_unadapted", "than zero-shot"),
        "Against a model of the same architecture with new weights and the same "
        + f"{plural(end, 'step')} it is {_tally(rows, 'against_new', 'than it')}",
    ]
    lines += _forgotten(rows)
    early = [row for row in rows if row["against_latest"] is not None]
    if early:
        lines.append(
            "Starting from an earlier checkpoint is, at the end, "
            + _tally(early, "against_latest", "than from the latest one")
        )
    return lines


def _forgotten(rows: Sequence[dict[str, Any]]) -> list[str]:
    """In how many cases the source is worse than before and than at step 0."""
    worse = [
        [row[key].word for key in ("source_against_before", "source_against_step_0")]
        .count("worse") for row in rows
    ]  # fmt: skip
    moved = [row for row, times in zip(rows, worse, strict=True) if times == 2]
    if not moved:
        lines = ["No forgetting is shown: the source text got worse in no case."]
    else:
        worst = max(moved, key=lambda row: row["source_after"] - row["source_before"])
        loss = worst["source_after"] - worst["source_before"]
        lines = [
            f"The source text got worse in {len(moved)} of {plural(len(rows), 'case')}"
            f"; most in {_named(worst)}, by {loss:.3f} nats per token."
        ]
    half = [row for row, times in zip(rows, worse, strict=True) if times == 1]
    if half:
        lines[-1] = (
            f"{lines[-1][:-1]}, if worse is to mean worse than the run as it was and "
            f"than step 0; it is worse than one of the two only in {len(half)} "
            f"({listed([_named(row) for row in half])})."
        )
    return lines


def _tally(rows: Sequence[dict[str, Any]], key: str, than: str) -> str:
    """``better than zero-shot in 6 of 6 cases.``."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault(row[key].word, []).append(row)
    parts = []
    for word in ("better", "worse", "no difference shown"):
        if word not in cases:
            continue
        some = cases[word]
        named = f" ({listed([_named(row) for row in some])})"
        named = named if len(cases) > 1 and len(some) < len(rows) else ""
        what = f"{word} {than}" if word != "no difference shown" else "not told apart"
        parts.append(f"{what} in {len(some)} of {plural(len(rows), 'case')}{named}")
    return "; ".join(parts) + "."


def _named(row: dict[str, Any]) -> str:
    source, target = row["pair"]
    return f"{source} → {target} from {row['start']:,}"


def _samples(
    groups: dict[tuple[Pair, int | None], list[Result]], plan: Plan
) -> list[tuple[str, str]]:
    """Of the first seed of every pair and start."""
    shown = []
    for (pair, start), results in groups.items():
        first = results[0]
        for step, text in first["samples"].items():
            title = (
                f"{' → '.join(pair)} from {start:,}, step {step}, seed {first['seed']}"
            )
            shown.append((title, plan.prompt + text))
    return shown


def _notes(
    results: Sequence[Result], plan: Plan, runs: dict[str, Any], save: str
) -> list[str]:
    seeds = sorted({one["seed"] for one in results})
    rates = sorted({one["lr"] for one in results})
    shared = "" if plan.lr is not None else (
        f", {plan.share:g} of the run's own peak rate; the model with new weights "
        f"takes the same"
    )  # fmt: skip
    whole, drawing, measuring = (
        seconds(sum(one["seconds"][key] for one in results))
        for key in ("all", "sampling", "evaluation")
    )
    notes = [
        f"Constant learning rate {listed([f'{rate:g}' for rate in rates])}{shared}.",
        f"Measured on {_measured_part(results, plan)}the validation part of each text "
        f"by the run's own protocol, source and target under the same vocabulary.",
        _vocabulary_note(results),
        "Zero-shot and before are the run as it was, under its own vocabulary; what it "
        "does not know is charged as <unk>, which does not say which symbol it was.",
        f"Seeds {', '.join(map(str, seeds))}. A verdict stands on two 95 % "
        f"intervals, added in quadrature: over blocks of text (seeds averaged) and "
        f"over seeds (blocks averaged)"
        + (
            "." if len(seeds) > 1 else "; one seed says nothing about another training."
        ),
        f"{plural(len(results), 'training')}: {whole} s, of which {drawing} s sampling "
        f"and {measuring} s evaluation.",
    ]
    notes += _special_notes(results)
    if len({run["tokenizer"] for run in runs.values()}) > 1:
        notes.append(
            "The tokenizers differ: compare within a pair only, or by bits per "
            "character in the files."
        )
    if save:
        notes.append(f"The adapted models are runs in {save}.")
    return notes


def _measured_part(results: Sequence[Result], plan: Plan) -> str:
    """How much of each text was measured, if not all."""
    texts = [text for one in results for text in one["steps"]["0"].values()]
    if all(text["whole"] for text in texts):
        return ""
    most = f"{plan.max_tokens:,} tokens, evenly spread"
    return f"about {most} (all where there are fewer), of "


def _special_notes(results: Sequence[Result]) -> list[str]:
    """On rows of new symbols, and on what of the prompt is unknown."""
    notes = []
    if any(one["vocabulary"]["new"] for one in results):
        notes.append(
            "Step 0 is the run with rows for new symbols, copies of the row of the "
            "rarest symbol of its own text, <unk> as a rule: what they cost on the "
            "source is step 0 less before."
        )
    notes += dict.fromkeys(
        f"{one['source']} → {one['target']}: {note}"
        for one in results for note in one["notes"] if one["samples"]
    )  # fmt: skip
    return notes


def _vocabulary_note(results: Sequence[Result]) -> str:
    """What was shared and what was new, for each pair."""
    rule = results[0]["vocabulary"]["rule"]
    parts = {}
    for one in results:
        told = one["vocabulary"]
        some = f"{told['shared']} symbols shared, {told['new']} new"
        if told["unknown"]:
            some += f", {100 * told['unknown']:.2g} % read as unknown"
        parts[f"{one['source']} → {one['target']}"] = some
    return f"Vocabulary ({rule}): " + "; ".join(f"{k}: {v}" for k, v in parts.items())


# ---- numbers -------------------------------------------------------------------------


def _lines(result: Result) -> list[dict[str, Any]]:
    """One line for each step and text: the CSV."""
    same = {key: result[key] for key in ("source", "target", "start", "seed", "lr")}
    told = result["vocabulary"]
    return [
        {
            **same,
            "step": int(step),
            "text": text,
            **{key: value for key, value in measured.items() if "block" not in key},
            "vocabulary": told["rule"],
            "shared_symbols": told["shared"],
            "new_symbols": told["new"],
        }
        for step, texts in result["steps"].items()
        for text, measured in texts.items()
    ]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.plain() if isinstance(value, Verdict) else value
        for key, value in row.items()
    }
