"""A second cache of token stores, for machines that share no file system.

``LMZOO_SHARED_CACHE`` is an address that fsspec knows (``s3://bucket/folder``,
``gs://...``; ``file://`` for a shared folder too slow to read from). A store that the
machine's own cache lacks is fetched from there and verified before use; one that was
built is put there for the next machine. Training always reads the machine's own
memory-mapped copy: order, resuming and speed are the same as without it.
"""

import os
import warnings
from pathlib import Path
from typing import Any

from lmzoo.errors import UsageError
from lmzoo.files import replacing

VARIABLE = "LMZOO_SHARED_CACHE"
_BLOCK = 1 << 22  # bytes at a time


def fetch(path: Path) -> bool:
    """Copy the store of this name into the machine's cache, unverified.

    Args:
        path: where it belongs in the machine's cache.

    Returns:
        Whether there is a shared cache that holds one.

    Raises:
        UsageError: the shared cache cannot be read, or the machine's not be written.
    """
    address = os.environ.get(VARIABLE)
    if not address:
        return False
    try:
        system, name = _place(address, path.name)
        if not system.exists(name):
            return False
        with system.open(name, "rb") as source, replacing(path) as target:
            while block := source.read(_BLOCK):
                target.write(block)
    except UsageError:
        raise
    except Exception as error:  # every system has its own kinds
        raise UsageError(
            f"{VARIABLE} {address}: cannot be read ({_reason(error)}); mend the "
            "address or the access, or unset it"
        ) from error
    return True


def offer(path: Path) -> None:
    """Put a store there, if there is a shared cache; a warning if that fails.

    What another machine reads while it is being written does not verify, and that
    machine builds its own.
    """
    address = os.environ.get(VARIABLE)
    if not address:
        return
    try:
        system, name = _place(address, path.name)
        system.makedirs(name.rpartition("/")[0], exist_ok=True)
        system.put_file(str(path), name)
    except Exception as error:  # every system has its own kinds
        warnings.warn(
            f"{VARIABLE} {address}: the tokens could not be put there "
            f"({_reason(error)}); this machine goes on with its own",
            stacklevel=2,
        )


def _place(address: str, name: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # slow to import, and seldom asked for

    system, folder = url_to_fs(address)
    return system, f"{folder.rstrip('/')}/{name}"


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
