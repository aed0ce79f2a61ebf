import os
import threading
from pathlib import Path

import numpy as np
import pytest

from lmzoo.errors import UsageError
from lmzoo.files import replacing
from lmzoo.text import store
from lmzoo.text.store import open_store, write_store

IDS = np.arange(3000, dtype=np.int32) % 700


def write(path, ids=IDS, vocab_size=700):
    chunks = [("train", ids[:1000]), ("train", ids[1000:2000]), ("val", ids[2000:])]
    write_store(path, chunks, vocab_size, lambda: {"about": "x"})


@pytest.mark.parametrize(("size", "width"), [(700, 2), (1 << 16, 2), (1 << 17, 4)])
def test_what_is_written_is_read(tmp_path, size, width):
    ids = IDS.copy()
    ids[5] = size - 1
    write(tmp_path / "a.tokens", ids, size)
    opened = open_store(tmp_path / "a.tokens")
    assert opened is not None
    assert opened.splits["train"].dtype.itemsize == width
    assert np.array_equal(opened.splits["train"], ids[:2000])
    assert np.array_equal(opened.splits["val"], ids[2000:])
    assert isinstance(opened.splits["val"], np.memmap)
    assert opened.meta == {"about": "x"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tokens"]


def test_every_flipped_byte_is_found(tmp_path):
    path = tmp_path / "a.tokens"
    write(path, IDS[:50])
    good = path.read_bytes()
    ids = np.frombuffer(good, "<u2", 50)
    for where in range(len(good)):
        bad = bytearray(good)
        bad[where] ^= 1 << where % 8
        path.write_bytes(bad)
        assert open_store(path) is None, where
        if where < 100:  # control: read without a check, the ids would be wrong
            assert not np.array_equal(np.frombuffer(bytes(bad), "<u2", 50), ids)
    path.write_bytes(good)
    assert open_store(path) is not None


def test_every_torn_file_is_found(tmp_path):
    path = tmp_path / "a.tokens"
    write(path, IDS[:50])
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        assert open_store(path) is None, size
    path.write_bytes(good + b"x")
    assert open_store(path) is None
    assert open_store(tmp_path / "absent") is None
    assert open_store(tmp_path) is None


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.tokens"
    write(path)
    before = path.read_bytes()

    def fail():
        yield "train", IDS
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_store(path, fail(), 700, dict)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(UsageError, match=r"No space left.*free space or choose"),
        replacing(tmp_path / "a"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_writers_at_once(tmp_path):
    path = tmp_path / "a.tokens"
    writers = [threading.Thread(target=write, args=(path,)) for _ in range(8)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        opened = open_store(path)
        assert opened is not None or not path.exists() or open_store(path)
    assert open_store(path) is not None
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_builder_go(tmp_path):
    old, young = tmp_path / ".a.tokens.x.tmp", tmp_path / "a.tokens.y.tmp"
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    write(tmp_path / "a.tokens")
    assert not old.exists()
    assert young.exists()  # it may be a live builder's


def test_the_cache_is_where_the_variable_says(tmp_path, monkeypatch):
    assert store.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("LMZOO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.cache_path() == tmp_path / ".cache" / "lmzoo"


def test_an_unwritable_cache_gives_a_private_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LMZOO_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(store.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.warns(UserWarning, match="cannot be written"):
        folder = store.cache_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.warns(UserWarning, match="cannot be written"):
        assert store.cache_folder() == folder


def test_another_users_temporary_folder_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(store.tempfile, "gettempdir", lambda: str(tmp_path))
    ours = store._temporary_cache()
    assert store._temporary_cache() == ours  # control: a private one is kept
    ours.chmod(0o777)
    other = store._temporary_cache()
    assert other != ours
    Path(other).rmdir()
