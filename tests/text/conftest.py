import os
import urllib.request
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """A cache of its own for each test, no corpora folder, and no network."""
    monkeypatch.setenv("LMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LMZOO_CORPORA", raising=False)

    def refuse(*args, **kwargs):
        raise OSError("the tests have no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


_GIVEN = os.environ.get("LMZOO_CORPORA")


@pytest.fixture
def corpora(monkeypatch):
    """The folder of shared corpora, where there is one."""
    folder = Path(_GIVEN) if _GIVEN else SHARED
    if not (folder / "tinyshakespeare" / "input.txt").is_file():
        pytest.skip("no corpora folder here: set LMZOO_CORPORA to one")
    monkeypatch.setenv("LMZOO_CORPORA", str(folder))
    return folder


@pytest.fixture
def write(tmp_path):
    """Write a file below the test's folder and return its path as text."""

    def _write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        return str(path)

    return _write
