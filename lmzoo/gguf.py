"""GGUF files (llama.cpp's format): configuration, tensors and tokenizer in one file.

The transformers library and the ``gguf`` package (extra ``hf``) read them; quantized
tensors come back as float32, as near to what they were as the file holds them.
"""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from lmzoo import gguf_header
from lmzoo.errors import UsageError, first_line
from lmzoo.rebuild import limited

SUFFIX = ".gguf"


def read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """The content of a GGUF file as transformers names it.

    Returns:
        The configuration, the tensors by name, and the text of a ``tokenizer.json``.

    Raises:
        UsageError: no GGUF file, damaged, of an architecture that transformers does not
            read, or a package is missing.
    """
    count = gguf_header.check(file)
    try:
        # optional: the hf extra
        from transformers.integrations.gguf.gguf_tokenizer_mapping import (
            convert_gguf_tokenizer,
            get_gguf_tokenizer,
        )

        # the same
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

        # the library draws a progress bar; a command's output is its own
        with contextlib.redirect_stderr(io.StringIO()):
            config = _plain(load_gguf_checkpoint(str(file))["config"])
            architecture, described, starts = get_gguf_tokenizer(str(file))
            tokenizer, _ = convert_gguf_tokenizer(architecture, described)
            with limited(count, file):
                skeleton = _skeleton(config)
            parsed = load_gguf_checkpoint(
                str(file), return_tensors=True, model_to_load=skeleton
            )
        text = _settled(tokenizer, len(described["tokens"]), starts)
    except ImportError as error:
        raise UsageError(
            f"{file}: GGUF files need transformers and gguf: pip install 'lmzoo[hf]'"
        ) from error
    except UsageError:  # one line already
        raise
    except Exception as error:  # a damaged file can break a parser in any way
        raise UsageError(
            f"{file}: transformers cannot read this GGUF file ({first_line(error)})"
        ) from error
    return config, parsed["tensors"], text


def _settled(tokenizer: Any, rows: int, starts: dict[str, Any]) -> str:
    """The tokenizer as the file means it.

    Without tokens that the library adds of itself, for which the model has no row; with
    the start of a text in front where the file asks for it.
    """
    start = str(starts.get("bos_token")) if starts.get("add_bos_token") else ""
    known = tokenizer.token_to_id(start)
    if known is not None:
        tokenizer.post_processor = TemplateProcessing(
            single=[start, "$A"], special_tokens=[(start, known)]
        )
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if t["id"] < rows]
    return json.dumps(spec)


def _skeleton(config: dict[str, Any]) -> Any:
    """The network without memory, for the names of its tensors."""
    from transformers import AutoConfig, AutoModelForCausalLM  # the hf extra

    described = dict(config)
    whole = AutoConfig.for_model(described.pop("model_type"), **described)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(whole, trust_remote_code=False)


def _plain(value: Any) -> Any:
    """Numbers and lists as JSON has them; the file's are numpy's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
