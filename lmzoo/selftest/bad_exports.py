"""Exports, transformers folders and GGUF files that lie, or want code to run."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmzoo import portable, runs
from lmzoo.export import export
from lmzoo.selftest.lab import EVIL, Case, Lab, generate

LLAMA = {
    "model_type": "llama",
    "vocab_size": 29,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}


# ---- exports -------------------------------------------------------------------------


def _folder(lab: Lab) -> Path:
    """The sound run as ``lmzoo export --to safetensors`` writes it."""
    path = lab.place() / "export"
    export(runs.load(lab.run), "safetensors", path)
    return path


def _header(
    name: str,
    said: str,
    header: dict[str, Any] | Callable[[Lab], bytes],
    body: bytes = b"",
    size: int | None = None,
) -> Case:
    """An export whose safetensors file begins with another header."""

    def make(lab: Lab) -> str:
        folder = _folder(lab)
        raw = header(lab) if callable(header) else json.dumps(header).encode()
        length = struct.pack("<Q", len(raw) if size is None else size)
        weights = folder / portable.WEIGHTS
        weights.write_bytes(length + raw + body)
        _rehash(folder)
        return generate(folder)

    return Case(name, make, said)


def _rehash(folder: Path, **changes: Any) -> None:
    file = folder / portable.CONFIG
    config = json.loads(file.read_text())
    config["sha256"] = portable.digest(folder / portable.WEIGHTS)
    config["arguments"].update(changes.pop("arguments", {}))
    file.write_text(json.dumps({**config, **changes}))


def _config(name: str, said: str, **changes: Any) -> Case:
    def make(lab: Lab) -> str:
        folder = _folder(lab)
        _rehash(folder, **changes)
        return generate(folder)

    return Case(name, make, said)


def _tensor(offsets: list[int], shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


def _with_pickle(lab: Lab) -> str:
    folder = _folder(lab)
    (folder / portable.WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(lab.pickled())
    return generate(folder)


def _foreign(name: str, said: str, config: dict[str, Any], **more: Any) -> Case:
    """What ``lmzoo export --to hf`` writes, a GPT-2, with another configuration."""

    def make(lab: Lab) -> str:
        folder = _gpt2(lab)
        file = folder / portable.CONFIG
        before = {} if "model_type" in config else json.loads(file.read_text())
        file.write_text(json.dumps({**before, **config}))
        (folder / "modeling_evil.py").write_text((lab.folder / "evil.py").read_text())
        return generate(folder)

    return Case(name, make, said, needs="transformers", **more)


def _gpt2(lab: Lab) -> Path:
    folder = lab.place() / "gpt2"
    export(runs.load(lab.run), "hf", folder)
    return folder


def _index(lab: Lab) -> str:
    folder = _gpt2(lab)
    (folder / portable.WEIGHTS).unlink()
    index = {"weight_map": {"a": "../../run/model.safetensors"}}
    (folder / portable.INDEX).write_text(json.dumps(index))
    return generate(folder)


DAMAGED = "or no safetensors file"
BY_GGUF = "transformers cannot read this GGUF file"
EXPORTS = [
    Case("a sound export", lambda lab: generate(_folder(lab))),
    _header(
        "a header of 2 to the 60 bytes",
        DAMAGED,
        lambda lab: b"{}",
        size=1 << 60,
    ),
    _header("a header that is a pickle", DAMAGED, lambda lab: lab.pickled()),
    _header("tensors out of range", DAMAGED, {"a": _tensor([0, 1 << 40], [1 << 38])}),
    _header(
        "tensors that overlap",
        DAMAGED,
        {"a": _tensor([0, 4], [1]), "b": _tensor([0, 4], [1])},
        bytes(4),
    ),
    _header("a negative shape", DAMAGED, {"a": _tensor([0, 4], [-1])}, bytes(4)),
    _header(
        "a shape whose product overflows",
        DAMAGED,
        {"a": _tensor([0, 4], [1 << 62, 8])},
    ),
    _header("no tensor at all", "is missing", {}),
    _config("an export's class path", "could name code", arguments={"bias": EVIL}),
    _config("an export of a foreign class", "is unknown here", model="evil.Trap"),
    _config(
        "an export of ten thousand layers",
        "ask for more than",
        arguments={"num_layers": 10**4},
    ),
    _config(
        "an export's width of 1e12",
        "cannot be built from its arguments",
        arguments={"d_model": 10**12},
    ),
    Case("a pickle among an export's files", _with_pickle, "is a pickle"),
]
FOREIGN = [
    _foreign("a sound GPT-2", "", {}),
    _foreign(
        "a model that brings its code",
        "asks for code of the model's own",
        {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Trap"}},
    ),
    _foreign(
        "a kernel of somebody's from the hub",
        "",
        {
            "scale_attn_by_inverse_layer_idx": True,
            "attn_implementation": "evil/kernel",
            "_attn_implementation": "evil/kernel",
        },
        fresh=True,
    ),
    _foreign("a model of 1e9 layers", "at most 10,000", {"n_layer": 10**9}),
    _foreign(
        "a llama of 1e9 layers",
        "ask for more than",
        {**LLAMA, "num_hidden_layers": 10**9},
    ),
    _foreign(
        "a llama of width 1e12",
        "transformers cannot build",
        {**LLAMA, "hidden_size": 10**12},
    ),
    _foreign(
        "a context of 1e12 for a llama",
        "do not fit its own description",
        {**LLAMA, "max_position_embeddings": 10**12},
    ),
    _foreign(
        "a model type that is a path",
        "transformers cannot build",
        {**LLAMA, "model_type": "../../evil"},
    ),
    Case(
        "an index that leads out of the folder",
        _index,
        "is no file beside it",
        needs="transformers",
    ),
]


# ---- GGUF ----------------------------------------------------------------------------


def _gguf(name: str, said: str, content: bytes) -> Case:
    return Case(name, lambda lab: _read_gguf(lab, content), said, needs="gguf")


def _read_gguf(lab: Lab, content: bytes) -> str:
    path = lab.place() / "model.gguf"
    path.write_bytes(content)
    return generate(path)


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _gguf_bytes(
    numbers: dict[str, int], tensors: int = 0, merges: str = "a b"
) -> bytes:
    """A GGUF file of version 3 that describes a llama over three tokens."""
    tokens = b"".join(map(_text, ("a", "b", "ab")))
    pairs = [
        _text("general.architecture") + struct.pack("<I", 8) + _text("llama"),
        _text("tokenizer.ggml.model") + struct.pack("<I", 8) + _text("gpt2"),
        _text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + tokens,
        _text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, 1) + _text(merges),
    ]
    for key, value in numbers.items():
        pairs.append(_text(f"llama.{key}") + struct.pack("<II", 4, value))
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs))
    return head + b"".join(pairs) + bytes(64)


SHAPE = {
    "block_count": 1,
    "embedding_length": 16,
    "context_length": 16,
    "feed_forward_length": 32,
    "attention.head_count": 2,
    "attention.head_count_kv": 2,
}
GGUFS = [
    _gguf(
        "a GGUF whose merges make no token", BY_GGUF, _gguf_bytes(SHAPE, merges="z z")
    ),
    _gguf("a GGUF whose merge is one word", BY_GGUF, _gguf_bytes(SHAPE, merges="ab")),
    Case(
        "a pickle called .gguf",
        lambda lab: _read_gguf(lab, lab.pickled()),
        "does not begin with GGUF",
        needs="gguf",
    ),
    _gguf(
        "a GGUF of 2 to the 60 tensors",
        "tensors are announced",
        _gguf_bytes(SHAPE, 1 << 60),
    ),
    _gguf("a GGUF cut short", "entries are announced", _gguf_bytes(SHAPE)[:90]),
    _gguf(
        "a GGUF of 4e9 layers",
        "ask for more than",
        _gguf_bytes({**SHAPE, "block_count": 4 * 10**9}),
    ),
    _gguf(
        "a GGUF of width 4e9",
        BY_GGUF,
        _gguf_bytes({**SHAPE, "embedding_length": 4 * 10**9}),
    ),
]
