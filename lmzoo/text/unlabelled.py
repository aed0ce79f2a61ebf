"""Texts to be labelled out of a table: every row, with a label where it has one."""

from collections.abc import Collection
from pathlib import Path

from lmzoo.errors import UsageError
from lmzoo.text.labelled_files import (
    LABEL_NAMES,
    TEXT_NAMES,
    Example,
    column,
    guessed,
    json_objects,
    plain,
)
from lmzoo.text.readers import CSV_SUFFIXES, Notes, cells, suffix_of


def read_rows(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    known: Collection[str],
    notes: Notes,
) -> list[Example]:
    """Every row of a csv, tsv or jsonl file, in order; its label is "" if it has none.

    Args:
        path: the file.
        text_column: name or, without a header, number of the text's column.
        label_column: that of the true label.
        known: labels that the model tells apart. In a table without a header, two
            columns are text and label only if every label is one of them.
        notes: what was found out about the file.

    Raises:
        UsageError: unreadable, or no text to be found.
    """
    if suffix_of(path) in CSV_SUFFIXES:
        found = _table(path, text_column, label_column, known, notes)
    else:
        found = _objects(path, text_column, label_column, notes)
    if not found:
        raise UsageError(f"{path}: holds no text")
    return found


def _table(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    known: Collection[str],
    notes: Notes,
) -> list[Example]:
    rows = [row for _, row in cells(path, notes)]
    if not rows:
        return []
    names = [name.strip().lower() for name in rows[0]]
    typed = [name for name in (text_column, label_column) if name is not None]
    if set(names) & {*TEXT_NAMES, *LABEL_NAMES} or not all(map(str.isdecimal, typed)):
        text, label = _named(names, text_column, label_column, path)
        rows = rows[1:]
    elif len(names) == 1:
        text, label = 0, None
    elif text_column and not label_column:
        text, label = guessed(rows, text_column, text_column, path)[0], None
    else:
        text, label = guessed(rows, text_column, label_column, path)
        short = not {row[label].strip() for row in rows if len(row) > label} <= {*known}
        label = None if short and label_column is None else label
        said = f"text {text + 1}" + ("" if label is None else f", label {label + 1}")
        notes.add("no header; columns read by place", str(path), said)

    def cell(row: list[str], place: int | None) -> str:
        return row[place] if place is not None and place < len(row) else ""

    return [Example(cell(row, text), cell(row, label).strip()) for row in rows]


def _objects(
    path: Path, text_column: str | None, label_column: str | None, notes: Notes
) -> list[Example]:
    found: list[Example] = []
    names: list[str] = []
    text, label = 0, None
    for fields in json_objects(path, notes):
        if not names:
            names = list(fields)
            text, label = _named(names, text_column, label_column, path)
        given = "" if label is None else plain(fields.get(names[label]))
        found.append(Example(plain(fields.get(names[text])), given.strip()))
    return found


def _named(
    names: list[str], text_column: str | None, label_column: str | None, path: Path
) -> tuple[int, int | None]:
    """Where a header has the text, and the label if it has one."""
    label = column(names, label_column, LABEL_NAMES, "label", path, option="")
    text = column(names, text_column, TEXT_NAMES, "text", path, option="")
    if text is None and len(names) == (1 if label is None else 2):
        text = 0 if label is None else 1 - label
    if text is None:
        raise UsageError(
            f"{path}: its columns are {', '.join(names)}; say which is the text with "
            f"--text_column"
        )
    return text, label
