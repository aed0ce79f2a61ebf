"""No save leaves only a torn file: kills, full disks, read-only folders."""

import contextlib
import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
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
        torn, at = _torn(stock_saver, folder / "stock", other)
        plain, written = _torn(plain_saver, folder / "plain", other)
    finally:
        shutil.rmtree(other, ignore_errors=True)
    lost = _disks(folder, tally)
    where = f"temporary files in {elsewhere}" if elsewhere else "one file system here"
    return Outcome(
        name="saves",
        claim=CLAIM,
        tried=tally.tried,
        held=tally.tried - tally.broken,
        control=f"torch.save over the same file: {_when(plain, written)}",
        control_failed=torn or plain,
        details=tally.wrong,
        seconds=time.perf_counter() - started,
        stock=f"{where}: {_when(torn, at)}"
        + ("; a full disk destroys its last.ckpt" if lost else ""),
    )


def _when(torn: bool, kill: int) -> str:
    return f"torn at kill {kill}" if torn else f"not torn in {kill} kills"


# ---- kills while saving --------------------------------------------------------------


def saver(writer: Connection, folder: Path, temporary: Path) -> None:
    """Save one checkpoint after the other, as a run does: the last two stay."""
    content = _prepared(temporary)
    for step in itertools.count(1):
        runs.write_checkpoint(content, folder / runs.checkpoint_name(step))
        (folder / runs.checkpoint_name(step - 2)).unlink(missing_ok=True)
        if step == 1:
            writer.send_bytes(b"began")


def stock_saver(writer: Connection, folder: Path, temporary: Path) -> None:
    """Lightning's own way, over the same name."""
    content, io = _prepared(temporary), TorchCheckpointIO()
    for step in itertools.count(1):
        io.save_checkpoint(content, folder / "last.ckpt")
        if step == 1:
            writer.send_bytes(b"began")


def plain_saver(writer: Connection, folder: Path, temporary: Path) -> None:
    """What most scripts do."""
    content = _prepared(temporary)
    for step in itertools.count(1):
        torch.save(content, folder / "last.ckpt")
        if step == 1:
            writer.send_bytes(b"began")


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
        forks.killed_during(saver, rng.uniform(0, WINDOW), folder, temporary)
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


def _torn(
    function: Callable[..., None], folder: Path, temporary: Path
) -> tuple[bool, int]:
    """Whether a kill tore the control's file, and at which."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    for kill in range(1, CONTROLS + 1):
        forks.killed_during(function, rng.uniform(0, WINDOW), folder, temporary)
        try:
            torch.load(folder / "last.ckpt", weights_only=True)
        except Exception:  # in whatever way it is torn
            return True, kill
    return False, CONTROLS


# ---- no room, no right ---------------------------------------------------------------


def _disks(folder: Path, tally: Tally) -> bool | None:
    """Runs that cannot save; whether the control lost its file, None if not tried."""
    stage = Stage(Recipe("gpt"), folder / "runs")
    if said := stage.play():
        tally.add([said])
        return None
    stage.run("limited", INDEXED)
    tally.add(refused(stage, "limited", "too large", places.no_large_files))
    tally.add(stage.finish("limited"))
    size = places.size_of(stage.whole)
    with places.small_disk(stage.folder / "full", size * 2 // 3) as mounted:
        if not mounted:
            return None
        tally.add(refused(stage, "full", "No space left", None))
        places.change(stage.folder / "full", f"size={4 * size}")
        tally.add(stage.finish("full"))
    with places.small_disk(stage.folder / "read-only", 4 * size):
        stage.run("read-only", INDEXED)
        places.change(stage.folder / "read-only", "ro")
        tally.add(refused(stage, "read-only", "Read-only", None))
        places.change(stage.folder / "read-only", "rw")
        tally.add(stage.finish("read-only"))
    with places.small_disk(stage.folder / "stock", 3_000_000):
        return forks.apart(_overwritten, stage.folder / "stock", stage.folder) == 1


def refused(
    stage: Stage, name: str, reason: str, prepare: Callable[[], None] | None
) -> list[str]:
    """What was wrong with the way in which a run that cannot save ended."""
    before = {file.name for file in runs.newest_first(stage.folder / name)}
    ended = stage.run(name, prepare=prepare)
    after = runs.newest_first(stage.folder / name)
    wrong = []
    if ended.code != 2 or reason not in ended.said:
        wrong.append(f"{name}: exit {ended.code}: {ended.said}")
    if "Traceback" in (stage.folder / f"{name}.log").read_text(encoding="utf-8"):
        wrong.append(f"{name}: a traceback")
    if not after or not sound(after[0]):
        wrong.append(f"{name}: no sound checkpoint is left of {sorted(before)}")
    return wrong


def _overwritten(folder: Path, temporary: Path) -> None:
    """The control: exits with 1 if a full disk destroys what was there."""
    content, io = _prepared(temporary), TorchCheckpointIO()
    io.save_checkpoint(content, folder / "last.ckpt")
    (folder / "other").write_bytes(bytes(900_000))
    larger = {**content, "more": torch.zeros(NUMBERS)}
    with contextlib.suppress(OSError):
        io.save_checkpoint(larger, folder / "last.ckpt")
    try:
        torch.load(folder / "last.ckpt", weights_only=True)
    except Exception:  # in whatever way it is torn
        os._exit(1)
