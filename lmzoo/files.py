"""Small files that are there whole or not at all."""

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lmzoo.errors import UsageError

ADVICE = "what was there before is untouched; free space or choose another folder"
_STALE_SECONDS = 3600.0


def require_regular(path: Path) -> None:
    """Refuse what would block or never end, before it is opened.

    Raises:
        UsageError: the path is missing, a folder, a FIFO, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; check the path") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path}: is a folder, a file was expected")
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{path}: is a pipe, socket or device; copy its text into a file first"
        )


@contextlib.contextmanager
def replacing(path: Path, advice: str = ADVICE) -> Iterator[IO[bytes]]:
    """A file that takes the name ``path`` only when all of it is on disk.

    Two writers at once are safe: each has its own temporary file, the last one wins.

    Raises:
        UsageError: the folder cannot be written, or the disk is full; with ``advice``.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write {path}: {reason}; {advice}") from error


@contextlib.contextmanager
def whole(target: Path, single: str | None = None) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its name once it is complete.

    With ``single``, only the file of that name in it does. The option that named it is
    ``--out``.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UsageError(f"--out {target}: {error.strerror or error}") from error
    try:
        yield made
        for file in made.iterdir():
            file.chmod(0o644)  # safetensors and mkdtemp write for the owner alone
            with file.open("rb") as written:
                os.fsync(written.fileno())
        made.chmod(0o755)
        (made / single if single else made).replace(target)
    except OSError as error:
        raise UsageError(f"--out {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write ``parts`` under a temporary name, sync, and rename to ``path``.

    Raises:
        UsageError: it cannot be written; nothing is left of it.
    """
    with replacing(path) as file:
        for part in parts:
            file.write(part)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, atomically; NaN and infinity become null."""
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    # half of a pair, as of a file name that is no UTF-8, is an escape in JSON too
    write_atomically(path, text.encode(errors="backslashreplace") + b"\n")


def finite(value: Any) -> Any:
    """``value`` as JSON wants it: NaN and infinity are None, arrays lists of numbers.

    Raises:
        UsageError: something that JSON has no form for.
    """
    if hasattr(value, "tolist"):  # numpy's and torch's arrays and single numbers
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    if value is not None and not isinstance(value, str | int | float):
        raise UsageError(f"{type(value).__name__} {value!r} cannot be written as JSON")
    return value


def _remove_stale(path: Path) -> None:
    """Temporary files that a killed writer left; a live one's is younger."""
    for old in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                old.unlink()


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
