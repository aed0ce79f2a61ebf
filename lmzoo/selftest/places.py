"""File systems that are full, read-only, or not the one beside."""

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

LARGEST = 16_000  # bytes of a file, where files may not grow further


def another(folder: Path) -> Path | None:
    """A folder to write into on another file system; None where there is none."""
    here = folder.stat().st_dev
    for place in (Path("/dev/shm"), Path("/tmp"), Path.home()):
        if place.is_dir() and os.access(place, os.W_OK) and place.stat().st_dev != here:
            return place
    return None


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A file system of ``size`` bytes at ``folder``; False where it is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = _quietly("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield mounted
    finally:
        if mounted:
            _quietly("umount", folder)


def change(folder: Path, options: str) -> None:
    """Mount a small disk anew: ``size=...``, ``ro``, ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def no_large_files() -> None:
    """In this process, a file that grows too large is as one on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, hard))


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _quietly(*words: str | Path) -> bool:
    if shutil.which(str(words[0])) is None:
        return False
    done = subprocess.run([str(word) for word in words], capture_output=True)
    return done.returncode == 0
