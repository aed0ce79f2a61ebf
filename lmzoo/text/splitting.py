"""One text cut into two corpora: by length, by a pattern, by a field of its rows.

The unit is a line or paragraph of plain text, or a row of a table. Blank lines go with
the unit above them, so every line and every row is in exactly one of the two.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from lmzoo.errors import UsageError
from lmzoo.text.corpora import TABLES, safe_name, text_files
from lmzoo.text.labelled_files import TEXT_NAMES
from lmzoo.text.readers import (
    CSV_SUFFIXES,
    Notes,
    cells,
    read_text,
    split_lines,
    suffix_of,
)
from lmzoo.text.tables import json_rows

By = Literal["length", "regex", "field"]
Size = Literal["line", "paragraph"]


@dataclass(frozen=True)
class Unit:
    """A piece of the text that stays whole: its text and what is written of it."""

    text: str
    written: str
    row: dict[str, Any] = field(default_factory=dict)


@dataclass
class Part:
    """One of the two corpora."""

    name: str
    units: int = 0
    lines: int = 0
    characters: int = 0

    def add(self, unit: Unit) -> None:
        """Count one more."""
        self.units += 1
        self.lines += unit.written.count("\n")
        self.characters += len(unit.text)


@dataclass
class Source:
    """What is cut: files of plain text, or tables, never both."""

    files: list[Path]
    unit: Size
    column: str | None
    notes: Notes

    @classmethod
    def of(cls, paths: list[str], unit: Size, column: str | None) -> "Source":
        """Find the files.

        Raises:
            UsageError: none there, or both plain text and tables.
        """
        files = [file for path in paths for file in text_files(path, "lmzoo split")]
        tables = [file for file in files if suffix_of(file) in TABLES]
        if tables and len(tables) < len(files):
            other = next(file for file in files if file not in tables)
            raise UsageError(
                f"{tables[0]} is a table and {other} plain text; split them apart"
            )
        return cls(files, unit, column, Notes())

    @property
    def rows(self) -> bool:
        """Whether the units are rows of tables."""
        return suffix_of(self.files[0]) in TABLES

    def units(self) -> Iterator[Unit]:
        """Every unit, in the order of the files."""
        for file in self.files:
            if not self.rows:
                yield from _stretches(file, self.unit, self.notes)
                continue
            for number, row in _records(file, self.column, self.notes):
                text = self._text(row, file, number)
                line = json.dumps(row, ensure_ascii=False) + "\n"
                yield Unit(text, line, row)

    def _text(self, row: dict[str, Any], file: Path, number: int) -> str:
        usual = (key for key in row if key.strip().lower() in TEXT_NAMES)
        column = self.column or next(usual, next(iter(row), ""))
        value = row.get(column)
        if not isinstance(value, str):
            raise UsageError(
                f"{file}: row {number:,} has no text in {column!r}; name one "
                f"of {', '.join(map(repr, row))}, with --text_column"
            )
        return value


# ---- which goes where ----------------------------------------------------------------


@dataclass(frozen=True)
class Criterion:
    """Two names, and whether a unit belongs to the first."""

    names: tuple[str, str]
    first: Callable[[Unit], bool]
    said: str


def criterion(
    source: Source, by: By, at: int | None, pattern: str, name: str, value: str
) -> Criterion:
    """What decides; a threshold or a value that was not given is read off the text.

    Raises:
        UsageError: an option that is missing, or that ``by`` does not read.
    """
    given = {"at": at is not None, "pattern": pattern, "field": name, "value": value}
    reads = {"length": ("at",), "regex": ("pattern",), "field": ("field", "value")}
    for option in (option for option, set_ in given.items() if set_):
        if option not in reads[by]:
            raise UsageError(f"--{option} is not read by --by {by}; leave it out")
    if by == "length":
        return _by_length(source, at)
    return _by_regex(pattern) if by == "regex" else _by_field(source, name, value)


def _by_length(source: Source, at: int | None) -> Criterion:
    if at is not None and at < 0:
        raise UsageError(f"--at {at}: give a number of characters, 0 or more")
    if at is None:  # both corpora get about as much text
        lengths = sorted(len(unit.text) for unit in source.units())
        half, seen, at = sum(lengths) / 2, 0, 0
        for at in lengths:
            seen += at
            if seen >= half:
                break
        if lengths and at == lengths[-1]:  # or nothing would be longer
            at = max((n for n in lengths if n < at), default=at)
    limit = at
    said = f"up to {limit:,} characters, and longer"
    return Criterion(("short", "long"), lambda unit: len(unit.text) <= limit, said)


def _by_regex(pattern: str) -> Criterion:
    if not pattern:
        raise UsageError("--by regex needs --pattern, a regular expression")
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--pattern {pattern}: {error}") from error
    said = f"with a match of {pattern!r}, and without"
    return Criterion(
        ("matching", "rest"), lambda unit: bool(found.search(unit.text)), said
    )


def _by_field(source: Source, name: str, value: str) -> Criterion:
    if not source.rows:
        raise UsageError("--by field: plain text has no fields; give csv, tsv or jsonl")
    if not name:
        raise UsageError("--by field needs --field, the name of one")
    values: dict[str, int] = {}
    for number, unit in enumerate(source.units(), 1):
        if name not in unit.row:
            fields = ", ".join(unit.row)
            raise UsageError(f"--field {name}: row {number:,} has only {fields}")
        key = _spelled(unit.row[name])
        values[key] = values.get(key, 0) + 1
    if not value and len(values) != 2:
        some = ", ".join(list(values)[:8])
        raise UsageError(
            f"--field {name} has {len(values):,} values ({some}); say which goes first "
            f"with --value"
        )
    wanted = value or min(values)
    if wanted not in values:
        raise UsageError(f"--value {wanted}: no row has it in {name!r}")
    other = next(v for v in values if v != wanted) if len(values) == 2 else "rest"
    called = safe_name(name)
    return Criterion(
        (f"{called}-{safe_name(wanted)}", f"{called}-{safe_name(other)}"),
        lambda unit: _spelled(unit.row[name]) == wanted,
        f"{name} {wanted}, and {other}",
    )


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# ---- doing it ------------------------------------------------------------------------


def cut(
    source: Source, rule: Criterion, outputs: tuple[IO[bytes], IO[bytes]]
) -> tuple[Part, Part]:
    """Write each unit to one of the two outputs, and count.

    Raises:
        UsageError: one of the two would be empty.
    """
    parts = Part(rule.names[0]), Part(rule.names[1])
    for unit in source.units():
        index = 0 if rule.first(unit) else 1
        parts[index].add(unit)
        outputs[index].write(unit.written.encode("utf-8", "surrogatepass"))
    for part in parts:
        if not part.units:
            raise UsageError(
                f"nothing would be in {part.name!r} ({rule.said}); choose another "
                f"criterion"
            )
    return parts


def _stretches(file: Path, size: Size, notes: Notes) -> Iterator[Unit]:
    """Lines or paragraphs of a plain text, each with the blank lines after it."""
    held: list[str] = []  # of the unit that is being read
    begun = blank = False
    for line in split_lines(read_text(file, notes)):
        if not line.endswith("\n"):
            notes.add("a line break was put at its end", str(file))
            line += "\n"
        if line.strip() and begun and (size == "line" or blank):
            yield _unit(held)
            held = []
        begun, blank = begun or bool(line.strip()), not line.strip()
        held.append(line)
    if held:
        yield _unit(held)


def _unit(lines: list[str]) -> Unit:
    written = "".join(lines)
    return Unit(written.strip("\n"), written)


def _records(
    file: Path, column: str | None, notes: Notes
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table, numbered from 1, with every field that they have."""
    if suffix_of(file) not in CSV_SUFFIXES:
        yield from json_rows(split_lines(read_text(file, notes)), str(file))
        return
    rows = cells(file, notes)
    _, header = next(rows, (0, []))
    names = {name.strip().lower() for name in header}
    if column not in header and not names & set(TEXT_NAMES):
        raise UsageError(
            f"{file}: its first row ({', '.join(name[:20] for name in header)}) names "
            f"no text; give the table a header, and --text_column if it is not "
            f"{' or '.join(TEXT_NAMES[:2])}"
        )
    notes.add("the first row is the header", str(file), ", ".join(header)[:80])
    for number, (line, row) in enumerate(rows, 1):
        if len(row) != len(header):
            raise UsageError(
                f"{file}: line {line:,} has {len(row)} fields, the header "
                f"{len(header)}; repair the line"
            )
        yield number, dict(zip(header, row, strict=True))
