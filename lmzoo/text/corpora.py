"""A corpus: a named stream of text pieces, and how it is cut into splits.

A corpus is never held in memory: ``Corpus.pieces`` streams it, as often as asked, with
``END_OF_DOCUMENT`` between two documents.
"""

import enum
import glob
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from lmzoo.errors import UsageError
from lmzoo.text.named import Documents, named_documents
from lmzoo.text.readers import (
    CSV_SUFFIXES,
    JSON_SUFFIXES,
    KNOWN_SUFFIXES,
    Notes,
    documents,
    suffix_of,
)

DEFAULT_CORPUS = "kjv"


class EndOfDocument(enum.Enum):
    """The type of the one mark between two documents."""

    END = enum.auto()


END_OF_DOCUMENT: Final = EndOfDocument.END
Piece = str | EndOfDocument


class Corpus:
    """Text under a name, read in pieces.

    Args:
        name: safe as a folder's name.
        source: what the user would recognise, for messages.
        read: gives the documents, each an iterable of pieces; called for every pass.
        keep_linebreaks: False turns each line end into a space.
    """

    def __init__(
        self, name: str, source: str, read: Documents, keep_linebreaks: bool = True
    ) -> None:
        self.name = name
        self.source = source
        self._read = read
        self._keep_linebreaks = keep_linebreaks
        self._notes = Notes()

    @property
    def notes(self) -> list[str]:
        """What reading changed or left out so far, one line a kind."""
        return self._notes.lines()

    def pieces(self) -> Iterator[Piece]:
        """Non-empty pieces of text, and ``END_OF_DOCUMENT`` between two documents."""
        any_before = False
        empty = 0
        for document in self._read(self._notes):
            begun = False
            for piece in document:
                if piece:
                    if any_before and not begun:
                        yield END_OF_DOCUMENT
                    any_before = begun = True
                    yield piece if self._keep_linebreaks else piece.replace("\n", " ")
            empty += not begun
        if empty and any_before:
            self._notes.add("empty documents left out", self.source, f"{empty:,}")


@dataclass(frozen=True)
class Scan:
    """What one pass over a corpus tells."""

    characters: int
    documents: int
    sha256: str


def scan(corpus: Corpus) -> Scan:
    """Count and hash the normalised text (for one document, its plain SHA-256)."""
    characters, ends, digest = 0, 0, hashlib.sha256()
    for piece in corpus.pieces():
        ends += piece is END_OF_DOCUMENT
        characters += 0 if piece is END_OF_DOCUMENT else len(piece)
        digest.update(hashed_form(piece))
    return Scan(characters, ends + (characters > 0), digest.hexdigest())


def hashed_form(piece: Piece) -> bytes:
    """The bytes by which a piece enters the hash of its corpus."""
    if piece is END_OF_DOCUMENT:
        return b"\0"
    return piece.encode("utf-8", "surrogatepass")


def split_sizes(
    characters: int, val_fraction: float, test_fraction: float
) -> dict[str, int]:
    """Characters of the contiguous splits, in exact decimal arithmetic.

    >>> split_sizes(1_115_394, 0.3, 0)
    {'train': 780775, 'val': 334619, 'test': 0}
    """
    val, test = Fraction(str(val_fraction)), Fraction(str(test_fraction))
    train = math.floor(characters * (1 - val - test))
    both = math.floor(characters * (1 - test))
    return {"train": train, "val": both - train, "test": characters - both}


def split_pieces(
    pieces: Iterable[Piece], sizes: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, Piece]]:
    """Cut a stream into consecutive splits of the given numbers of characters.

    The mark between two documents goes to the split of the document that it ends.

    Raises:
        ValueError: the stream is longer than all splits together.
    """
    waiting = iter(sizes)
    name, left = next(waiting)
    for piece in pieces:
        if piece is END_OF_DOCUMENT:
            yield name, piece
            continue
        while len(piece) > left:
            if left:
                yield name, piece[:left]
                piece = piece[left:]
            following = next(waiting, None)
            if following is None:
                raise ValueError("the text is longer than when it was counted")
            name, left = following
        left -= len(piece)
        yield name, piece


