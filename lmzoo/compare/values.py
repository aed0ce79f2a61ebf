"""What typed seeds, budgets and amounts mean, and how a value is spelled."""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

from lmzoo.errors import UsageError

FIRST_SEED = 1337


def seeds(text: str) -> tuple[int, ...]:
    """``"3"`` is three seeds from 1337 on, ``"1,2"`` are these two.

    Raises:
        UsageError: not that.
    """
    words = [word.strip() for word in str(text).split(",") if word.strip()]
    if not words or not all(re.fullmatch(r"[0-9]{1,10}", word) for word in words):
        raise UsageError(f"--seeds {text}: give how many, or a list as 1337,1338")
    if "," in str(text):
        return tuple(int(word) for word in words)
    if not 1 <= int(words[0]) <= 1000:
        raise UsageError(f"--seeds {text}: give 1 to 1000, or a list as {text},1")
    return tuple(range(FIRST_SEED, FIRST_SEED + int(words[0])))


def amount(key: str, text: Any) -> float:
    """A positive number; 800k, 1.5M and 2G are read as what they say.

    Raises:
        UsageError: naming ``key``.
    """
    found = re.fullmatch(r"([\d.]+(?:[eE][+-]?\d+)?)\s*([kKmMgGbB]?)", str(text))
    scale = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
    try:
        value = float(found[1]) * scale[found[2].lower()] if found else 0.0
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"--{key} {text}: give a number above 0")
    return value


def budget(kind: str, text: Any) -> tuple[str, float]:
    """A budget of ``kind``: steps and tokens are whole numbers."""
    value = amount(f"budget.{kind}", text)
    if kind in ("steps", "tokens"):
        if value != int(value):
            raise UsageError(f"--budget.{kind} {text}: give a whole number")
        return kind, int(value)
    return kind, value


def spelled(value: Any) -> str:
    """A value as it is typed: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def near(word: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped word, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
