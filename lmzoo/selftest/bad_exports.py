"""Exports, transformers folders and GGUF files that lie, or want code to run."""

import json
import struct
from pathlib import Path
from typing import Any

from lmzoo import portable, runs
from lmzoo.export import export
from lmzoo.selftest.lab import EVIL, Case, Lab, generate

GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 29}
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


def _header(name: str, header: Any, body: bytes = b"", size: int | None = None) -> Case:
    """An export whose safetensors file begins with another header."""

    def make(lab: Lab) -> str:
        folder = _folder(lab)
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        length = struct.pack("<Q", len(raw) if size is None else size)
        weights = folder / portable.WEIGHTS
        weights.write_bytes(length + raw + body)
        _rehash(folder)
        return generate(folder)

    return Case(name, make)


def _rehash(folder: Path, **changes: Any) -> None:
    file = folder / portable.CONFIG
    config = json.loads(file.read_text())
    config["sha256"] = portable.digest(folder / portable.WEIGHTS)
    config["arguments"].update(changes.pop("arguments", {}))
    file.write_text(json.dumps({**config, **changes}))


def _config(name: str, **changes: Any) -> Case:
    def make(lab: Lab) -> str:
        folder = _folder(lab)
        _rehash(folder, **changes)
        return generate(folder)

    return Case(name, make)


def _tensor(offsets: list[int], shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


def _with_pickle(lab: Lab) -> str:
    folder = _folder(lab)
    (folder / portable.WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(
        f"cio\nopen\n(V{lab.marker}\nVw\ntR.".encode()
    )
    return generate(folder)


def _foreign(name: str, config: dict[str, Any], **more: Any) -> Case:
    """A folder as of the transformers library, with weights that do not matter."""

    def make(lab: Lab) -> str:
        folder = _folder(lab)
        _write_tokenizer(folder)
        (folder / portable.CONFIG).write_text(json.dumps(config))
        (folder / "modeling_evil.py").write_text((lab.folder / "evil.py").read_text())
        return generate(folder)

    return Case(name, make, needs="transformers", **more)


def _write_tokenizer(folder: Path) -> None:
    vocabulary = {chr(97 + n): n for n in range(26)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}
    spec = {"version": "1.0", "added_tokens": [], "model": model}
    (folder / portable.TOKENIZER).write_text(json.dumps(spec))


def _index(lab: Lab) -> str:
    folder = _folder(lab)
    _write_tokenizer(folder)
    (folder / portable.WEIGHTS).unlink()
    (folder / portable.CONFIG).write_text(json.dumps(GPT2))
    index = {"weight_map": {"a": "../../run/model.safetensors"}}
    (folder / portable.INDEX).write_text(json.dumps(index))
    return generate(folder)


EXPORTS = [
    _header("a header of 2 to the 60 bytes", b"{}", size=1 << 60),
    _header("a header that is no JSON", b"\x80\x02cio\nopen\n."),
    _header("tensors out of range", {"a": _tensor([0, 1 << 40], [1 << 38])}),
    _header(
        "tensors that overlap",
        {"a": _tensor([0, 4], [1]), "b": _tensor([0, 4], [1])},
        bytes(4),
    ),
    _header("a negative shape", {"a": _tensor([0, 4], [-1])}, bytes(4)),
    _header("a shape whose product overflows", {"a": _tensor([0, 4], [1 << 62, 8])}),
    _header("no tensor at all", {}),
    _config("an export's class path", arguments={"bias": EVIL}),
    _config("an export of a foreign class", model="evil.Trap"),
    _config("an export of a thousand million layers", arguments={"num_layers": 10**9}),
    _config("an export's width of 1e12", arguments={"d_model": 10**12}),
    Case("a pickle among an export's files", _with_pickle),
    _foreign(
        "a model that brings its code",
        {**GPT2, "auto_map": {"AutoModelForCausalLM": "modeling_evil.Trap"}},
    ),
    _foreign(
        "a kernel of somebody's from the hub",
        {
            **GPT2,
            "scale_attn_by_inverse_layer_idx": True,
            "attn_implementation": "evil/kernel",
        },
    ),
    _foreign("a model of 1e9 layers", {**GPT2, "n_layer": 10**9}),
    _foreign("a llama of 1e9 layers", {**LLAMA, "num_hidden_layers": 10**9}),
    _foreign("a llama of width 1e12", {**LLAMA, "hidden_size": 10**12}),
    _foreign(
        "a context of 1e12 for a llama", {**LLAMA, "max_position_embeddings": 10**12}
    ),
    _foreign("a model type that is a path", {**LLAMA, "model_type": "../../evil"}),
    Case("an index that leads out of the folder", _index, needs="transformers"),
]


# ---- GGUF ----------------------------------------------------------------------------


def _gguf(name: str, content: bytes) -> Case:
    def make(lab: Lab) -> str:
        path = lab.place() / "model.gguf"
        path.write_bytes(content)
        return generate(path)

    return Case(name, make, needs="gguf")


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
    _gguf("a GGUF whose merges make no token", _gguf_bytes(SHAPE, merges="z z")),
    _gguf("a GGUF whose merge is one word", _gguf_bytes(SHAPE, merges="ab")),
    _gguf("a pickle called .gguf", b"cio\nopen\n(V/tmp/x\nVw\ntR."),
    _gguf("a GGUF of 2 to the 60 tensors", _gguf_bytes(SHAPE, 1 << 60)),
    _gguf("a GGUF cut short", _gguf_bytes(SHAPE)[:90]),
    _gguf("a GGUF of 4e9 layers", _gguf_bytes({**SHAPE, "block_count": 4 * 10**9})),
    _gguf("a GGUF of width 4e9", _gguf_bytes({**SHAPE, "embedding_length": 4 * 10**9})),
]


CASES = [*EXPORTS, *GGUFS]
