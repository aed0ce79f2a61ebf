"""What was found, kept: one JSON file a step, under a key of all that decides it."""

import hashlib
import inspect
import json
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lmzoo import __version__, runs
from lmzoo.files import write_json
from lmzoo.registry import probes
from lmzoo.report.finding import Finding
from lmzoo.study.options import extra_probes
from lmzoo.study.recipe import is_path
from lmzoo.study.steps import Step

FORMAT = 2


def key(step: Step) -> str:
    """A fingerprint of the probe, its options, its checkpoints and its texts."""
    told = {
        "format": FORMAT,
        "lmzoo": __version__,
        "probe": step.probe,
        "source": _source(step) if step.probe in extra_probes() else "",
        "options": step.options,
        "checkpoints": [_digests(step, path) for path in step.runs],
        "subject": [] if step.runs else [_text(word) for word in step.subject],
    }
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(step: Step, folder: Path) -> dict[str, str]:
    """Of every checkpoint that a look at a run reads; the texts are the study's."""
    files = runs.newest_first(folder)
    if step.probe == "samples" and step.options.get("checkpoints") == "last":
        files = files[:1]
    return {file.name: runs.stated_digest(file) for file in files}


def _source(step: Step) -> list[str]:
    """Of a probe that lmzoo does not bring: its file, and its package's version."""
    file, source = inspect.getsourcefile(step.function), probes.entry(step.probe).source
    found = [hashlib.sha256(Path(file).read_bytes()).hexdigest()] if file else []
    with suppress(PackageNotFoundError, ValueError):
        found.append(version(source))
    return found


def read(folder: Path, step: Step) -> Finding | None:
    """What was found before, if nothing that decides it has changed."""
    file = _file(folder, step)
    with suppress(OSError, ValueError, TypeError, KeyError):  # a damaged file is redone
        content = json.loads(file.read_text(encoding="utf-8"))
        left = [step.makes / one for one in content["made"]] if step.makes else []
        if content["key"] == key(step) and all(file.is_file() for file in left):
            return Finding.read(content["finding"])
    return None


def write(folder: Path, step: Step, found: Finding) -> Finding:
    """Keep it; returns it as it would be read again."""
    made = sorted(step.makes.glob("*/manifest.json")) if step.makes else []
    told = {
        "key": key(step),
        "made": [str(file.relative_to(step.makes)) for file in made if step.makes],
        "finding": found.plain(),
    }
    write_json(_file(folder, step), told)
    return read(folder, step) or found


def _file(folder: Path, step: Step) -> Path:
    return folder / f"{step.name}.json"


def _text(corpus: str) -> Any:
    """A named corpus by its name, a file by its content."""
    path = Path(corpus)
    if is_path(corpus) and path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return corpus
