"""Two commands at one time on one corpus, one run folder, one target."""

import time
from pathlib import Path

import filelock
import torch

from lmzoo import runs
from lmzoo.errors import UsageError
from lmzoo.selftest.commands import Commands, Job
from lmzoo.selftest.lab import SMALL, TEXT
from lmzoo.selftest.outcome import Effort, Outcome

CLAIM = "two commands at one time train the same, refuse each other, or take turns"
FIT = f"fit --model gpt {SMALL} --data.path text.txt --trainer.max_steps 20"


def check(folder: Path, effort: Effort) -> Outcome:
    """Run pairs of commands at one time; see ``Outcome``."""
    del effort
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    commands = Commands(folder)
    found = {
        "two fits on one corpus": one_corpus(folder, commands),
        "a fit in a folder that is being trained in": held(folder, commands),
        "two fits in one folder": one_folder(folder, commands),
        "two exports to one place": one_target(folder, commands),
    }
    free = commands.lmzoo(f"{FIT} --trainer.default_root_dir free")
    details = [f"{name}: {why}" for name, why in found.items() if why]
    return Outcome(
        name="concurrency",
        claim=CLAIM,
        tried=len(found),
        held=len(found) - len(details),
        control="the same fit in a folder whose lock nobody holds: "
        + ("trained" if not free.code else "refused, so that a refusal shows nothing"),
        control_failed=not free.code,
        details=details,
        seconds=time.monotonic() - began,
    )


def one_corpus(folder: Path, commands: Commands) -> str:
    """Two runs that both have to prepare the same text, with an empty cache."""
    lines = [f"{FIT} --trainer.default_root_dir corpus-{n}" for n in range(2)]
    for done in commands.together([Job.of(line, folder) for line in lines]):
        if why := done.wrong_success():
            return why
    left = sorted((folder / "cache").glob(".*.tmp"))
    if left:
        return f"{left[0].name} is left in the cache"
    return unlike(folder / "corpus-0", folder / "corpus-1")


def held(folder: Path, commands: Commands) -> str:
    """A folder whose lock a living process holds is left as it is."""
    path = folder / "held"
    path.mkdir()
    with filelock.FileLock(path / ".lock"):
        done = commands.lmzoo(f"{FIT} --trainer.default_root_dir held", folder)
    if why := done.wrong_refusal():
        return why
    left = sorted(p.name for p in path.iterdir() if p.name != ".lock")
    return f"it wrote {left[0]}" if left else ""


def one_folder(folder: Path, commands: Commands) -> str:
    """The same run begun twice: one trains it, the other is refused, or finds it."""
    line = f"{FIT} --trainer.default_root_dir both"
    results = commands.together([Job.of(line, folder) for _ in range(2)])
    if not any(done.code == 0 for done in results):
        return results[0].err[-200:]
    for done in results:
        if done.code and (why := done.wrong_refusal()):
            return why
    return unlike(folder / "both", folder / "corpus-0")


def one_target(folder: Path, commands: Commands) -> str:
    """Two exports under one name: whole, and by one of them."""
    line = "export corpus-0 --out exported"
    results = commands.together([Job.of(line, folder) for _ in range(2)])
    for done in results:
        if done.code and (why := done.wrong_refusal()):
            return why
    left = sorted(folder.glob(".exported*"))
    if left:
        return f"{left[0].name} is left"
    try:
        runs.load(folder / "exported").model.eval()
    except UsageError as error:
        return str(error)
    return ""


def unlike(one: Path, other: Path) -> str:
    """Why two runs did not end alike; "" if they did, to the last bit."""
    try:
        mine, theirs = (
            runs.read_checkpoint(runs.find_checkpoint(run, "last"))["state_dict"]
            for run in (one, other)
        )
    except UsageError as error:
        return str(error)
    apart = [key for key in theirs if not torch.equal(mine[key], theirs[key])]
    return f"{apart[0]} differs between {one.name} and {other.name}" if apart else ""
