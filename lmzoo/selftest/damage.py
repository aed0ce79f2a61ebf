"""Damage to a checkpoint is found before anything is made of it."""

import io
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from lmzoo import runs
from lmzoo.errors import UsageError
from lmzoo.selftest import forks, stock
from lmzoo.selftest.kills import as_killed_at
from lmzoo.selftest.outcome import Effort, Outcome
from lmzoo.selftest.saves import Tally
from lmzoo.selftest.stories import Recipe, Stage

CLAIM = (
    "every flipped bit and every truncation of a checkpoint is found before use; the "
    "newest checkpoint that verifies is the one gone on from, and the user is told"
)


def check(folder: Path, effort: Effort) -> Outcome:
    """Turn bits over, cut files short; damage the newest checkpoints of a run."""
    started = time.perf_counter()
    stage, tally = Stage(Recipe("lstm"), folder), Tally()
    counts = {"torch": 0, "safetensors": 0}
    if said := stage.play():
        tally.add([said])
    else:
        told = folder / "told.json"
        file = runs.newest_first(stage.whole)[0]
        if forks.apart(_try, file, effort.flips, effort.truncations, told):
            tally.add([f"the trial of {file} ended with an error"])
        else:
            wrong, counts = json.loads(told.read_text(encoding="utf-8"))
            for line in wrong:
                tally.add([line] if line else [])
        for name in list(DAMAGES)[: 2 if effort.quick else None]:
            tally.add(goes_on(stage, name))
    return Outcome(
        name="damage",
        claim=CLAIM,
        tried=tally.tried,
        held=tally.tried - tally.broken,
        control=f"safetensors: {counts['safetensors']} of {effort.flips} flipped bits "
        f"pass without a word",
        control_failed=min(counts.values()) > 0,
        details=tally.wrong,
        seconds=time.perf_counter() - started,
        stock=f"{counts['torch']} of {effort.flips} flipped bits pass without a word",
    )


# ---- one file ------------------------------------------------------------------------


def _try(file: Path, flips: int, truncations: int, told: Path) -> None:
    """In a forked process: damage copies; a line for each that is not noticed."""
    stock.quiet()
    rng, content = random.Random(0), file.read_bytes()
    copy, wrong = file.with_suffix(".copy"), []
    for _ in range(flips):
        bit = rng.randrange(8 * len(content))
        copy.write_bytes(flipped(content, bit))
        wrong.append(unnoticed(copy, f"bit {bit}"))
    for _ in range(truncations):
        length = rng.randrange(len(content))
        copy.write_bytes(content[:length])
        wrong.append(unnoticed(copy, f"cut to {length} bytes"))
    copy.unlink(missing_ok=True)
    weights = runs.read_checkpoint(file)["state_dict"]
    plain = safetensors.torch.save({k: v.clone() for k, v in weights.items()})
    body = content[: -runs.TRAILER]
    counts = {
        "torch": _passing(body, flips, rng, _load),
        "safetensors": _passing(plain, flips, rng, safetensors.torch.load),
    }
    told.write_text(json.dumps([wrong, counts]), encoding="utf-8")


def unnoticed(file: Path, damage: str) -> str:
    """A line if a file opens although it is damaged, else ""."""
    try:
        runs.load(file)
    except UsageError:
        return ""
    return f"{damage}: not noticed"


def _passing(
    content: bytes, flips: int, rng: random.Random, load: Callable[[bytes], Any]
) -> int:
    """How many flipped bits a loader does not notice."""
    passed = 0
    for _ in range(flips):
        try:
            load(flipped(content, rng.randrange(8 * len(content))))
            passed += 1
        except Exception:  # in whatever way it says so
            pass
    return passed


def _load(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


def flipped(content: bytes, bit: int) -> bytes:
    """``content`` with one bit turned over."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# ---- a run ---------------------------------------------------------------------------


def _first(files: list[Path]) -> Iterator[Path]:
    yield files[0]
    files[0].write_bytes(flipped(files[0].read_bytes(), 4321))


def _two(files: list[Path]) -> Iterator[Path]:
    yield from files[:2]
    files[0].write_bytes(files[0].read_bytes()[:-1000])
    files[1].write_bytes(flipped(files[1].read_bytes(), 99))


def _empty(files: list[Path]) -> Iterator[Path]:
    yield files[0]
    files[0].write_bytes(b"")


def _every(files: list[Path]) -> Iterator[Path]:
    for file in files:
        yield file
        file.write_bytes(flipped(file.read_bytes(), 1234))


DAMAGES = {
    "the newest two are damaged": _two,
    "the newest is empty": _empty,
    "the newest has a flipped bit": _first,
    "all are damaged": _every,
}


def goes_on(stage: Stage, damage: str) -> list[str]:
    """An unfinished run with damaged checkpoints ends the same, and says so."""
    name = damage.replace(" ", "-")
    as_killed_at(stage, name, 20)
    files = runs.newest_first(stage.folder / name)
    damaged = [file.name for file in DAMAGES[damage](files)]
    wrong = stage.finish(name)
    said = (stage.folder / f"{name}.log").read_text(encoding="utf-8").splitlines()
    skipped = " ".join(line for line in said if "skipped: " in line)
    unsaid = [file for file in damaged if f"{file} " not in skipped]
    wrong += [f"{name}: it is not said that {file} is skipped" for file in unsaid]
    shutil.rmtree(stage.folder / name, ignore_errors=True)
    return wrong
