"""GPT-2's published layout and our ``gpt``: arguments and tensor names, both ways.

The layout is that of the released GPT-2 files (Radford et al. 2019) as the transformers
library reads them: linear maps of a block are kept as (in, out), the transpose of ours.
What one side can say and the other cannot is refused with the reason.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lmzoo.errors import UsageError

NAMES = {  # GPT-2's parts of a name and ours
    "transformer.wte.": "token_embedding.",
    "transformer.wpe.": "position_embedding.",
    "transformer.h.": "layers.",
    "transformer.ln_f.": "norm.",
    "lm_head.": "head.",
    ".ln_1.": ".attention_norm.",
    ".ln_2.": ".mlp_norm.",
    ".attn.c_attn.": ".attention.qkv.",
    ".attn.c_proj.": ".attention.project.",
    ".mlp.c_fc.": ".mlp.expand.",
    ".mlp.c_proj.": ".mlp.project.",
}
MASKS = (".attn.bias", ".attn.masked_bias")  # old files hold the causal mask as well
TRANSPOSED = ("qkv.weight", "expand.weight", "project.weight")
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")  # the same function
DEFAULTS = {  # what the transformers library takes where the file says nothing
    "activation_function": "gelu_new",
    "n_inner": None,
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "n_positions": 1024,
    **dict.fromkeys(DROPOUTS, 0.1),
}
FIXED = {  # GPT-2's options of which ours knows one value
    "activation_function": GELU_TANH,
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def to_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """GPT-2's configuration of a ``gpt`` with these constructor arguments.

    Raises:
        UsageError: an argument that GPT-2 has no place for.
    """
    given = dict(arguments)
    width, heads = given["d_model"], given["num_heads"]
    if given["head_bias"]:
        raise UsageError("head_bias: GPT-2's head has no bias")
    if given["d_head"] not in (None, width // heads) or width % heads:
        raise UsageError(
            f"d_head {given['d_head']}: GPT-2's heads are d_model / num_heads = "
            f"{width / heads:g} wide"
        )
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": given["vocab_size"],
        "n_positions": given["context_length"],
        "n_embd": width,
        "n_layer": given["num_layers"],
        "n_head": heads,
        "n_inner": given["d_hidden"] or 4 * width,
        "activation_function": GELU_TANH[0],
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        **dict.fromkeys(DROPOUTS, given["dropout"]),
        "tie_word_embeddings": given["tie_embeddings"],
        "use_cache": True,
        "dtype": "float32",
    }


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the ``gpt`` that is this GPT-2.

    Raises:
        UsageError: a size is missing, or the file asks for what ``gpt`` has not.
    """
    full = {**DEFAULTS, **config}
    for key, known in FIXED.items():
        if full[key] not in known:
            raise UsageError(f"{key} {full[key]!r}: gpt knows only {known[0]!r}")
    if missing := {"vocab_size", "n_embd", "n_layer", "n_head"} - set(full):
        raise UsageError(f"config.json has no {sorted(missing)[0]!r}")
    for key in DROPOUTS:
        if not isinstance(full[key], int | float):
            raise UsageError(f"{key} {full[key]!r}: expected a number")
    rates = {float(full[key]) for key in DROPOUTS}
    return {
        "vocab_size": full["vocab_size"],
        "context_length": full["n_positions"],
        "d_model": full["n_embd"],
        "num_layers": full["n_layer"],
        "num_heads": full["n_head"],
        "d_head": None,
        "d_hidden": full["n_inner"],
        "dropout": max(rates),  # one rate here, three there
        "bias": True,
        "tie_embeddings": full["tie_word_embeddings"],
        "head_bias": False,
    }


def to_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ``gpt``'s tensors under GPT-2's names; absent biases become zeros."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.T if name.endswith(TRANSPOSED) else tensor
        foreign = _renamed(name, {ours: theirs for theirs, ours in NAMES.items()})
        renamed[foreign] = tensor
        if not name.endswith(".weight") or "embedding" in name or "head" in name:
            continue
        if f"{name.removesuffix('weight')}bias" not in state:
            size = tensor.shape[-1]  # outputs, in GPT-2's order
            renamed[f"{foreign.removesuffix('weight')}bias"] = tensor.new_zeros(size)
    return renamed


def from_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """GPT-2's tensors, with or without the prefix ``transformer.``, under our names."""
    renamed = {}
    for name, tensor in state.items():
        if name.endswith(MASKS):
            continue
        whole = name.startswith(("transformer.", "lm_head."))
        ours = _renamed(name if whole else f"transformer.{name}", NAMES)
        renamed[ours] = tensor.T if ours.endswith(TRANSPOSED) else tensor
    return renamed


def _renamed(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if old.startswith(".") or name.startswith(old):
            name = name.replace(old, new, 1)
    return name
