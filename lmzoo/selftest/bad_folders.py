"""Run folders, caches, tokenizers and configurations that lie, or want code to run."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo import runs
from lmzoo.selftest.lab import SMALL, Case, Lab, fifo, generate, measure, resume
from lmzoo.text import store
from lmzoo.text.bloom import HASHES
from lmzoo.text.spans import MAGIC, SPAN

SOURCE = "fit --model pretrained --model.source"
DEEP = "[" * 100_000
PYTHON_TAG = "!!python/object/apply:builtins.open [{marker}, w]\n"


# ---- run folders ---------------------------------------------------------------------


def _manifest(
    name: str,
    read: Callable[[Any], str] = generate,
    works: bool = False,
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

    return Case(name, make, works=works)


def _again(run: Path) -> str:
    """The command that made the run, for more steps."""
    return (
        f"fit --model gpt {SMALL} --data.path {run.parents[1] / 'text.txt'} "
        f"--trainer.max_steps 4 --trainer.default_root_dir {run}"
    )


def _instead(
    name: str, file: str, content: str | bytes, read: Any, **more: Any
) -> Case:
    """A run in which one file has another content."""

    def make(lab: Lab) -> str:
        run = lab.copy()
        body = content.encode() if isinstance(content, str) else content
        (run / file).write_bytes(body)
        return read(run)

    return Case(name, make, **more)


def _pipe(lab: Lab) -> str:
    run = lab.copy()
    fifo(run / "checkpoints" / runs.checkpoint_name(9))
    return generate(run)


def _device(lab: Lab) -> str:
    run = lab.copy()
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    (run / "checkpoints" / runs.checkpoint_name(9)).symlink_to("/dev/zero")
    return generate(run)


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


RUNS = [
    _manifest("a best checkpoint out of the folder", works=True, best="../../x.ckpt"),
    _manifest("a best checkpoint that is a list", works=True, best=[1]),
    _manifest("an identity that is a list", _again, identity=[1]),
    _manifest("data that is a word in a manifest", _again, data="text"),
    _manifest("a budget that is a word", _again, budget="much"),
    _manifest(
        "a longest run that is a word", _again, max_steps="many", status="finished"
    ),
    _instead("a manifest that is no JSON", "manifest.json", "{", generate),
    _instead("a manifest of 100,000 levels", "manifest.json", DEEP, generate),
    _instead(
        "spans that ask for a terabyte",
        "spans.bin",
        _spans(),
        lambda run: f"{generate(run)} --variability true",
    ),
    Case("a pipe for a checkpoint", _pipe, works=True),
    Case("a device for a checkpoint", _device),
    Case("a checkpoint of 64 terabytes", _hollow),
]


# ---- tokenizers, caches, configurations, names ---------------------------------------


def _tokenizer(name: str, content: str | bytes) -> Case:
    def make(lab: Lab) -> str:
        path = lab.place() / "tokenizer.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return _fresh(lab, f"--data.tokenizer {path}")

    return Case(name, make)


def _fresh(lab: Lab, more: str) -> str:
    """A training that gets as far as its data."""
    path = "" if "--data.corpus" in more or "--data.path" in more else lab.text
    data = f"--data.path {path}" if path else ""
    return (
        f"fit --model gpt {SMALL} {data} --trainer.max_steps 1 "
        f"--trainer.default_root_dir {lab.place() / 'run'} {more}"
    )


def _cache(name: str, change: Callable[[dict[str, Any], bytes], bytes]) -> Case:
    """A token store with a right hash and a wrong content: it has to be made again."""

    def make(lab: Lab) -> str:
        for path in (lab.folder.parent / "cache").glob("*.tokens"):
            opened = store.open_store(path)
            if opened is None:  # what an earlier case forged, of another text
                continue
            ids = np.concatenate([*opened.splits.values()]).tobytes()
            footer = {
                "splits": [[name, len(part)] for name, part in opened.splits.items()],
                "dtype": "<u2",
                "meta": opened.meta,
            }
            ids = change(footer, ids)
            footer["sha256"] = hashlib.sha256(ids).hexdigest()
            raw = json.dumps(footer).encode()
            tail = struct.pack(
                "<32sQ8s", hashlib.sha256(raw).digest(), len(raw), b"lmzoo-t1"
            )
            path.write_bytes(ids + raw + tail)
        return _fresh(lab, "")

    return Case(name, make, works=True)


def _of_objects(footer: dict[str, Any], ids: bytes) -> bytes:
    footer["dtype"], footer["splits"] = "|O", [["train", len(ids) // 8]]
    return ids[: len(ids) // 8 * 8]


def _negative(footer: dict[str, Any], ids: bytes) -> bytes:
    footer["splits"] = [["train", -100], ["val", len(ids) // 2 + 100]]
    return ids


def _too_large(footer: dict[str, Any], ids: bytes) -> bytes:
    return np.full(len(ids) // 2, 60_000, "<u2").tobytes()


def _meta(**changes: Any) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(footer: dict[str, Any], ids: bytes) -> bytes:
        footer["meta"] = {**footer["meta"], **changes}
        return ids

    return change


def _yaml(name: str, text: str) -> Case:
    def make(lab: Lab) -> str:
        path = lab.place() / "config.yaml"
        path.write_text(text.format(marker=lab.marker))
        return _fresh(lab, f"--config {path}")

    return Case(name, make)


TOKENIZERS = [
    _tokenizer("a tokenizer of 100,000 levels", DEEP),
    _tokenizer("a pickled tokenizer", b"\x80\x02cio\nopen\n."),
    _tokenizer("a tokenizer that is a number", "7"),
    _tokenizer(
        "ids up to 1e9",
        json.dumps(
            {"model": {"type": "WordLevel", "vocab": {"a": 10**9}, "unk_token": "a"}}
        ),
    ),
    _tokenizer(
        "a tokenizer without tokens",
        '{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
    ),
]
CACHES = [
    _cache("a cache of Python objects", _of_objects),
    _cache("a cache with a negative count", _negative),
    _cache("a cache with ids beyond its vocabulary", _too_large),
    _cache("a cache without a tokenizer", _meta(tokenizer=None)),
    _cache("a cache with strange statistics", _meta(stats={"train": {"evil": 1}})),
]
REST = [
    _yaml("a configuration with a Python tag", PYTHON_TAG),
    _yaml("the same inside an option", "trainer:\n  max_steps: " + PYTHON_TAG),
    _yaml("a configuration of 100,000 levels", DEEP),
    Case(
        "a configuration at a URL",
        lambda lab: _fresh(lab, "--config http://127.0.0.1:9/c.yaml"),
    ),
    Case(
        "a text at a URL",
        lambda lab: _fresh(lab, "--data.path http://127.0.0.1:9/t.txt"),
    ),
    Case(
        "a plugin at a URL", lambda lab: _fresh(lab, "--plugin http://127.0.0.1:9/p.py")
    ),
    Case(
        "a source at a URL",
        lambda lab: f"{SOURCE} http://127.0.0.1:9/m --data.path {lab.text}",
        needs="transformers",
    ),
    Case(
        "a corpus that is a path",
        lambda lab: _fresh(lab, "--data.corpus ../../etc/passwd"),
    ),
    Case("a model that is a path", lambda lab: f"check ../../{lab.folder.name}/evil"),
    Case(
        "a new model that is a path", lambda lab: f"new ../evil --folder {lab.place()}"
    ),
    Case(
        "a run that is gone on from by a URL", lambda lab: resume("ftp://127.0.0.1/run")
    ),
    Case("a run that is measured by a URL", lambda lab: measure("s3://bucket/run")),
]
CASES = [*RUNS, *TOKENIZERS, *CACHES, *REST]
