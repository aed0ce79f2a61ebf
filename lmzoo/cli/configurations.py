"""Configuration files, and configurations that are typed inline: YAML and JSON."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lmzoo.errors import UsageError
from lmzoo.files import require_regular

MOST = 100_000  # values of a configuration


def load_yaml(text: str) -> dict[str, Any]:
    """A configuration file, or one that was typed inline as JSON.

    Raises:
        UsageError: it cannot be read, or is no mapping.
    """
    where = "inline configuration"
    if not text.lstrip().startswith("{"):
        where = text
        try:
            if Path(text).exists():
                require_regular(Path(text))
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise UsageError(f"configuration {where}: {reason}") from error
    try:
        content = yaml.load(text, Loader=_Loader)
        if sum(1 for _ in itertools.islice(_parts(content), MOST + 1)) > MOST:
            raise UsageError(f"configuration {where}: more than {MOST:,} values")
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"configuration {where} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"configuration {where}: expected sections, given no mapping")
    return content


def _parts(value: Any, above: tuple[int, ...] = ()) -> Iterator[Any]:
    """Every value inside of a value; what an alias names counts each time.

    Raises:
        yaml.YAMLError: one that holds itself.
    """
    if id(value) in above:
        raise yaml.YAMLError("a part of it is inside of itself")
    yield value
    inside = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for part in inside:
            yield from _parts(part, (*above, id(value)))


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a word; everybody means the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+"),
    list("-+0123456789"),
)


def as_json(config: dict[str, Any]) -> str:
    """One configuration as an argument for ``--config``.

    YAML reads it: of JSON's escapes it refuses the pairs of surrogates.
    """
    text = json.dumps(config, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found[0]):08x}", text)