TABLES = CSV_SUFFIXES + JSON_SUFFIXES


def resolve_corpus(
    corpus: str | None = None,
    path: str | Sequence[str] | None = None,
    text_column: str | None = None,
    keep_linebreaks: bool = True,
    option: str = "--data.path",
) -> Corpus:
    """The corpus that the options name; the King James Bible if they name none.

    Args:
        corpus: a name (``kjv``, ``pydoc``, ``pysource``, ``tinyshakespeare``, or one
            in the folder LMZOO_CORPORA).
        path: a file, a folder, a glob, or a list of these.
        text_column: the column of csv, tsv and jsonl files.
        keep_linebreaks: False joins lines with a space.
        option: the option that gave ``path``, for messages.

    Raises:
        UsageError: both given, an unknown name, or nothing to read there.
    """
    if corpus is not None and path is not None:
        raise UsageError(
            f"--data.corpus {corpus} and {option} were both given; give one of them"
        )
    name, source = corpus or DEFAULT_CORPUS, f"corpus {corpus or DEFAULT_CORPUS}"
    if path is None:
        found = named_documents(name)
        if not isinstance(found, Path):
            return Corpus(safe_name(name), source, found, keep_linebreaks)
        path = [str(found)]
    else:
        path = [path] if isinstance(path, str) else list(path)
        if not path:
            raise UsageError(f"{option}: the list is empty; name a file or folder")
        name, source = _name_of(path), f"{option} {' '.join(path)}"
    files = [file for given in path for file in text_files(given, option)]
    other = [file for given in path for file in _other_files(given)]

    def read(notes: Notes) -> Iterator[Iterable[str]]:
        for file in other:
            notes.add("left out, not a known kind of text", str(file))
        if text_column and not any(suffix_of(file) in TABLES for file in files):
            notes.add("there is no table, so nothing reads --data.text_column", source)
        return (
            document
            for file in files
            for document in documents(file, text_column, notes)
        )

    return Corpus(safe_name(name), source, read, keep_linebreaks)


def safe_name(name: str) -> str:
    """``name`` reduced to what any file system takes: a-z, 0-9, ``_`` and ``-``."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:60] or "text"


def _name_of(paths: Sequence[str]) -> str:
    first = Path(paths[0])
    if glob.has_magic(first.name):
        first = first.parent
    stem = first.name.split(".")[0] or first.resolve().name
    return first.resolve().parent.name if stem == "input" else stem


def text_files(given: str, option: str) -> list[Path]:
    """The files that a file, a folder or a glob stands for, in path order.

    Raises:
        UsageError: there are none.
    """
    path = Path(given).expanduser()
    if given and os.path.isdir(path):
        return _folder(path, option)
    if given and os.path.exists(path):
        return [path]
    if glob.has_magic(given):
        matches = glob.glob(str(path), recursive=True)
        files = [Path(match) for match in sorted(matches) if not os.path.isdir(match)]
        if files:
            return files
        raise UsageError(f"{option} {given}: the pattern matches no file")
    raise UsageError(f"{option} {given}: no such file or folder; check the path")


def _folder(path: Path, option: str) -> list[Path]:
    """Files of a known format below a folder, in path order."""
    files = [file for file in _visible(path) if suffix_of(file) in KNOWN_SUFFIXES]
    if not files:
        raise UsageError(
            f"{option} {path}: the folder holds no text file "
            f"({', '.join(KNOWN_SUFFIXES)}, or .gz of these)"
        )
    return files


def _other_files(given: str) -> list[Path]:
    """What ``_folder`` leaves out; nothing for a file or a glob."""
    path = Path(given).expanduser()
    if not given or not os.path.isdir(path):
        return []
    return [file for file in _visible(path) if suffix_of(file) not in KNOWN_SUFFIXES]


def _visible(path: Path) -> Iterator[Path]:
    """Every file below a folder, hidden ones apart, in path order."""
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            Path(folder) / name for name in sorted(names) if not name.startswith(".")
        )
