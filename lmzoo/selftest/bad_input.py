"""The catalogue of mistakes: each ends in one line and exit code 2, and writes nothing.

Beside the mistakes stand what looks like one and has to work. Every command is tried.
"""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from lmzoo.selftest.commands import Commands, Result
from lmzoo.selftest.lab import SMALL
from lmzoo.selftest.mistakes import FILES, MISTAKES, WORKING
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.stories import AT_ONCE, shared, spread

CLAIM = "a mistake ends in one line and exit code 2, and leaves nothing behind"
CARELESS = """
import os, sys
import lmzoo.cli
from lmzoo.errors import UsageError

def dispatch(argv):
    exec(sys.argv[1])
    raise UsageError("as a program without care for its caller")

lmzoo.cli._dispatch = dispatch
raise SystemExit(lmzoo.cli.main([]))
"""
OK_TEXT, IN_CACHE = "ok.txt", "cache/kept"
CARELESSNESS = {  # what a careless command does, and how it is told from one with care
    "raise SystemExit(1)": "exit code 1",
    "raise RuntimeError": "a traceback: RuntimeError",
    "open('half-written', 'w').close()": "it left half-written",
    f"open('{OK_TEXT}', 'w').close()": f"it changed {OK_TEXT}",
    f"open('{IN_CACHE}', 'w').close()": f"it changed {IN_CACHE}",
    f"os.remove('{OK_TEXT}')": f"it took {OK_TEXT} away",
    "print('error: a second line', file=sys.stderr)": "2 lines of error: ",
    "raise UsageError('another reason')": "it does not say 'without care'",
}
SETUP = (
    f"fit --model gpt {SMALL} --data.path ok.txt --trainer.max_steps 2 "
    f"--trainer.default_root_dir "
)
Listing = dict[str, tuple[int, int] | None]


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
    unnoticed = controls(rooms[0])
    details = [f"{one.why}: lmzoo {one.line}" for one in found if one.why]
    return Outcome(
        name="bad_input",
        claim=CLAIM,
        tried=len(found),
        held=len(found) - len(details),
        control=f"{len(CARELESSNESS)} commands that fail without care, each in its own "
        "way: " + (f"NOT noticed: {unnoticed[0]}" if unnoticed else "each told by it"),
        control_failed=not unnoticed,
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
    """The files that the catalogue names, and a small run; one more on a damaged cache.

    Raises:
        RuntimeError: a run could not be trained.
    """
    folder = commands.folder
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.mkfifo(folder / "pipe.txt")
    for name in ("run", "again"):
        done = commands.lmzoo(SETUP + name)
        if done.code:
            raise RuntimeError(f"lmzoo {SETUP}{name}: {done.err}")
        if name == "run":  # the other finds a damaged cache, and makes it anew
            for kept in (folder / "cache").iterdir():
                kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    checkpoint = next((folder / "run" / "checkpoints").iterdir())
    (folder / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:-100])


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
    for name in reversed(_left(before, after)):
        path = commands.folder / name
        path.rmdir() if path.is_dir() else path.unlink()
    return Tried(line, _wrong(result, said, before, after))


def _wrong(result: Result, said: str, before: Listing, after: Listing) -> str:
    if why := result.wrong_refusal(said):
        return why
    if left := _left(before, after):
        return f"it left {left[0]}"
    if lost := sorted(before.keys() - after):
        return f"it took {lost[0]} away"
    changed = sorted(name for name in before if before[name] != after[name])
    return f"it changed {changed[0]}" if changed else ""


def working(line: str, commands: Commands) -> Tried:
    """Type what looks like a mistake and is none."""
    return Tried(line, commands.lmzoo(line).wrong_success())


def controls(commands: Commands) -> list[str]:
    """The careless commands that are not told, or not by what they do."""
    folder = commands.folder
    script = folder / "careless.py"
    script.write_text(CARELESS, encoding="utf-8")
    (folder / IN_CACHE).write_bytes(b"kept")
    unnoticed = []
    for does, told in CARELESSNESS.items():
        before = listing(folder)
        result = commands.run([str(script.resolve()), does])
        if not _wrong(result, "without care", before, listing(folder)).startswith(told):
            unnoticed.append(does)
        (folder / OK_TEXT).write_text(str(FILES[OK_TEXT]), encoding="utf-8")
        (folder / "half-written").unlink(missing_ok=True)
    return unnoticed


def listing(folder: Path) -> Listing:
    """Size and time of every file; of folders, and of locks, only that they are there.

    What Python leaves and what the commands print is left out.
    """
    found: Listing = {}
    for path in folder.rglob("*"):
        name, status = str(path.relative_to(folder)), path.lstat()
        if "__pycache__" in path.parts or path.suffix == ".log":
            continue
        plain = stat.S_ISREG(status.st_mode) and path.suffix != ".lock"
        found[name] = (status.st_size, status.st_mtime_ns) if plain else None
    return found


def _left(before: Listing, after: Listing) -> list[str]:
    """What was made; a cache may keep what it was given, if that is whole."""
    made = [Path(name) for name in sorted(after.keys() - before)]
    return [str(p) for p in made if p.parts[0] != "cache" or p.suffix == ".tmp"]
