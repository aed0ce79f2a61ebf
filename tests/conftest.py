"""One thread, a cache of its own, no network: every test starts from the same place."""

import socket
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("LMZOO_CACHE", str(cache))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("127.0.0.1", "::1", "localhost", "local"):
            raise RuntimeError(f"a test tried to reach {host}")
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A small text with some structure: 9,200 characters, 28 symbols."""
    words = "the quick brown fox jumps over the lazy dog and sleeps\n"
    extra = "pack my box with five dozen liquor jugs\n"
    text = "".join(words if n % 3 else extra for n in range(200))
    path = tmp_path / "story.txt"
    path.write_text(text, encoding="utf-8")
    return path
