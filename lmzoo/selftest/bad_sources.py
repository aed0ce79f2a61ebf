"""Tokenizers, caches, configurations and names that lie, or want code to run."""

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from lmzoo.selftest.bad_folders import DEEP, fresh
from lmzoo.selftest.lab import Case, Lab, measure, resume
from lmzoo.text import store

SOURCE = "fit --model pretrained --model.source"
LAUGHS = "l0: &l0 [x]\n" + "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 11)
)
PYTHON_TAG = "!!python/object/apply:builtins.open [{marker}, w]\n"


def _tokenizer(name: str, said: str, content: str | Callable[[Lab], bytes]) -> Case:
    def make(lab: Lab) -> str:
        path = lab.place() / "tokenizer.json"
        raw = content(lab) if callable(content) else content.encode()
        path.write_bytes(raw)
        return fresh(lab, f"--data.tokenizer {path}")

    return Case(name, make, said)


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
        return fresh(lab, "")

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
        return fresh(lab, f"--config {path}")

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
        "pieces of no length",
        "the tokenizer cannot cut a text",
        json.dumps(
            {
                "pre_tokenizer": {"type": "FixedLength", "length": 0},
                "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
            }
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
    _yaml("a configuration inside of itself", "is not YAML", "model: &a [*a]\n"),
    _yaml("a configuration of 1e10 values", "more than 100,000 values", LAUGHS),
    Case(
        "a configuration at a URL",
        lambda lab: fresh(lab, f"--config {lab.url('c.yaml')}"),
        "c.yaml: No such file",
    ),
    Case(
        "a text at a URL",
        lambda lab: fresh(lab, f"--data.path {lab.url('t.txt')}"),
        "no such file or folder",
    ),
    Case(
        "a plugin at a URL",
        lambda lab: fresh(lab, f"--plugin {lab.url('p.py')}"),
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
        lambda lab: fresh(lab, "--data.corpus ../../etc/passwd"),
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
