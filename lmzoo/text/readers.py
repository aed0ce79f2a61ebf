"""Files as normalised text: UTF-8 checked, line ends made LF, one megabyte at a time.

A file is an iterator of documents, a document an iterator of ``str`` pieces. Plain text
is one document; each row of a table (csv, tsv, jsonl) is one. ``.gz`` of each is read.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lmzoo.errors import UsageError
from lmzoo.files import require_regular
from lmzoo.report.words import some
from lmzoo.text.tables import json_rows, table

SHOWN = 40  # characters of a name
PIECE = 1 << 20  # bytes read, and characters yielded, at a time
TEXT_SUFFIXES = (".txt", ".text", ".md")
CSV_SUFFIXES = (".csv", ".tsv")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
KNOWN_SUFFIXES = TEXT_SUFFIXES + CSV_SUFFIXES + JSON_SUFFIXES


class Notes:
    """What was changed or left out while reading: one line for each kind.

    Reading the same file again adds nothing, so a corpus may be read in several passes.
    """

    def __init__(self) -> None:
        self._found: dict[str, dict[str, str]] = {}

    def add(self, what: str, where: str, detail: str = "") -> None:
        """Remember that ``what`` happened in the file ``where``."""
        self._found.setdefault(what, {})[where] = detail

    def lines(self) -> list[str]:
        """One line for each kind, naming the first three files."""
        return [self._line(what, found) for what, found in self._found.items()]

    @staticmethod
    def _line(what: str, found: dict[str, str]) -> str:
        named = [
            f"{where} ({detail})" if detail else where
            for where, detail in list(found.items())[:3]
        ]
        more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
        return f"{what}: {', '.join(named)}{more}"


def suffix_of(path: Path) -> str:
    """The lower-case suffix that tells the format, the ``.gz`` set aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def documents(
    path: Path, text_column: str | None, notes: Notes
) -> Iterator[Iterable[str]]:
    """The documents of one file: itself, or the rows of a table.

    Raises:
        UsageError: not a readable regular file, not UTF-8, or a malformed table.
    """
    suffix = suffix_of(path)
    pieces = read_text(path, notes)
    if suffix in CSV_SUFFIXES:
        rows = _csv_rows(path, text_column, notes)
    elif suffix in JSON_SUFFIXES:
        rows = _json_rows(pieces, text_column, str(path), notes)
    else:
        yield pieces
        return
    for row in rows:
        yield (row[i : i + PIECE] for i in range(0, len(row), PIECE))


def read_text(path: Path, notes: Notes) -> Iterator[str]:
    """Stream the normalised text of a UTF-8 file (or its ``.gz``).

    Raises:
        UsageError: missing, not a regular file, unreadable, binary, or not UTF-8.
    """
    try:
        require_regular(path)
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rb") as packed:
                yield from _decode(iter(lambda: packed.read(PIECE), b""), path, notes)
        else:
            with open(path, "rb") as plain:
                yield from _decode(iter(lambda: plain.read(PIECE), b""), path, notes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(
            f"{path}: not a whole gzip file ({error}); pack it again or unpack it first"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and "
            "its permissions"
        ) from error


def read_stream(stream: BinaryIO, name: str, notes: Notes) -> Iterator[str]:
    """As ``read_text``, of an open stream that messages call ``name``.

    Raises:
        UsageError: unreadable, binary or not UTF-8.
    """
    try:
        yield from _decode(iter(lambda: stream.read(PIECE), b""), Path(name), notes)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror})") from error


