"""Run folders in which something lies, hangs, or is not what its name says."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmzoo import runs
from lmzoo.selftest.lab import SMALL, Case, Lab, fifo, generate, measure, resume
from lmzoo.text.bloom import HASHES
from lmzoo.text.spans import MAGIC, SPAN

DEEP = "[" * 100_000


def _manifest(
    name: str,
    said: str = "",
    read: Callable[[Any], str] = generate,
    **changes: Any,
) -> Case:
    """A run whose manifest says something else, and whose checkpoints are sound."""

    def make(lab: Lab) -> str:
        run = lab.copy()
        manifest = runs.read_manifest(run)
        for key, value in changes.items():
            if value is None:
                del manifest[key]
            else:
                manifest[key] = value
        (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return read(run)

    return Case(name, make, said)


def _again(run: Path) -> str:
    """The command that made the run, for more steps."""
    return (
        f"fit --model gpt {SMALL} --data.path {run.parents[1] / 'text.txt'} "
        f"--trainer.max_steps 4 --trainer.default_root_dir {run}"
    )


def _instead(
    name: str, said: str, file: str, content: str | bytes, read: Any = generate
) -> Case:
    """A run in which one file has another content."""

    def make(lab: Lab) -> str:
        run = lab.copy()
        body = content.encode() if isinstance(content, str) else content
        (run / file).write_bytes(body)
        return read(run)

    return Case(name, make, said)


def _strange(
    lay: Callable[[Path], Any],
    read: Callable[[Any], str] = generate,
    alone: bool = False,
) -> Callable[[Lab], str]:
    """A run with what is no file under the name of a checkpoint, the latest of all."""

    def make(lab: Lab) -> str:
        run = lab.copy()
        for file in runs.newest_first(run) if alone else ():
            file.unlink()
        lay(run / "checkpoints" / runs.checkpoint_name(9))
        return read(run)

    return make


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _hollow(lab: Lab) -> str:
    """A sparse file of 100 terabytes, or as many as the file system takes."""
    path = lab.place() / runs.checkpoint_name(3)
    with path.open("wb") as file:
        for power in (46, 43, 40):
            try:
                file.truncate(1 << power)
                break
            except OSError:
                continue
        file.seek(-len(runs.trailer(b"")), 2)
        file.write(runs.trailer(b""))
    return generate(path)


def _spans() -> bytes:
    part = {"bytes": 10**12, "count": 1, "every": 1}
    header = {
        "span": SPAN,
        "hashes": HASHES,
        "characters": 1,
        "spans": part,
        "words": part,
    }
    body = MAGIC + json.dumps(header).encode() + b"\n"
    return body + hashlib.sha256(body).digest()


def _copied(lab: Lab) -> str:
    run = lab.copy()
    newest = runs.newest_first(run)[0]
    (run / "checkpoints" / "step-best.ckpt").write_bytes(newest.read_bytes())
    return _again(run)


def _no_lock(lab: Lab) -> str:
    run = lab.copy()
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").mkdir()
    return _again(run)


def fresh(lab: Lab, more: str) -> str:
    """A training that gets as far as its data."""
    path = "" if "--data.corpus" in more or "--data.path" in more else lab.text
    data = f"--data.path {path}" if path else ""
    return (
        f"fit --model gpt {SMALL} {data} --trainer.max_steps 1 "
        f"--trainer.default_root_dir {lab.place() / 'run'} {more}"
    )


SOUND = [  # what is read below, as it was before anything was changed in it
    Case("a sound run that goes on", lambda lab: _again(lab.copy())),
    Case("a sound run to resume from", lambda lab: resume(lab.copy())),
    Case("a sound run that is measured", lambda lab: measure(lab.copy())),
    Case("a sound text", lambda lab: fresh(lab, "")),
]
UNREADABLE = "manifest.json cannot be read"
RUNS = [
    Case("a pipe for a checkpoint", _strange(fifo)),
    _manifest("a best checkpoint out of the folder", best="../../x.ckpt"),
    _manifest("a best checkpoint that is a list", best=[1]),
    _manifest(
        "an identity that is a list", "its identity is no dict", _again, identity=[1]
    ),
    Case("a pipe for a checkpoint, trained beside", _strange(fifo, _again)),
    Case("a device for a checkpoint, trained beside", _strange(_endless, _again)),
    Case("a device beside a checkpoint", _strange(_endless)),
    Case("nothing but a device", _strange(_endless, alone=True), "no sound checkpoint"),
    _manifest(
        "data that is a word in a manifest", "its data is no dict", _again, data="text"
    ),
    _manifest("a budget that is a word", "its budget is no dict", _again, budget="all"),
    _manifest(
        "a longest run that is a word",
        "its max_steps is no int",
        _again,
        max_steps="many",
        status="finished",
    ),
    _instead("a manifest that is no JSON", UNREADABLE, "manifest.json", "{"),
    _instead("a manifest of 100,000 levels", UNREADABLE, "manifest.json", DEEP),
    _instead(
        "spans that ask for a terabyte",
        "not as long as its header says",
        "spans.bin",
        _spans(),
        lambda run: f"{generate(run)} --variability true",
    ),
    Case("a copy of a checkpoint by another name", _copied),
    _instead(
        "a curve with half a character", "", "metrics.csv", b"step,x\n1,\xff", _again
    ),
    _instead(
        "a curve with a very long row",
        "",
        "metrics.csv",
        "step,x\n1," + 200_000 * "9",
        _again,
    ),
    Case("a folder for a lock", _no_lock, ".lock: Is a directory"),
    Case("a checkpoint of 64 terabytes", _hollow, "larger than the memory"),
]
