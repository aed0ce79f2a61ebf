"""Files of unknown origin: none of them runs anything, each ends in one line."""

import importlib.util
import time
from pathlib import Path

from lmzoo.selftest import bad_checkpoints, bad_exports, bad_folders
from lmzoo.selftest.commands import GIGABYTE, Commands
from lmzoo.selftest.lab import Case, Lab
from lmzoo.selftest.outcome import Effort, Outcome

CLAIM = "malicious and malformed files run nothing, take no memory, and end in one line"
CASES = [*bad_checkpoints.CASES, *bad_folders.CASES, *bad_exports.CASES]
MEMORY = GIGABYTE  # beyond what an import takes
CONTROL = """
import sys, torch
try:
    torch.load(sys.argv[1], weights_only=False)
except Exception:
    pass
"""


def check(folder: Path, effort: Effort, cases: list[Case] | None = None) -> Outcome:
    """Have commands read every file; see ``Outcome``.

    Args:
        folder: for what is made.
        effort: all are tried, however small it is.
        cases: other ones than ``CASES``.
    """
    del effort
    began = time.monotonic()
    chosen = [case for case in cases or CASES if _possible(case)]
    with Commands(folder) as commands:
        lab = Lab(folder / "lab", commands)
        found = [tried(case, lab, commands) for case in chosen]
        executed = control(lab, commands)
    details = [line for line in found if line]
    return Outcome(
        name="untrusted",
        claim=CLAIM,
        tried=len(chosen),
        held=len(chosen) - len(details),
        control="torch.load(weights_only=False) of a file that was refused runs it",
        control_failed=executed,
        details=details,
        seconds=time.monotonic() - began,
    )


def tried(case: Case, lab: Lab, commands: Commands) -> str:
    """What was wrong when a command read the file; "" if all was as it must be."""
    line = case.make(lab)
    lab.was_executed()  # a trap may have been sprung while it was laid
    result = commands.lmzoo(line, lab.folder, case.environment)
    why = result.wrong_success() if case.works else result.wrong_refusal()
    if lab.was_executed():
        why = "EXECUTED"
    if not why and result.memory > MEMORY:
        why = f"took {result.memory >> 20:,} MB"
    return f"{case.name}: {why} ({line})" if why else ""


def control(lab: Lab, commands: Commands) -> bool:
    """Whether the first case's kind of file runs code where it is read without care."""
    script = lab.place() / "control.py"
    script.write_text(CONTROL, encoding="utf-8")
    path = bad_checkpoints.CODE[0].make(lab).split()[1]
    lab.was_executed()
    commands.run([str(script), path], lab.folder)
    return lab.was_executed()


def _possible(case: Case) -> bool:
    return not case.needs or importlib.util.find_spec(case.needs) is not None
