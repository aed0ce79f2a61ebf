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


SOUND = [  # what is read below, as it was before anything was changed in it
    Case("a sound run that goes on", lambda lab: _again(lab.copy())),
    Case("a sound run to resume from", lambda lab: resume(lab.copy())),
    Case("a sound run that is measured", lambda lab: measure(lab.copy())),
    Case("a sound text", lambda lab: _fresh(lab, "")),
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
    Case("a checkpoint of 64 terabytes", _hollow, "larger than the memory"),
]


# ---- tokenizers, caches, configurations, names ---------------------------------------


def _tokenizer(name: str, said: str, content: str | Callable[[Lab], bytes]) -> Case:
    def make(lab: Lab) -> str:
        path = lab.place() / "tokenizer.json"
        raw = content(lab) if callable(content) else content.encode()
        path.write_bytes(raw)
        return _fresh(lab, f"--data.tokenizer {path}")

    return Case(name, make, said)


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

    return Case(name, make)


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


def _yaml(name: str, said: str, text: str) -> Case:
    def make(lab: Lab) -> str:
        path = lab.place() / "config.yaml"
        path.write_text(text.format(marker=lab.marker))
        return _fresh(lab, f"--config {path}")

    return Case(name, make, said)


NO_TOKENIZER = "not a tokenizer that the tokenizers library reads"
TOKENIZERS = [
    _tokenizer("a tokenizer of 100,000 levels", NO_TOKENIZER, DEEP),
    _tokenizer("a pickled tokenizer", NO_TOKENIZER, lambda lab: lab.pickled()),
    _tokenizer("a tokenizer that is a number", NO_TOKENIZER, "7"),
    _tokenizer(
        "ids up to 1e9",
        "1,000,000,000",
        json.dumps(
            {"model": {"type": "WordLevel", "vocab": {"a": 10**9}, "unk_token": "a"}}
        ),
    ),
    _tokenizer(
        "a tokenizer without tokens",
        "vocab_size must be a positive integer, given 0",
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
    _yaml("a configuration with a Python tag", "is not YAML", PYTHON_TAG),
    _yaml(
        "the same inside an option",
        "is not YAML",
        "trainer:\n  max_steps: " + PYTHON_TAG,
    ),
    _yaml("a configuration of 100,000 levels", "is not YAML", DEEP),
    Case(
        "a configuration at a URL",
        lambda lab: _fresh(lab, f"--config {lab.url('c.yaml')}"),
        "c.yaml: No such file",
    ),
    Case(
        "a text at a URL",
        lambda lab: _fresh(lab, f"--data.path {lab.url('t.txt')}"),
        "no such file or folder",
    ),
    Case(
        "a plugin at a URL",
        lambda lab: _fresh(lab, f"--plugin {lab.url('p.py')}"),
        "no such Python file",
    ),
    Case(
        "a source at a URL",
        lambda lab: f"{SOURCE} {lab.url('m')} --data.path {lab.text}",
        "no name of the Hugging Face hub",
        needs="transformers",
    ),
    Case(
        "a corpus that is a path",
        lambda lab: _fresh(lab, "--data.corpus ../../etc/passwd"),
        "../../etc/passwd",
    ),
    Case(
        "a model that is a path",
        lambda lab: f"check ../../{lab.folder.name}/evil",
        "unknown model",
    ),
    Case(
        "a new model that is a path",
        lambda lab: f"new ../evil --folder {lab.place()}",
        "is no name for a model",
    ),
    Case(
        "a run that is gone on from by a URL",
        lambda lab: resume(lab.url("run", "ftp")),
        "only local files",
    ),
    Case(
        "a run that is measured by a URL",
        lambda lab: measure("s3://bucket/run"),
        "only local files",
    ),
]
