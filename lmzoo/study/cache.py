"""What was found, kept: one JSON file a step, under a key of all that decides it."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmzoo import __version__, runs
from lmzoo.files import write_json
from lmzoo.report.finding import Finding
from lmzoo.study.recipe import is_path
from lmzoo.study.steps import Step

FORMAT = 1


def key(step: Step) -> str:
    """A fingerprint of the probe, its options, its checkpoints and its texts."""
    told = {
        "format": FORMAT,
        "lmzoo": __version__,
        "probe": step.probe,
        "options": step.options,
        "checkpoints": [
            {file.name: runs.stated_digest(file) for file in runs.newest_first(path)}
            for path in step.runs
        ],
        "subject": [] if step.runs else [_text(word) for word in step.subject],
    }
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read(folder: Path, step: Step) -> Finding | None:
    """What was found before, if nothing that decides it has changed."""
    file = _file(folder, step)
    with suppress(OSError, ValueError, TypeError, KeyError):  # a damaged file is redone
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["key"] == key(step):
            return Finding.read(content["finding"])
    return None


def write(folder: Path, step: Step, found: Finding) -> Finding:
    """Keep it; returns it as it would be read again."""
    write_json(_file(folder, step), {"key": key(step), "finding": found.plain()})
    return read(folder, step) or found


def _file(folder: Path, step: Step) -> Path:
    return folder / f"{step.name}.json"


def _text(corpus: str) -> Any:
    """A named corpus by its name, a file by its content."""
    path = Path(corpus)
    if is_path(corpus) and path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return corpus
