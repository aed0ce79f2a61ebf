"""DistilBERT's published layout and our ``encoder``: arguments and tensor names.

The layout is that of the released files (Sanh et al. 2019, arXiv:1910.01108) as the
transformers library writes them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NAMES = {  # DistilBERT's parts of a name and ours
    "embeddings.word_embeddings.": "token_embedding.",
    "embeddings.position_embeddings.": "position_embedding.",
    "embeddings.LayerNorm.": "norm.",
    "transformer.layer.": "layers.",
    ".attention.q_lin.": ".attention.query.",
    ".attention.k_lin.": ".attention.key.",
    ".attention.v_lin.": ".attention.value.",
    ".attention.out_lin.": ".attention.project.",
    ".sa_layer_norm.": ".attention_norm.",
    ".ffn.lin1.": ".expand.",
    ".ffn.lin2.": ".project.",
    ".output_layer_norm.": ".mlp_norm.",
    "vocab_transform.": "head.transform.",
    "vocab_layer_norm.": "head.norm.",
    "vocab_projector.": "head.restore.",
}


def fits(config: Mapping[str, Any]) -> bool:
    """Whether the zoo's ``encoder`` computes what this configuration says."""
    return (
        config.get("activation", "gelu") == "gelu"
        and not config.get("sinusoidal_pos_embds", False)
        and all(isinstance(config.get(key), int) for key in ("dim", "n_layers"))
    )


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the ``encoder`` that is this DistilBERT."""
    return {
        "context_length": config.get("max_position_embeddings", 512),
        "d_model": config["dim"],
        "num_layers": config["n_layers"],
        "num_heads": config.get("n_heads", 12),
        "d_hidden": config.get("hidden_dim", 4 * config["dim"]),
        "dropout": config.get("dropout", 0.1),
    }


def from_tensors(
    state: Mapping[str, Tensor], size: int, mask: int = 103
) -> dict[str, Tensor]:
    """The tensors under our names, with ``size`` rows for the vocabulary.

    Where the file has no head that restores tokens, ours starts from zero biases and
    the identity; the mask vector is the row ``mask`` of the vocabulary.

    Raises:
        ValueError: the embeddings are missing, or are none, or the head's bias is none.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours = name.removeprefix("distilbert.")
        for old, new in NAMES.items():
            ours = ours.replace(old, new, 1)
        if not ours.startswith(("pre_classifier.", "classifier.", "qa_outputs.")):
            renamed[ours] = tensor
    _require(renamed, "token_embedding.weight", 2, size)
    renamed.setdefault("head.restore.bias", torch.zeros(size))
    _require(renamed, "head.restore.bias", 1, size)
    rows = renamed["token_embedding.weight"][:size]
    renamed["token_embedding.weight"] = rows
    renamed["head.restore.weight"] = rows
    renamed["head.mask"] = rows[min(mask, size - 1)].clone()
    width = rows.shape[1]
    for name, start in (
        ("head.transform.weight", torch.eye(width)),
        ("head.transform.bias", torch.zeros(width)),
        ("head.norm.weight", torch.ones(width)),
        ("head.norm.bias", torch.zeros(width)),
    ):
        renamed.setdefault(name, start)
    renamed["head.restore.bias"] = renamed["head.restore.bias"][:size]
    return renamed


def _require(renamed: Mapping[str, Tensor], ours: str, axes: int, size: int) -> None:
    """Refuse a tensor that is missing, or has not ``size`` rows on so many axes."""
    theirs = next(old for old, new in NAMES.items() if ours.startswith(new))
    name = f"{theirs}{ours.rpartition('.')[2]}"
    if ours not in renamed:
        raise ValueError(f"the tensor {name!r} is missing")
    shape = tuple(renamed[ours].shape)
    if len(shape) != axes or shape[0] < size:
        raise ValueError(
            f"the tensor {name!r} has shape {shape}; {axes} axes with {size:,} rows or "
            f"more were expected"
        )
