"""Few-shot trainings in rows: verdicts, forgetting, the whole course."""

from collections.abc import Sequence
from typing import Any

from lmzoo.analysis.transfer.cells import Plan, measured
from lmzoo.analysis.transfer.verdicts import Verdict
from lmzoo.report.spread import spread
from lmzoo.report.table import Table
from lmzoo.report.words import decimals

Result = dict[str, Any]
Pair = tuple[str, str]
VALUES = ("unadapted", "step_0", "after", "control")


def mean(results: Sequence[Result], step: int | None, text: str) -> float:
    """Nats per token, seeds averaged."""
    return spread([measured(one, step, text)["nats_per_token"] for one in results]).mean


def verdicts(rows: Sequence[dict[str, Any]], end: int) -> Table:
    """What came of the target text, and how it compares."""
    heads = ["pair", "from", "zero-shot", "step 0", f"after {end}",
             f"new, after {end}", "against zero-shot",
             "against new weights"]  # fmt: skip
    several = any(row["against_latest"] for row in rows)
    body = []
    for row in rows:
        cells = [
            " → ".join(row["pair"]),
            f"{row['start']:,}",
            *(decimals(row[key]) for key in VALUES),
            row["against_unadapted"].shown(),
            row["against_new"].shown(),
        ]
        if several:
            latest: Verdict | None = row["against_latest"]
            cells.append(latest.shown() if latest else "(the latest)")
        body.append(cells)
    heads += ["against the latest start"] if several else []
    words = tuple(i for i in range(len(heads)) if not 1 <= i <= 1 + len(VALUES))
    caption = "Target text, held out: nats per token; differences in nats per character"
    return Table(heads, body, caption, words)


def forgetting(rows: Sequence[dict[str, Any]], end: int) -> Table:
    """What came of the source text."""
    heads = ["pair", "from step", "before", "step 0", f"after {end}",
             "against before", "against step 0"]  # fmt: skip
    body = [
        [
            " → ".join(row["pair"]),
            f"{row['start']:,}",
            decimals(row["source_before"]),
            decimals(row["source_step_0"]),
            decimals(row["source_after"]),
            row["source_against_before"].shown(),
            row["source_against_step_0"].shown(),
        ]
        for row in rows
    ]
    caption = (
        "Source text, held out (forgetting): nats per token; before: the run as it was"
    )
    return Table(heads, body, caption, (0, 5, 6))


def course(groups: dict[tuple[Pair, int | None], list[Result]], plan: Plan) -> Table:
    """Every measurement, seeds averaged: target / source."""
    heads = ["pair", "from step", *(f"step {step}" for step in plan.at)]
    body = []
    for (pair, start), results in groups.items():
        cells = [
            f"{mean(results, step, 'target'):.3f} / {mean(results, step, 'source'):.3f}"
            for step in plan.at
        ]
        begun = "new" if start is None else f"{start:,}"
        body.append([" → ".join(pair), begun, *cells])
    return Table(heads, body, "Held-out nats per token: target / source")
