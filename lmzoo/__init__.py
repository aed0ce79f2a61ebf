"""lmzoo: train small language models, compare them honestly, see what they learned.

The public names load on first use, so that ``import lmzoo`` imports no torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "LanguageModel": "lmzoo.models.base",
    "TextDataModule": "lmzoo.text.datamodule",
    "check_model": "lmzoo.testing",
    "load": "lmzoo.runs",
    "register_model": "lmzoo.registry",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lmzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
