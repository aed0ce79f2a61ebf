"""A run in a form for others: safetensors, a transformers folder, ONNX.

    safetensors  any model: its own description and tensors, for ``lmzoo.load``
    hf           gpt as a GPT-2, pretrained as what it was: for plain transformers
    onnx         any model's forward, as far as ONNX has its operations

What is written appears whole under its name or not at all.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from lmzoo import onnx, portable
from lmzoo.errors import UsageError
from lmzoo.files import whole, write_json
from lmzoo.generation import never_made
from lmzoo.models import gpt2, lora
from lmzoo.runs import Run
from lmzoo.text.exchange import library_tokenizer

Format = Literal["safetensors", "hf", "onnx"]
PLACES = ("path", "val_path", "test_path")  # of files, which are nobody else's business


def export(run: Run, to: Format, out: str | os.PathLike[str]) -> list[str]:
    """Write ``run`` in another form.

    Args:
        run: what ``lmzoo.load`` gives.
        to: ``safetensors``, ``hf`` or ``onnx``.
        out: the folder, or for onnx the file, to be made; an empty folder is filled.

    Returns:
        Lines worth saying about what was written.

    Raises:
        UsageError: an unknown format, a model that has no such form (and why), or a
            target that is there already.
    """
    if to not in WRITERS:
        raise UsageError(f"--to {to}: choose {', '.join(get_args(Format))}")
    target = Path(out)
    if target.is_file() or (
        target.is_dir() and (to == "onnx" or any(target.iterdir()))
    ):
        raise UsageError(f"--out {target} is there already; choose another name")
    with whole(target, single="model.onnx" if to == "onnx" else None) as folder:
        return WRITERS[to](run, folder)


def write_safetensors(run: Run, folder: Path) -> list[str]:
    """Weights, description and tokenizer, in three files for ``lmzoo.load``.

    A tensor that is shared (a tied head) is stored once; the model that is built from
    the description ties it again.
    """
    file = folder / portable.WEIGHTS
    save_file(_distinct(run.member), file, metadata={"format": "pt"})
    data = dict(run.stored.get("data") or {})
    arguments = data.get("arguments") or {}
    data["arguments"] = {k: v for k, v in arguments.items() if k not in PLACES}
    write_json(
        folder / portable.CONFIG,
        {
            "format": "lmzoo",
            "format_version": portable.FORMAT,
            "model": run.stored["model"],
            "arguments": run.stored["arguments"],
            "step": run.step,
            "sha256": portable.digest(file),
            "data": data,
            "training": run.stored.get("training") or {},
            "versions": run.stored.get("versions") or {},
        },
    )
    _write_plain(folder / portable.TOKENIZER, run.stored["tokenizer"])
    if run.member.counting:
        return ["its tables hold stretches of the training text: share it as that text"]
    return []


def write_hf(run: Run, folder: Path) -> list[str]:
    """A folder for AutoModelForCausalLM and AutoTokenizer.

    Raises:
        UsageError: a model that transformers has no counterpart of.
    """
    name = run.stored["model"]
    model: Any = run.model
    state = _distinct(model)
    if name == "gpt":
        try:
            config = gpt2.to_config(model.arguments)
        except UsageError as error:
            raise UsageError(f"--to hf: this gpt is no GPT-2: {error}") from error
        tensors = gpt2.to_tensors(state)
    elif name == "pretrained":
        config = dict(model.arguments["source"] or {})
        tensors = _once(lora.merged(model.network))
    else:
        raise UsageError(
            f"--to hf: transformers has no counterpart of a {name!r}; hf takes gpt and "
            f"pretrained, safetensors and onnx take every model"
        )
    tokenizer = run.tokenizer
    library = library_tokenizer(tokenizer)
    ends = {"bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.eod_id}
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(tensors, folder / portable.WEIGHTS, metadata={"format": "pt"})
    _write_plain(folder / portable.CONFIG, {**config, **ends})
    if tokenizer.start_id is not None and library.post_processor is None:
        start = tokenizer.symbols()[tokenizer.start_id]
        library.post_processor = TemplateProcessing(
            single=[start, "$A"], special_tokens=[(start, tokenizer.start_id)]
        )
    never = never_made(model, tokenizer)
    decoding = {**ends, "pad_token_id": None, "suppress_tokens": never or None}
    _write_plain(folder / "generation_config.json", decoding)
    _write_plain(folder / portable.TOKENIZER, json.loads(library.to_str()))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.context_length,
        "clean_up_tokenization_spaces": False,
    }
    special = library.get_added_tokens_decoder()
    if tokenizer.eod_id in special:
        settings["eos_token"] = special[tokenizer.eod_id].content
    _write_plain(folder / "tokenizer_config.json", settings)
    return [
        f"transformers computes at most {model.context_length} tokens at a time; lmzoo "
        f"goes on past them with a moving window"
    ]


def write_onnx(run: Run, folder: Path) -> list[str]:
    """``forward`` as one ONNX file, proved equal; see ``lmzoo.onnx``."""
    return [onnx.write(run.model, folder / "model.onnx")]


WRITERS: dict[str, Callable[[Run, Path], list[str]]] = {
    "safetensors": write_safetensors,
    "hf": write_hf,
    "onnx": write_onnx,
}


def _distinct(model: Any) -> dict[str, Tensor]:
    """The model's tensors, each once, under its first name."""
    seen: set[int] = set()
    kept: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor.detach().cpu().contiguous()
    return kept


def _once(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share their memory (a tied head), each under its first name."""
    first = {_memory(tensor): name for name, tensor in reversed(tensors.items())}
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in tensors.items()
        if first[_memory(tensor)] == name
    }


def _memory(tensor: Tensor) -> tuple[int, torch.Size]:
    """What tells two tensors' memory apart."""
    return tensor.data_ptr(), tensor.shape


def _write_plain(file: Path, value: Any) -> None:
    """JSON in which no character is changed on its way."""
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