def _decode(blocks: Iterable[bytes], path: Path, notes: Notes) -> Iterator[str]:
    """UTF-8 bytes to text with LF line ends."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    begin = 0  # bytes of the file before this block
    held = ""  # a CR at the end of a block may be half of a CRLF
    for block in blocks:
        if begin == 0:
            _refuse_utf16(block, path)
            if block.startswith(codecs.BOM_UTF8):
                block, begin = block[3:], 3
                notes.add("byte order mark dropped", str(path))
        if (nul := block.find(0)) >= 0:
            raise UsageError(
                f"{path}: NUL byte at offset {begin + nul:,}, so a binary (or UTF-16) "
                "file; give UTF-8 text"
            )
        text = held + _decode_block(decoder, block, begin, path)
        held = "\r" if text.endswith("\r") else ""
        if held:
            text = text[:-1]
        if "\r\n" in text:
            text = text.replace("\r\n", "\n")
            notes.add("CRLF line ends read as LF", str(path))
        begin += len(block)
        if text:
            yield text
    _decode_block(decoder, b"", begin, path, final=True)
    if held:
        yield held


def _decode_block(
    decoder: codecs.IncrementalDecoder,
    block: bytes,
    begin: int,
    path: Path,
    final: bool = False,
) -> str:
    pending, _ = decoder.getstate()
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        where = begin - len(pending) + error.start
        raise UsageError(
            f"{path}: not UTF-8: byte 0x{error.object[error.start]:02x} at offset "
            f"{where:,}; convert it, e.g. iconv -f latin1 -t utf-8"
        ) from error


def _refuse_utf16(block: bytes, path: Path) -> None:
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(
            f"{path}: is UTF-16 (by its byte order mark); convert it with "
            "iconv -f utf-16 -t utf-8"
        )


def split_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines with their LF; a long line is joined once, not once a piece."""
    parts: list[str] = []
    for piece in pieces:
        lines = piece.split("\n")
        parts.append(lines[0])
        if len(lines) > 1:
            yield "".join(parts) + "\n"
            for line in lines[1:-1]:
                yield line + "\n"
            parts = [lines[-1]]
    if last := "".join(parts):
        yield last


def cells(path: Path, notes: Notes) -> Iterator[tuple[int, list[str]]]:
    """The rows of a csv or tsv file, each with the number of its last line.

    Raises:
        UsageError: as ``read_text``, or not csv.
    """
    lines = split_lines(read_text(path, notes))
    return table(lines, str(path), tabbed=suffix_of(path) == ".tsv")


def _csv_rows(path: Path, wanted: str | None, notes: Notes) -> Iterator[str]:
    """The text column of each row; the first row is the header."""
    rows = cells(path, notes)
    _, header = next(rows, (0, []))
    column = _csv_column(header, wanted, str(path), notes)
    short = 0
    for _, row in rows:
        if len(row) > column:
            yield row[column]
        else:
            short += 1
    if short:
        notes.add("rows without the text column left out", str(path), f"{short:,} rows")


def _csv_column(header: list[str], wanted: str | None, where: str, notes: Notes) -> int:
    name = wanted or "text"
    if name in header:
        notes.add(f"text taken from the column {name!r}", where)
        return header.index(name)
    _refuse_guess(header, wanted, "column", where)
    first = header[0] if header else ""
    notes.add(
        f"no column {name!r}, so the first column is taken and the first row read as "
        "the header",
        where,
        f"it is called {first[:SHOWN]!r}",
    )
    return 0


def _refuse_guess(names: list[str], wanted: str | None, kind: str, where: str) -> None:
    """Refuse to guess where a name was typed.

    Raises:
        UsageError: one was, and there is no such name.
    """
    if wanted is not None:
        there = some([repr(name[:SHOWN]) for name in names]) or "none"
        raise UsageError(
            f"{where}: no {kind} {wanted!r}, but {there}; name one of them with "
            f"--data.text_column"
        )


def _json_rows(
    pieces: Iterable[str], wanted: str | None, where: str, notes: Notes
) -> Iterator[str]:
    """The text field of each JSON object, one object a line."""
    column = ""
    for number, row in json_rows(split_lines(pieces), where):
        column = column or _json_column(row, wanted, where, notes)
        yield _json_field(row, column, where, number)


def _json_column(
    row: dict[str, Any], wanted: str | None, where: str, notes: Notes
) -> str:
    name = wanted or "text"
    if name in row:
        notes.add(f"text taken from the field {name!r}", where)
        return name
    _refuse_guess(list(row), wanted, "field", where)
    for key, value in row.items():
        if isinstance(value, str):
            notes.add(f"no field {name!r}, so {key!r} is taken", where)
            return key
    raise UsageError(
        f"{where}: the first row has no text field; name it with --data.text_column"
    )


def _json_field(row: dict[str, Any], column: str, where: str, number: int) -> str:
    value = row.get(column)
    if value is None and column in row:
        return ""
    if not isinstance(value, str):
        raise UsageError(
            f"{where}: line {number:,} has no text in {column!r}; repair the row or "
            "name another field with --data.text_column"
        )
    value = value.replace("\r\n", "\n")
    if value.isascii():
        return value
    # JSON may hold lone surrogates, which are not characters and have no UTF-8 form
    paired = value.encode("utf-16-le", "surrogatepass")
    return paired.decode("utf-16-le", "replace")
