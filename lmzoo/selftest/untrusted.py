"""Files of unknown origin: none of them runs anything, each ends in one line."""

import importlib.util
import time
from pathlib import Path

from lmzoo.selftest import (
    bad_checkpoints,
    bad_contents,
    bad_exports,
    bad_folders,
    bad_sources,
)
from lmzoo.selftest.commands import GIGABYTE, Commands, Job
from lmzoo.selftest.lab import Case, Lab
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.stories import AT_ONCE, shared, spread

CLAIM = (
    "malicious and malformed files run nothing, fetch nothing, take no memory, and end "
    "in one line that says why"
)
KINDS = (
    *(bad_checkpoints.CODE, bad_checkpoints.SIZES, bad_contents.LIES),
    *(bad_folders.SOUND, bad_folders.RUNS),
    *(bad_sources.TOKENIZERS, bad_sources.CACHES, bad_sources.REST),
    *(bad_exports.EXPORTS, bad_exports.FOREIGN, bad_exports.GGUFS),
)
CASES = [case for kind in KINDS for case in kind]
MEMORY = GIGABYTE  # beyond what an import takes
CONTROL = """
import io, sys, torch, urllib.request
source = sys.argv[1]
try:
    if "://" in source:
        source = io.BytesIO(urllib.request.urlopen(source).read())
    torch.load(source, weights_only=False)
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
    try:
        details = [line for line in shared(tried, chosen, labs) if line]
        passed = control(labs[0])
    finally:
        for lab in labs:
            lab.listener.server_close()
    return Outcome(
        name="untrusted",
        claim=CLAIM,
        tried=len(chosen),
        held=len(chosen) - len(details),
        control="a file that was refused, and a URL, read by "
        "torch.load(weights_only=False): " + (passed or "their code ran"),
        control_failed=not passed,
        details=details,
        seconds=time.monotonic() - began,
    )


def tried(lab: Lab, case: Case) -> str:
    """What was wrong when a command read the file; "" if all was as it must be."""
    line, result = lab.run_case(case)
    refused = result.wrong_refusal(case.said)
    why = refused if case.said else result.wrong_success()
    if lab.was_asked():
        why = "ASKED a server"
    if lab.was_executed():
        why = "EXECUTED"
    if not why and result.memory > MEMORY:
        why = f"took {result.memory >> 20:,} MB"
    return f"{case.name}: {why} ({line})" if why else ""


def control(lab: Lab) -> str:
    """What careless reading of a file and of a URL did not do; "" if both ran code."""
    script = lab.place() / "control.py"
    script.write_text(CONTROL, encoding="utf-8")
    file = bad_checkpoints.CODE[0].make(lab).split()[1]
    lab.was_executed()
    for source, asks in ((file, False), (lab.url("x.ckpt"), True)):
        job = Job([str(script), source], lab.folder, lab.environment)
        lab.commands.together([job])
        if not lab.was_executed():
            return f"no code ran from {source}"
        if lab.was_asked() != asks:
            return f"the server counted wrong at {source}"
    return ""


def _possible(case: Case) -> bool:
    return not case.needs or importlib.util.find_spec(case.needs) is not None
