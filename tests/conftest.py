"""One thread, a cache of its own, no network: every test starts from the same place."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import guard

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("LMZOO_CACHE", str(cache))


@pytest.fixture(scope="session")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where an attempt to leave this machine is noted, by whatever process.

    Processes that a test starts have the guard too: Python imports ``sitecustomize``
    before anything else.
    """
    folder = tmp_path_factory.mktemp("guard")
    source = Path(guard.__file__).read_text(encoding="utf-8")
    (folder / "sitecustomize.py").write_text(source, encoding="utf-8")
    notes = folder / "attempts"
    notes.touch()
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    patch.setenv(guard.ATTEMPTS, str(notes))
    yield notes
    patch.undo()


@pytest.fixture(autouse=True)
def _no_network(attempts: Path) -> Iterator[None]:
    """No test leaves this machine, and none may try and hide it."""
    before = attempts.read_text(encoding="utf-8")
    yield
    after = attempts.read_text(encoding="utf-8")
    assert after == before, f"tried to reach: {after.removeprefix(before)}"


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A small text with some structure: 9,200 characters, 28 symbols."""
    words = "the quick brown fox jumps over the lazy dog and sleeps\n"
    extra = "pack my box with five dozen liquor jugs\n"
    text = "".join(words if n % 3 else extra for n in range(200))
    path = tmp_path / "story.txt"
    path.write_text(text, encoding="utf-8")
    return path
