"""Folders of ``config.json``, ``model.safetensors`` and ``tokenizer.json``.

Two kinds: what ``lmzoo export --to safetensors`` writes, and what the transformers
library writes. Both are read as data, into the same form as a checkpoint; a GPT-2
becomes the zoo's ``gpt``, a DistilBERT its ``encoder``, any other encoder a
``pretrained-encoder``, either with a head for sequences a ``classifier``, and any other
causal language model a ``pretrained``. A GGUF file
(llama.cpp's) holds the same in one file, and is read alike.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lmzoo import foreign, gguf
from lmzoo.errors import UsageError
from lmzoo.text.protocol import Tokenizer
from lmzoo.text.tokenizers import HFTokenizer, read_tokenizer_file

FORMAT = 1
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.bin.index.json")
INDEX = "model.safetensors.index.json"
LARGEST = 64 << 20  # bytes of a JSON file
OWN_CODE = ("auto_map", "custom_pipelines")


def is_portable(path: Path) -> bool:
    """Whether ``path`` looks like such a folder or file, sound or not."""
    if path.suffix == gguf.SUFFIX:
        return path.is_file()
    marks = (CONFIG, WEIGHTS, INDEX, *PICKLES)
    return path.is_dir() and any((path / mark).is_file() for mark in marks)


def read(folder: Path, as_is: bool = False) -> dict[str, Any]:
    """The content of a folder, or of a GGUF file, as a checkpoint holds it.

    Args:
        folder: of either kind, or the file.
        as_is: a GPT-2 stays what transformers makes of it, and does not become a gpt.

    Raises:
        UsageError: a file is missing, damaged, or would have to run code.
    """
    if folder.suffix == gguf.SUFFIX and folder.is_file():
        config, tensors, text = gguf.read(folder)
        tokenizer = HFTokenizer.from_json(text)
        return _checkpoint(config, tensors, tokenizer, folder, as_is=True)
    config = read_json(folder / CONFIG)
    if config.get("format") == "lmzoo":
        return _own(folder, config)
    if isinstance(config.get("model_type"), str):
        return _foreign(folder, config, as_is)
    raise UsageError(
        f"{folder / CONFIG} is neither lmzoo's nor that of a transformers model, for "
        f"it has no model_type"
    )


def _own(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    if config.get("format_version") != FORMAT:
        raise UsageError(
            f"{folder / CONFIG} has format {config.get('format_version')!r}, this "
            f"lmzoo reads {FORMAT}; upgrade lmzoo"
        )
    for key, kind in (("model", str), ("arguments", dict), ("sha256", str)):
        if not isinstance(config.get(key), kind):
            raise UsageError(f"{folder / CONFIG}: {key!r} is missing; it is damaged")
    tensors = read_tensors(folder)
    if digest(folder / WEIGHTS) != config["sha256"]:
        raise UsageError(
            f"{folder / WEIGHTS} is damaged: its SHA-256 differs from the one in "
            f"{CONFIG}; export the run again"
        )
    step = config.get("step")
    return {
        "global_step": step if isinstance(step, int) else 0,
        "state_dict": tensors,
        "lmzoo": {
            "model": config["model"],
            "arguments": config["arguments"],
            "tokenizer": read_json(folder / TOKENIZER),
            "data": config.get("data") or {},
            "training": config.get("training") or {},
            "versions": config.get("versions") or {},
        },
    }


def _foreign(folder: Path, config: dict[str, Any], as_is: bool) -> dict[str, Any]:
    for key in OWN_CODE:
        if config.get(key):
            raise UsageError(
                f"{folder / CONFIG}: {key!r} asks for code of the model's own; only "
                f"models that the transformers library itself knows are loaded"
            )
    if not (folder / TOKENIZER).is_file():
        raise UsageError(
            f"{folder} has no {TOKENIZER}: ids without their text are of no use; save "
            f"the tokenizer there with AutoTokenizer's save_pretrained"
        )
    tensors = read_tensors(folder)
    tokenizer = read_tokenizer_file(str(folder / TOKENIZER))
    return _checkpoint(config, tensors, tokenizer, folder, as_is)


def _checkpoint(
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    tokenizer: Tokenizer,
    folder: Path,
    as_is: bool,
) -> dict[str, Any]:
    size = tokenizer.vocab_size
    rows = config.get("vocab_size")
    if not isinstance(rows, int) or rows < size:
        raise UsageError(
            f"{folder}: the tokenizer has {size:,} ids and the model {rows!r} rows for "
            f"them; they do not belong together"
        )
    try:
        name, arguments, tensors = foreign.described(config, tensors, size, as_is)
    except ValueError as error:
        raise UsageError(f"{folder}: {error}; it is damaged") from error
    stored = {"model": name, "arguments": arguments, "tokenizer": tokenizer.state()}
    if name == "classifier":  # labelled texts may name labels or number them
        named = {str(i): label for i, label in enumerate(arguments["labels"])}
        stored["data"] = {"name": "labelled", "described": {"labels": named}}
    return {"global_step": 0, "state_dict": tensors, "lmzoo": stored}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors``, by name.

    Raises:
        UsageError: missing, damaged, or only there in a form that can run code.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        for name in PICKLES:
            if (folder / name).is_file():
                raise UsageError(
                    f"{folder / name} is a pickle, which can run code when it is "
                    f"loaded; save the model as {WEIGHTS} (save_pretrained does)"
                )
        if (folder / INDEX).is_file():
            return _shards(folder)
        raise UsageError(f"{file}: no such file")
    return _load(file)


def _shards(folder: Path) -> dict[str, Tensor]:
    """The tensors of several files, which an index names."""
    names = read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UsageError(f"{folder / INDEX}: no weight_map; it is damaged")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(map(str, names.values()))):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UsageError(f"{folder / INDEX}: {name!r} is no file beside it")
        if not (folder / name).is_file():
            raise UsageError(f"{folder / name}: no such file, and {INDEX} names it")
        tensors.update(_load(folder / name))
    return tensors


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{file} is damaged, or no safetensors file: {str(error)[:120]}"
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``.

    Raises:
        UsageError: missing, too large, or not a JSON object.
    """
    try:
        if file.stat().st_size > LARGEST:
            raise UsageError(f"{file}: larger than {LARGEST >> 20} MB; damaged")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON: {str(error)[:120]}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} is not a JSON object")
    return content


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """One SHA-256 of the files of a folder that are read, or of a GGUF file."""
    if path.is_file():
        return digest(path)
    files = [path / CONFIG, path / TOKENIZER, *sorted(path.glob("*.safetensors"))]
    hashed = "".join(f"{file.name} {digest(file)}\n" for file in files)
    return hashlib.sha256(hashed.encode()).hexdigest()
