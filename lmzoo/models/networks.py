"""Networks of the transformers library, rebuilt from their ``config.json``.

Code that comes with a model is never run.
"""

from collections.abc import Mapping
from typing import Any

import torch

from lmzoo.errors import UsageError, first_line

LIMITS = ("max_position_embeddings", "n_positions", "max_sequence_length", "n_ctx")
COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
PADDING = 1  # their id of it, where the configuration names none


def positions(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a network of this configuration reads; None: it sets no limit.

    RoBERTa and its kin count positions from ``pad_token_id + 1`` on (Liu et al. 2019,
    arXiv:1907.11692, as released): of 514 rows, 512 are there for tokens.
    """
    limits = [config[key] for key in LIMITS if isinstance(config.get(key), int)]
    if not limits:
        return None
    if config.get("model_type") not in COUNTED_FROM_PADDING:
        return limits[0]
    padding = config.get("pad_token_id")
    return limits[0] - 1 - (padding if isinstance(padding, int) else PADDING)


def build(source: Mapping[str, Any], *, causal: bool) -> Any:
    """The network of a configuration, with random weights in float32.

    Args:
        source: a ``config.json``.
        causal: a language model with its head; else an encoder without one.

    Raises:
        UsageError: transformers is not installed.
        ValueError: a configuration that it does not know.
    """
    try:
        # optional: the hf extra
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    except ImportError as error:
        raise UsageError(
            "this model needs the transformers library: pip install 'lmzoo[hf]'"
        ) from error
    described = dict(source)
    kind = described.pop("model_type", None)
    for key in ("dtype", "torch_dtype", "quantization_config", "auto_map"):
        described.pop(key, None)
    auto = AutoModelForCausalLM if causal else AutoModel
    try:
        config = AutoConfig.for_model(kind, **described)
        return auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # a configuration can break the library in any way
        what = "a causal language model" if causal else "an encoder"
        raise ValueError(
            f"source: transformers cannot build {what} of type {kind!r} "
            f"({first_line(error)})"
        ) from error


def require_room(network: Any, vocab_size: int, context_length: int) -> None:
    """Refuse sizes that contradict a network's own.

    Raises:
        ValueError: more tokens than it has rows, or a longer context than it reads.
    """
    config = network.config.get_text_config()
    if config.vocab_size < vocab_size:
        raise ValueError(
            f"vocab_size must be at most the source's {config.vocab_size}, given "
            f"{vocab_size}"
        )
    limit = positions(config.to_dict())
    if limit is not None and limit < context_length:
        raise ValueError(
            f"context_length must be at most the source's {limit}, given "
            f"{context_length}"
        )
