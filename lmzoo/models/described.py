"""A transformers configuration as data: what could fetch or run code is left out."""

from collections.abc import Mapping
from typing import Any

NO_DATA = (
    "dtype",  # built in float32, whatever the file says
    "torch_dtype",
    "quantization_config",
    "auto_map",  # a class of the file's own
    "attn_implementation",  # may name a kernel, which the library fetches and runs
    "experts_implementation",  # the same
)


def described(source: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model type, and the rest of a configuration that is only data.

    Args:
        source: the content of a ``config.json``.
    """
    plain = _without_code(dict(source))
    return plain.pop("model_type", None), plain


def _without_code(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in NO_DATA}
        return {key: _without_code(item) for key, item in kept.items()}
    return value
