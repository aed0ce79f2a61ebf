"""The token store: one memory-mapped file with the token ids of all splits.

``<key>.tokens`` is the raw little-endian ids, a JSON footer (counts per split, dtype,
SHA-256 of the ids, and what the builder adds), the footer's SHA-256, its length, and a
magic number. It appears whole or not at all, and is verified when opened.
"""

import contextlib
import hashlib
import json
import os
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from lmzoo.files import replacing

_MAGIC = b"lmzoo-t1"
_TAIL = struct.Struct("<32sQ8s")  # SHA-256 of the footer, its length, the magic
_CHUNK = 1 << 20
DTYPES = ("<u2", "<u4")
_ADVICE = "free some space or point LMZOO_CACHE to another folder"


class TokenStore:
    """An opened store.

    Attributes:
        splits: name -> ids, a read-only memory map (tokens of the split,).
        meta: what the builder added to the footer.
        largest: the largest id; -1 if there is none.
    """

    def __init__(self, path: Path, footer: dict[str, Any], largest: int) -> None:
        self.path, self.largest = path, largest
        self.meta: dict[str, Any] = footer["meta"]
        self.sha256: str = footer["sha256"]
        total = sum(count for _, count in footer["splits"])
        dtype = np.dtype(footer["dtype"])
        ids = np.memmap(path, dtype, mode="r", shape=(total,)) if total else None
        self.splits: dict[str, np.ndarray] = {}
        begin = 0
        for name, count in footer["splits"]:
            empty = np.empty(0, dtype)
            self.splits[name] = empty if ids is None else ids[begin : begin + count]
            begin += count


def open_store(path: Path) -> TokenStore | None:
    """Open and verify; None when there is none, or it is torn or altered."""
    try:
        with open(path, "rb") as file:
            return TokenStore(path, *_verified_footer(file))
    except (OSError, ValueError, LookupError, TypeError, RecursionError, struct.error):
        return None


def _verified_footer(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """The footer, once it and the ids are proved to be as written; the largest id."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL.size))
    footer_digest, length, magic = _TAIL.unpack(file.read(_TAIL.size))
    ids_bytes = size - _TAIL.size - length
    if magic != _MAGIC or ids_bytes < 0:
        raise ValueError("not a whole token store")
    file.seek(ids_bytes)
    raw = file.read(length)
    if hashlib.sha256(raw).digest() != footer_digest:
        raise ValueError("the footer was altered")
    footer = json.loads(raw)
    if footer["dtype"] not in DTYPES:
        raise ValueError("not the ids of tokens")
    dtype, counts = np.dtype(footer["dtype"]), [count for _, count in footer["splits"]]
    plain = all(type(count) is int and count >= 0 for count in counts)
    if not plain or sum(counts) * dtype.itemsize != ids_bytes:
        raise ValueError("the counts do not fit the size")
    digest, left, largest = hashlib.sha256(), ids_bytes, -1
    file.seek(0)
    while left:
        block = file.read(min(_CHUNK, left))
        if not block:
            raise ValueError("torn while it was read")
        digest.update(block)
        largest = max(largest, int(np.frombuffer(block, dtype).max()))
        left -= len(block)
    if digest.hexdigest() != footer["sha256"]:
        raise ValueError("the ids were altered")
    return footer, largest


def write_store(
    path: Path,
    chunks: Iterable[tuple[str, np.ndarray]],
    vocab_size: int,
    meta: Callable[[], dict[str, Any]],
) -> None:
    """Write a store from (split, ids) chunks, each split's chunks in one run.

    Args:
        path: the final name; a temporary file beside it is used until all is on disk.
        chunks: in file order.
        vocab_size: decides between 16 and 32 bits.
        meta: called after the last chunk, JSON-plain.

    Raises:
        UsageError: the folder cannot be written, or the disk is full.
    """
    dtype = np.dtype(DTYPES[vocab_size > 1 << 16])
    counts: dict[str, int] = {}
    digest = hashlib.sha256()
    with replacing(path, _ADVICE) as file:
        for name, ids in chunks:
            data = np.ascontiguousarray(ids, dtype).data.cast("B")
            digest.update(data)
            file.write(data)
            counts[name] = counts.get(name, 0) + len(ids)
        footer = {
            "splits": list(counts.items()),
            "dtype": dtype.str,
            "sha256": digest.hexdigest(),
            "meta": meta(),
        }
        raw = json.dumps(footer).encode()
        file.write(raw)
        file.write(_TAIL.pack(hashlib.sha256(raw).digest(), len(raw), _MAGIC))


def cache_path() -> Path:
    """Where the cache should be: LMZOO_CACHE, else ``~/.cache/lmzoo``."""
    given = os.environ.get("LMZOO_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "lmzoo"


def cache_folder() -> Path:
    """The cache, or a private temporary folder (with a warning) if it is read-only."""
    folder = cache_path()
    if _writable(folder):
        return folder
    instead = _temporary_cache()
    warnings.warn(
        f"{folder}: cannot be written, so tokens are kept in {instead}; set "
        "LMZOO_CACHE to a folder of yours to keep them",
        stacklevel=2,
    )
    return instead


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary_cache() -> Path:
    """A folder that only this user can write, the same for all of their processes."""
    folder = Path(tempfile.gettempdir()) / f"lmzoo-cache-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder
    return Path(tempfile.mkdtemp(prefix="lmzoo-cache-"))
