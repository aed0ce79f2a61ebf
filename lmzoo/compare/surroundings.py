"""The machine and the commit that a result was made with."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import lmzoo


def machine() -> dict[str, Any]:
    """Processor, cores and memory in bytes."""
    info, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if info.is_file():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        memory = None
    return {"cpu": name, "cores": os.cpu_count(), "memory": memory}


def commit() -> str | None:
    """The commit that lmzoo is run from, "+" if files differ from it; None if none."""
    package = Path(lmzoo.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not somebody's environment
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
