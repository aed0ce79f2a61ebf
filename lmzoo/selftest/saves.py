"""No save leaves only a torn file: kills, full disks, read-only folders."""

import contextlib
import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from lmzoo import runs
from lmzoo.errors import UsageError
from lmzoo.selftest import forks, places
from lmzoo.selftest.forks import Fuse
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.stories import Recipe, Stage

CLAIM = (
    "a process killed while it saves leaves no torn checkpoint; a full disk or a "
    "read-only folder keeps the one before, ends in one line, and the run goes on "
    "exactly once there is room"
)
NUMBERS = 500_000  # of a checkpoint: 2 MB
WINDOW = 0.12  # seconds of saving in which a process is killed
CONTROLS = 40  # saves of the controls that are killed, at most
LAST = "last.ckpt"  # of the controls
DESTROYED = 3  # the exit code of one that lost its file
INDEXED = Fuse("lmzoo.training.checkpoints:Checkpoints.write_index", 2)


@dataclass
class Tally:
    """Cases, and what was wrong in them."""

    tried: int = 0
    wrong: list[str] = field(default_factory=list)
    broken: int = 0

    def add(self, wrong: list[str], cases: int = 1) -> None:
        """Count a case."""
        self.tried += cases
        self.broken += bool(wrong)
        self.wrong += wrong


