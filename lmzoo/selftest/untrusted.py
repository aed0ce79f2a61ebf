"""Files of unknown origin: none of them runs anything, each ends in one line."""

import importlib.util
import time
from pathlib import Path

from lmzoo.selftest import bad_checkpoints, bad_exports, bad_folders
from lmzoo.selftest.commands import GIGABYTE, Commands
from lmzoo.selftest.lab import Case, Lab
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.stories import AT_ONCE, shared, spread

CLAIM = "malicious and malformed files run nothing, take no memory, and end in one line"
KINDS = (
    *(bad_checkpoints.CODE, bad_checkpoints.SIZES, bad_checkpoints.LIES),
    *(bad_folders.RUNS, bad_folders.TOKENIZERS, bad_folders.CACHES, bad_folders.REST),
    *(bad_exports.EXPORTS, bad_exports.GGUFS),
)
CASES = [case for kind in KINDS for case in kind]
MEMORY = GIGABYTE  # beyond what an import takes
CONTROL = """
import sys, torch
try:
    torch.load(sys.argv[1], weights_only=False)
except Exception:
    pass
"""


def check(folder: Path, effort: Effort, cases: list[Case] | None = None) -> Outcome:
    """Have commands read the files; see ``Outcome``.

    Args:
        folder: for what is made.
        effort: a sample of each kind, or all.
        cases: other ones than ``CASES``.
    """
    began = time.monotonic()
    chosen = [case for case in cases or effort.of(KINDS) if _possible(case)]
    rooms = [folder / f"room-{number}" for number in range(AT_ONCE)]
    labs = spread(lambda room: Lab(room / "lab", Commands(room)), rooms)
    details = [line for line in shared(tried, chosen, labs) if line]
    executed = control(labs[0])
    return Outcome(
        name="untrusted",
        claim=CLAIM,
        tried=len(chosen),
        held=len(chosen) - len(details),
        control="a file that was refused, read by torch.load(weights_only=False): "
        + ("its code ran" if executed else "its code did NOT run"),
        control_failed=executed,
        details=details,
        seconds=time.monotonic() - began,
    )


def tried(lab: Lab, case: Case) -> str:
    """What was wrong when a command read the file; "" if all was as it must be."""
    line = case.make(lab)
    lab.was_executed()  # a trap may have been sprung while it was laid
    result = lab.commands.lmzoo(line, lab.folder, case.environment)
    why = result.wrong_success() if case.works else result.wrong_refusal()
    if lab.was_executed():
        why = "EXECUTED"
    if not why and result.memory > MEMORY:
        why = f"took {result.memory >> 20:,} MB"
    return f"{case.name}: {why} ({line})" if why else ""


def control(lab: Lab) -> bool:
    """Whether the first case's kind of file runs code where it is read without care."""
    script = lab.place() / "control.py"
    script.write_text(CONTROL, encoding="utf-8")
    path = bad_checkpoints.CODE[0].make(lab).split()[1]
    lab.was_executed()
    lab.commands.run([str(script), path], lab.folder)
    return lab.was_executed()


def _possible(case: Case) -> bool:
    return not case.needs or importlib.util.find_spec(case.needs) is not None
