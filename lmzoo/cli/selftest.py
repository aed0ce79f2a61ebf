"""``lmzoo selftest``: try here what lmzoo promises, each promise with its control."""

import contextlib
import importlib
import shlex
import shutil
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lmzoo.cli.options import Options
from lmzoo.errors import UsageError
from lmzoo.selftest.outcome import EFFORTS, Effort, Outcome

WIDTH = 79  # columns of what is said as a check ends
PLATFORM = sys.platform
CHECKS = {
    "kills": "a killed run ends as one that was not",
    "saves": "no save leaves a torn file; full disks and read-only folders",
    "damage": "flipped bits and truncations are found before use",
    "signals": "a signal finishes the step, saves and resumes exactly",
    "divergence": "what is not finite stops a run before it does harm",
    "untrusted": "malicious and malformed files run nothing and end in one line",
    "bad_input": "mistakes end in one line and leave nothing behind",
    "parallel": "two processes equal one, and resume what one began",
    "concurrency": "two commands at one time do each other no harm",
}


def run(argv: list[str]) -> int:
    """Run the checks; 1 if a promise is broken or a control passes."""
    options = _parser().read(argv)
    if options is None:
        return 0
    names = _names(options.only)
    report = _file(options.report)
    if PLATFORM != "linux":
        raise UsageError(
            f"selftest: needs Linux, for its memory limits, and this is {PLATFORM}"
        )
    # torch: after a typing error had its answer
    from lmzoo.selftest import page

    effort = "quick" if options.quick else "long" if options.long else "normal"
    folder, outcomes = Path(tempfile.mkdtemp(prefix="lmzoo-selftest-")), []
    for name in names:
        outcome = _tried(name, folder, EFFORTS[effort])
        outcomes.append(outcome)
        _say(outcome, page.verdict(outcome), page.control(outcome))
    _show(page.table(outcomes))
    print(f"\nall of it took {page.took(outcomes)}")
    if report is not None:
        page.write(report, outcomes, shlex.join(["lmzoo", "selftest", *argv]))
        print(f"report: {report}")
    if all(outcome.skipped or outcome.holds for outcome in outcomes):
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    print(f"kept, to look at: {folder}")
    return 1


def _parser() -> Options:
    parser = Options(
        "selftest",
        "Kill runs, damage checkpoints, send signals and let losses explode, on this "
        "machine, and see what lmzoo promises held. Each check is also made on "
        "something that must fail it: stock Lightning, or a part broken on purpose.",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--quick", action="store_true", help="fewer cases: a minute, on two quiet cores"
    )
    length.add_argument(
        "--long", action="store_true", help="many more cases: half an hour or so"
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help="some of the checks, with commas between: "
        + "; ".join(f"{name}: {summary}" for name, summary in CHECKS.items()),
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write the figures as a page: .html or .md"
    )
    return parser


def _check(name: str) -> Callable[[Path, Effort], Outcome]:
    return importlib.import_module(f"lmzoo.selftest.{name}").check


def _tried(name: str, folder: Path, effort: Effort) -> Outcome:
    """What a check found; one that ends with an error leaves the others their say."""
    began = time.perf_counter()
    try:
        return _check(name)(folder / name, effort)
    except Exception as error:
        with contextlib.suppress(OSError):
            (folder / f"{name}.log").write_text(traceback.format_exc(), "utf-8")
        seconds = time.perf_counter() - began
        return Outcome.broken_off(name, CHECKS[name], error, seconds)


def _names(only: str | None) -> list[str]:
    if only is None:
        return list(CHECKS)
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in CHECKS:
            raise UsageError(
                f"--only {only!r}: there is no check {name!r}; give some of "
                + ",".join(CHECKS)
            )
    return names


def _file(report: str | None) -> Path | None:
    """Where the page goes: what cannot be written is told before minutes of trials."""
    if report is None:
        return None
    file = Path(report)
    if file.suffix not in (".html", ".md") or file.is_dir():
        raise UsageError(f"--report {report}: name a file that ends in .html or .md")
    folder = next(place for place in file.absolute().parents if place.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"--report {report}: {error.strerror or error}; choose another folder"
        ) from error
    return file


def _say(outcome: Outcome, verdict: str, control: str) -> None:
    """A line as a check ends; what it stands beside; a line for each failure."""
    state = "skipped" if outcome.skipped else "holds" if outcome.holds else "BROKEN"
    why = outcome.skipped or verdict
    print(f"{state:<7} {outcome.name}: {why} ({outcome.seconds:.1f} s)")
    if not outcome.skipped:
        beside = f"stock Lightning: {outcome.stock}" if outcome.stock else ""
        for line in filter(None, (beside, f"control {control}")):
            print(
                textwrap.fill(
                    line, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 10
                )
            )
    for line in outcome.details:
        print(f"        {line}")
    sys.stdout.flush()


def _show(rows: Any) -> None:
    made = Table(box=None, pad_edge=False, header_style="bold")
    shown = (0, 1, 2, len(rows.heads) - 1)
    for number in shown:
        made.add_column(rows.heads[number], overflow="fold")
    for row in rows.rows:
        made.add_row(*(row[number] for number in shown))
    print()
    Console(highlight=False).print(made)
