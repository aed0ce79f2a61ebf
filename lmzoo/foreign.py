"""What a model of the transformers library becomes here: name, arguments, tensors."""

from typing import Any

from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models import distilbert, gpt2, networks, sequence_heads

Described = tuple[str, dict[str, Any], dict[str, Tensor]]

CONTEXT = 1024  # of a model that sets no limit
ENCODERS = ("bert", "distilbert", "electra", *networks.COUNTED_FROM_PADDING)
PREFIXES = {"xlm-roberta": "roberta", "camembert": "roberta"}  # of tensors' names
RECOMPUTED = ("rotary_emb.inv_freq",)  # buffers that old files hold as well


def described(
    config: dict[str, Any], tensors: dict[str, Tensor], size: int, as_is: bool
) -> Described:
    """Registry name, constructor arguments and tensors.

    Args:
        config: the ``config.json``.
        tensors: by the names that they have in the file.
        size: of the tokenizer, at most the configuration's ``vocab_size``.
        as_is: a GPT-2 does not become a gpt.

    Raises:
        ValueError: a tensor or a setting that must be there is missing, or is none.
    """
    if config["model_type"] == "gpt2" and not as_is:
        try:
            arguments = gpt2.from_config(config)
        except UsageError:
            pass  # a variant, which transformers can run
        else:
            renamed = gpt2.from_tensors(tensors)
            rows = config["vocab_size"]
            # rows that no id points to are left out
            for name in ("token_embedding.weight", "head.weight"):
                if name in renamed and renamed[name].shape[:1] == (rows,):
                    renamed[name] = renamed[name][:size]
            return "gpt", {**arguments, "vocab_size": size}, renamed
    if _is_encoder(config):
        body = _encoder(config, tensors, size)
        if sequence_heads.of_config(config):
            return _classifier(config, tensors, body)
        return body
    kept = _lasting(tensors)
    return (
        "pretrained",
        _arguments(config, size),
        {f"network.{name}": tensor for name, tensor in kept.items()},
    )


def _classifier(
    config: dict[str, Any], tensors: dict[str, Tensor], body: Described
) -> Described:
    """A body with the file's head on it; the body alone if that is a regression."""
    names = sequence_heads.labels(config, tensors)
    if len(names) < 2:
        return body
    name, arguments, below = body
    arguments = sequence_heads.arguments(config, names, name, arguments)
    found = {
        f"body.{part}": tensor
        for part, tensor in below.items()
        if not part.startswith("head.")
    }
    return "classifier", arguments, found | sequence_heads.head_tensors(config, tensors)


def _encoder(
    config: dict[str, Any], tensors: dict[str, Tensor], size: int
) -> Described:
    if config["model_type"] == "distilbert" and distilbert.fits(config):
        arguments = {**distilbert.from_config(config), "vocab_size": size}
        return "encoder", arguments, distilbert.from_tensors(tensors, size)
    arguments = _arguments(config, size)
    return "pretrained-encoder", arguments, _of_encoder(config, _lasting(tensors))


def _is_encoder(config: dict[str, Any]) -> bool:
    """Whether a configuration is that of a bidirectional encoder."""
    if config["model_type"] not in ENCODERS:
        return False
    built = config.get("architectures") or [""]
    causal = config.get("is_decoder") or str(built[0]).endswith("CausalLM")
    return not causal


def _of_encoder(
    config: dict[str, Any], tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The encoder's own tensors, without the heads that stood on it."""
    prefix = f"{PREFIXES.get(config['model_type'], config['model_type'])}."
    if any(name.startswith(prefix) for name in tensors):
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
    left = ("pooler.", "cls.", "lm_head.", "classifier.")
    return {
        f"network.{name}": tensor
        for name, tensor in tensors.items()
        if not name.startswith(left) and not name.endswith("position_ids")
    }


def _arguments(config: dict[str, Any], size: int) -> dict[str, Any]:
    """Constructor arguments of what is rebuilt from its configuration."""
    return {
        "vocab_size": size,
        "context_length": networks.positions(config) or CONTEXT,
        "source": _plain(config),
    }


def _lasting(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t for n, t in tensors.items() if not n.endswith(RECOMPUTED)}


def _plain(config: Any) -> Any:
    """A configuration without the private keys of the library that wrote it."""
    if isinstance(config, dict):
        kept = {k: v for k, v in config.items() if not str(k).startswith("_")}
        return {key: _plain(value) for key, value in kept.items()}
    return [_plain(item) for item in config] if isinstance(config, list) else config