def check(folder: Path, effort: Effort) -> Outcome:
    """Kill savers on two file systems; fill the disk; take the right to write."""
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    tally, elsewhere = Tally(), places.another(folder)
    other = Path(tempfile.mkdtemp(dir=elsewhere)) if elsewhere else folder / "other"
    try:
        for here, temporary in ((folder, other), (other, folder)):
            for wrong in killed(here / "killed", temporary, effort.saves // 2):
                tally.add(wrong)
        torn, at = _torn(_stock_save, folder / "stock", other)
        plain, written = _torn(_plain_save, folder / "plain", other)
    finally:
        shutil.rmtree(other, ignore_errors=True)
    lost, untried = _disks(folder, tally)
    if not elsewhere:
        untried.append("a second file system")
    where = f"temporary files in {elsewhere}" if elsewhere else "one file system here"
    return Outcome(
        name="saves",
        claim=CLAIM + f" (not tried here: {', '.join(untried)})" * bool(untried),
        tried=tally.tried,
        held=tally.tried - tally.broken,
        control=f"torch.save over the same file: {_when(plain, written)}",
        control_failed=plain,
        details=tally.wrong,
        seconds=time.perf_counter() - started,
        stock=f"{where}: {_when(torn, at)}"
        + ("; a full disk destroys its last.ckpt" if lost else ""),
    )


def _when(torn: bool, kill: int) -> str:
    return f"torn at kill {kill}" if torn else f"not torn in {kill} kills"


# ---- kills while saving --------------------------------------------------------------


def saver(
    writer: Connection, save: Callable[..., Any], folder: Path, temporary: Path
) -> None:
    """In the forked process: save without end; say when the first is done."""
    content = _prepared(temporary)
    for step in itertools.count(1):
        save(content, folder, step)
        if step == 1:
            writer.send_bytes(b"began")


def save_in_turn(content: dict[str, Any], folder: Path, step: int) -> None:
    """As a run does: each under a name of its own, and the last two stay."""
    runs.write_checkpoint(content, folder / runs.checkpoint_name(step))
    (folder / runs.checkpoint_name(step - 2)).unlink(missing_ok=True)


def _stock_save(content: dict[str, Any], folder: Path, step: int) -> None:
    """Lightning's own way, over the same name."""
    del step
    TorchCheckpointIO().save_checkpoint(content, folder / LAST)


def _plain_save(content: dict[str, Any], folder: Path, step: int) -> None:
    """What most scripts do."""
    del step
    torch.save(content, folder / LAST)


def _prepared(temporary: Path) -> dict[str, Any]:
    """In the forked process: where temporary files go, and what is saved."""
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    torch.set_num_threads(1)
    return {"state_dict": {"weight": torch.zeros(NUMBERS)}}


def killed(folder: Path, temporary: Path, kills: int) -> list[list[str]]:
    """For each kill, the files that it tore."""
    rng, found = random.Random(0), []
    folder.mkdir(parents=True)
    for _ in range(kills):
        delay = rng.uniform(0, WINDOW)
        forks.killed_during(saver, delay, save_in_turn, folder, temporary)
        files = sorted(folder.glob("step-*.ckpt"))
        found.append([f"torn: {file}" for file in files if not sound(file)])
        if not files:
            found[-1].append(f"{folder}: no checkpoint is left")
        shutil.rmtree(folder)
        folder.mkdir()
    return found


def sound(file: Path) -> bool:
    """Whether a checkpoint is as it was saved."""
    try:
        runs.verified_bytes(file)
    except UsageError:
        return False
    return True


def _torn(save: Callable[..., Any], folder: Path, temporary: Path) -> tuple[bool, int]:
    """Whether a kill tore the control's file, and at which.

    Raises:
        RuntimeError: what it saves cannot be read even where nothing kills it.
    """
    rng = random.Random(0)
    folder.mkdir(parents=True)
    if forks.apart(_once, save, folder, temporary):
        raise RuntimeError(f"the control {save.__name__} does not save in {folder}")
    for kill in range(1, CONTROLS + 1):
        forks.killed_during(saver, rng.uniform(0, WINDOW), save, folder, temporary)
        if not _loads(folder / LAST):
            return True, kill
    return False, CONTROLS


def _once(save: Callable[..., Any], folder: Path, temporary: Path) -> None:
    """In the forked process: a save that nothing ends; exits with 1 if it is torn."""
    save(_prepared(temporary), folder, 1)
    if not _loads(folder / LAST):
        os._exit(1)


def _loads(file: Path) -> bool:
    """Whether a control's file, which has to be there, is whole.

    Raises:
        RuntimeError: it is not there: nobody tore it.
    """
    if not file.is_file():
        raise RuntimeError(f"the control's {file} is not there")
    try:
        torch.load(file, weights_only=True)
    except Exception:  # in whatever way it is torn
        return False
    return True


# ---- no room, no right ---------------------------------------------------------------


def _disks(folder: Path, tally: Tally) -> tuple[bool, list[str]]:
    """Runs that cannot save; whether the control lost its file; what was not tried."""
    stage = Stage(Recipe("gpt"), folder / "runs")
    if said := stage.play():
        tally.add([said])
        return False, []
    stage.run("limited", INDEXED)
    tally.add(refused(stage, "limited", "too large", places.no_large_files))
    tally.add(stage.finish("limited"))
    untried = [] if _read_only(stage, tally) else ["a read-only folder"]
    size = places.size_of(stage.whole)
    with places.small_disk(stage.folder / "full", size * 2 // 3) as mounted:
        if not mounted:
            return False, [*untried, "a full disk, but for a limit on files"]
        stage.run("full", INDEXED)
        tally.add(refused(stage, "full", "No space left"))
        places.change(stage.folder / "full", f"size={4 * size}")
        tally.add(stage.finish("full"))
    with places.small_disk(stage.folder / "stock", 3_000_000):
        code = forks.apart(_overwritten, stage.folder / "stock", stage.folder)
    if code not in (0, DESTROYED):
        raise RuntimeError("the control, stock Lightning on a full disk, could not run")
    return code == DESTROYED, untried


def _read_only(stage: Stage, tally: Tally) -> bool:
    """A run whose folder is read-only from its second save on; False if not tried."""
    name = "read-only"
    with places.small_disk(stage.folder / name, 4 * places.size_of(stage.whole)) as own:
        if not own and not os.geteuid():  # who may write wherever it says no
            return False
        stage.run(name, INDEXED)
        with _without_right(stage.folder / name, own):
            reason = "Read-only" if own else "Permission denied"
            tally.add(refused(stage, name, reason))
        tally.add(stage.finish(name))
    return True


def refused(
    stage: Stage, name: str, reason: str, prepare: Callable[[], None] | None = None
) -> list[str]:
    """What was wrong with the way in which a run that cannot save ended."""
    before = _newest(stage.folder / name)
    ended = stage.run(name, prepare=prepare)
    after = _newest(stage.folder / name)
    wrong = []
    if ended.code != 2 or reason not in ended.said:
        wrong.append(f"{name}: exit {ended.code}: {ended.said}")
    if "Traceback" in (stage.folder / f"{name}.log").read_text(encoding="utf-8"):
        wrong.append(f"{name}: a traceback")
    if not before[0]:
        wrong.append(f"{name}: nothing was saved before, so that nothing is shown")
    elif after != before and after[0] <= before[0]:
        wrong.append(f"{name}: the newest was {before}, and is now {after}")
    return wrong


def _newest(folder: Path) -> tuple[int, str]:
    """Step and digest of the newest checkpoint; (0, "") if it is torn, or none."""
    files = runs.newest_first(folder)
    if not files or not sound(files[0]):
        return 0, ""
    return runs.step_of(files[0]), runs.stated_digest(files[0])


@contextlib.contextmanager
def _without_right(folder: Path, mounted: bool) -> Iterator[None]:
    """Nobody may write below ``folder``: a disk of its own, or folders of ours."""
    inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]

    def allow(mount: str, mode: int) -> None:
        if mounted:
            places.change(folder, mount)
        else:
            for path in inside:
                path.chmod(mode)

    try:
        allow("ro", 0o555)
        yield
    finally:
        allow("rw", 0o755)


def _overwritten(folder: Path, temporary: Path) -> None:
    """The control: exits with DESTROYED if a full disk destroys what was there."""
    content, file = _prepared(temporary), folder / LAST
    _stock_save(content, folder, 1)
    if not _loads(file):
        os._exit(1)
    (folder / "other").write_bytes(bytes(900_000))
    larger = {**content, "more": torch.zeros(NUMBERS)}
    with contextlib.suppress(OSError):
        _stock_save(larger, folder, 2)
    if not file.is_file() or not _loads(file):
        os._exit(DESTROYED)
