"""The catalogue of mistakes: each ends in one line and exit code 2, and writes nothing.

Beside the mistakes stand what looks like one and has to work. Every command is tried.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from lmzoo.selftest.commands import Commands, Result
from lmzoo.selftest.lab import SMALL
from lmzoo.selftest.mistakes import FILES, MISTAKES, WORKING
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.stories import AT_ONCE, shared, spread

CLAIM = "a mistake ends in one line and exit code 2, and leaves nothing behind"
BROKEN = """
import lmzoo.cli
from lmzoo.errors import UsageError

def dispatch(argv):
    open("half-written", "w").close()
    raise RuntimeError("as a program without care for its caller")

lmzoo.cli._dispatch = dispatch
raise SystemExit(lmzoo.cli.main(["fit"]))
"""
SETUP = (
    f"fit --model gpt {SMALL} --data.path ok.txt --trainer.max_steps 2 "
    f"--trainer.default_root_dir run",
)


@dataclass(frozen=True)
class Tried:
    """One line of the catalogue, and what was wrong with how it ended."""

    line: str
    why: str


def check(folder: Path, effort: Effort) -> Outcome:
    """Type the lines of the catalogue, or some of each kind; see ``Outcome``."""
    began = time.monotonic()
    typed = effort.of([*_by_command(), [(line, None) for line in WORKING]])
    rooms = [Commands(folder / f"room-{number}") for number in range(AT_ONCE)]
    spread(prepare, rooms)
    found = shared(_typed, typed, rooms)
    said = broken(rooms[0])
    details = [f"{one.why}: lmzoo {one.line}" for one in found if one.why]
    return Outcome(
        name="bad_input",
        claim=CLAIM,
        tried=len(found),
        held=len(found) - len(details),
        control="a command that writes a file and then fails as Python does: "
        + ("told from one that behaves" if said else "NOT noticed"),
        control_failed=bool(said),
        details=details,
        seconds=time.monotonic() - began,
    )


def _by_command() -> list[list[tuple[str, str | None]]]:
    """The mistakes, those of a command together."""
    kinds: dict[str, list[tuple[str, str | None]]] = {}
    for line, said in MISTAKES:
        kinds.setdefault(line.split()[0], []).append((line, said))
    return list(kinds.values())


def _typed(commands: Commands, one: tuple[str, str | None]) -> Tried:
    line, said = one
    if said is None:
        return working(line, commands)
    return mistaken(line, said, commands)


def prepare(commands: Commands) -> None:
    """The files that the catalogue names, and a small run.

    Raises:
        RuntimeError: the run could not be trained.
    """
    folder = commands.folder
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.mkfifo(folder / "pipe.txt")
    for line in SETUP:
        done = commands.lmzoo(line)
        if done.code:
            raise RuntimeError(f"lmzoo {line}: {done.err}")
    checkpoint = next((folder / "run" / "checkpoints").iterdir())
    (folder / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:-100])
    for kept in (folder / "cache").iterdir():  # damaged: all of it is made again
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])


def mistaken(line: str, said: str, commands: Commands) -> Tried:
    """Type a mistake; what it leaves behind is taken away.

    Args:
        line: the words after ``lmzoo``.
        said: what its one line has to name.
        commands: that run it.
    """
    before = listing(commands.folder)
    result = commands.lmzoo(line)
    after = listing(commands.folder)
    for name in sorted(after - before, reverse=True):
        path = commands.folder / name
        path.rmdir() if path.is_dir() else path.unlink()
    return Tried(line, _wrong(result, said, before, after))


def _wrong(result: Result, said: str, before: set[str], after: set[str]) -> str:
    if why := result.wrong_refusal():
        return why
    if said not in result.errors[0]:
        return f"it does not say {said!r}: {result.errors[0]!r}"
    if left := sorted(after - before):
        return f"it left {left[0]}"
    return ""


def working(line: str, commands: Commands) -> Tried:
    """Type what looks like a mistake and is none."""
    return Tried(line, commands.lmzoo(line).wrong_success())


def broken(commands: Commands) -> str:
    """What is wrong with how a careless command ends: the control."""
    folder = commands.folder
    script = folder / "broken.py"
    script.write_text(BROKEN, encoding="utf-8")
    before = listing(folder)
    result = commands.run([str(script.resolve())])
    return _wrong(result, "", before, listing(folder))


def listing(folder: Path) -> set[str]:
    """Every file and folder, but for the cache and what Python leaves."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not {"cache", "__pycache__"} & set(path.relative_to(folder).parts)
        and path.suffix != ".log"  # what the commands print
    }
