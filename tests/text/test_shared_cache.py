from pathlib import Path

import numpy as np
import pytest

from lmzoo.errors import UsageError
from lmzoo.text import preparation, shared_cache
from lmzoo.text.preparation import prepare
from lmzoo.text.settings import Settings

TEXT = "to be, or not to be, that is the question.\n" * 50


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return Settings(path=str(tmp_path / "text.txt"), tokenizer="char")


def machine(monkeypatch, folder: Path) -> None:
    """As on another machine: a cache of its own that is empty."""
    monkeypatch.setenv("LMZOO_CACHE", str(folder))


def built(monkeypatch) -> list[Path]:
    """Notes each store that is built rather than fetched."""
    seen: list[Path] = []
    build = preparation._build

    def spy(path, *rest):
        seen.append(path)
        build(path, *rest)

    monkeypatch.setattr(preparation, "_build", spy)
    return seen


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_the_second_machine_fetches_what_the_first_has_built(
    tmp_path, monkeypatch, settings, kind
):
    address = {"file": f"file://{tmp_path}/shared", "memory": "memory://tokens"}[kind]
    monkeypatch.setenv("LMZOO_SHARED_CACHE", address)
    seen = built(monkeypatch)
    machine(monkeypatch, tmp_path / "one")
    first = prepare(settings)
    machine(monkeypatch, tmp_path / "two")
    second = prepare(settings)
    assert [path.parent.name for path in seen] == ["one"]
    assert second.store.path.parent.name == "two"
    assert np.array_equal(first.tokens("train"), second.tokens("train"))
    assert second.tokenizer.state() == first.tokenizer.state()
    assert not list((tmp_path / "two").glob("*.tmp"))
    monkeypatch.delenv("LMZOO_SHARED_CACHE")  # control: without it each builds its own
    machine(monkeypatch, tmp_path / "three")
    prepare(settings)
    assert [path.parent.name for path in seen] == ["one", "three"]


def test_a_store_that_was_altered_there_is_not_used(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("LMZOO_SHARED_CACHE", f"file://{tmp_path}/shared")
    machine(monkeypatch, tmp_path / "one")
    first = prepare(settings)
    (shared,) = (tmp_path / "shared").glob("*.tokens")
    torn = bytearray(shared.read_bytes())
    torn[10] ^= 1
    shared.write_bytes(torn)
    seen = built(monkeypatch)
    machine(monkeypatch, tmp_path / "two")
    assert np.array_equal(prepare(settings).tokens("train"), first.tokens("train"))
    assert len(seen) == 1
    assert shared.read_bytes() != bytes(torn)  # and the good one was put there


def test_an_address_that_cannot_be_read_is_told_in_one_line(
    tmp_path, monkeypatch, settings
):
    machine(monkeypatch, tmp_path / "one")
    monkeypatch.setenv("LMZOO_SHARED_CACHE", "nosuch://bucket/folder")
    with pytest.raises(UsageError, match="LMZOO_SHARED_CACHE nosuch://") as raised:
        prepare(settings)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_put_there_stops_nothing(tmp_path, monkeypatch, settings):
    machine(monkeypatch, tmp_path / "one")
    (tmp_path / "shared").write_text("a file where the folder should be")
    monkeypatch.setenv("LMZOO_SHARED_CACHE", f"file://{tmp_path}/shared")
    with pytest.warns(UserWarning, match="could not be put there"):
        assert len(prepare(settings).tokens("train"))


def test_nothing_is_asked_where_no_address_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv("LMZOO_SHARED_CACHE", raising=False)
    assert shared_cache.fetch(tmp_path / "a.tokens") is False
    shared_cache.offer(tmp_path / "a.tokens")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_the_cloud_extra_is_what_these_addresses_need(kind, package):
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip(package)  # of no other extra; no bucket is asked for
    assert fsspec.get_filesystem_class(kind).__module__.startswith(package)
