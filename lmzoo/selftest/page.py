"""What the checks found, as a page and as a table."""

import os
from collections.abc import Sequence
from pathlib import Path

from lmzoo import files
from lmzoo.errors import UsageError
from lmzoo.report.page import Section, html, markdown
from lmzoo.report.table import Table
from lmzoo.report.words import plural
from lmzoo.selftest.outcome import Outcome
from lmzoo.training.checkpoints import versions

TITLE = "Can it be trusted?"
HEADS = [
    "check",
    "held",
    "what is promised",
    "stock Lightning",
    "the control, which must fail",
    "seconds",
]


def verdict(outcome: Outcome) -> str:
    """``12 of 12``; or that it was skipped, broke off, or shows nothing."""
    if outcome.skipped:
        return "skipped"
    if outcome.broke:
        return "broke off"
    counted = f"{max(0, outcome.held):,} of {outcome.tried:,}"
    return counted if outcome.control_failed else f"{counted}, but the control passes"


def control(outcome: Outcome) -> str:
    """Whether the control fails, as it must, and what was done."""
    if outcome.broke:
        return outcome.control
    return f"{'fails' if outcome.control_failed else 'PASSES'}: {outcome.control}"


def took(outcomes: Sequence[Outcome]) -> str:
    """``78 seconds``, of all the checks."""
    return plural(round(sum(outcome.seconds for outcome in outcomes)), "second")


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each check."""
    rows = [
        [
            outcome.name,
            verdict(outcome),
            outcome.claim,
            outcome.stock or "not asked",
            outcome.skipped or control(outcome),
            f"{outcome.seconds:.1f}",
        ]
        for outcome in outcomes
    ]
    return Table(HEADS, rows, words=(0, 1, 2, 3, 4))


def sections(outcomes: Sequence[Outcome]) -> list[Section]:
    """The figures, then what failed."""
    done = [outcome for outcome in outcomes if not outcome.skipped]
    kept = sum(outcome.holds for outcome in done)
    lead = (
        f"{kept} of {plural(len(done), 'promise')} held in every case: "
        f"{sum(max(0, o.held) for o in done):,} of {sum(o.tried for o in done):,} "
        f"cases. Each check was also made on something that must not pass it, stock "
        f"Lightning or a part broken on purpose: a check that passes everything shows "
        f"nothing. All of it took {took(outcomes)}."
    )
    notes = [
        f"Stock Lightning is version {versions()['lightning']} as it comes, asked for "
        f"the same in the same run wherever that takes seconds."
    ]
    found = [Section("", text=[lead], tables=[table(outcomes)], notes=notes)]
    for outcome in done:
        if not outcome.holds:
            failed = [f"- {line}" for line in outcome.details]
            if not outcome.control_failed and not outcome.broke:
                failed.append(f"- the control {control(outcome)}")
            found.append(
                Section(
                    f"What failed: {outcome.name}", samples=[("", "\n".join(failed))]
                )
            )
    return found


def surroundings(command: str) -> str:
    """Versions, cores and the command."""
    known = versions()
    return (
        f"lmzoo {known['lmzoo']}, torch {known['torch']}, lightning "
        f"{known['lightning']}, Python {known['python']}, {known['platform']}, "
        f"{plural(os.cpu_count() or 1, 'core')}, one thread to a process; {command}"
    )


def write(file: Path, outcomes: Sequence[Outcome], command: str) -> None:
    """One self-contained page, HTML or Markdown by the name's ending.

    Raises:
        UsageError: it cannot be written.
    """
    under, parts = surroundings(command), sections(outcomes)
    if file.suffix == ".md":
        text = markdown(TITLE, under, parts, file.name)
    else:
        text = html(TITLE, under, parts)
    try:
        files.write_atomically(file, text.encode())
    except UsageError as error:
        raise UsageError(f"--report: {error}") from error
