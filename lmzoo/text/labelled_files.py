"""Texts with labels out of files: csv and tsv in any order, jsonl, a folder a label."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lmzoo.errors import UsageError
from lmzoo.text.readers import (
    CSV_SUFFIXES,
    JSON_SUFFIXES,
    TEXT_SUFFIXES,
    Notes,
    cells,
    read_text,
    split_lines,
    suffix_of,
)
from lmzoo.text.tables import json_rows

TEXT_NAMES = ("text", "sentence", "review", "content", "document", "phrase", "tweet")
LABEL_NAMES = ("label", "labels", "class", "sentiment", "target", "category", "y")
PARTS = {  # names of files and folders inside a folder of parts
    "train": ("train", "training"),
    "val": ("dev", "val", "valid", "validation"),
    "test": ("test",),
}
UNLABELLED = ("unsup", "unlabelled", "unlabeled")
BREAKS = re.compile(r"\s*(?:<br\s*/?>\s*)+", re.IGNORECASE)
REPEATED = 2  # times that a label stands, where the labels can be told from a header


class Example(NamedTuple):
    """One text and its label, as they stand in the file."""

    text: str
    label: str


def parts_of(path: str) -> dict[str, Path]:
    """The parts that a file or a folder provides: train, and perhaps val and test.

    Raises:
        UsageError: nothing there, or a folder that holds no labelled text.
    """
    main = Path(path).expanduser()
    if not main.exists():
        raise UsageError(f"--data.path {path}: no such file or folder")
    if main.is_file() or _label_folders(main):
        return {"train": main}
    found = {}
    for part, names in PARTS.items():
        inside = sorted(
            entry
            for entry in main.iterdir()
            if entry.name.split(".")[0].lower() in names
            and (entry.is_dir() or _is_table(entry))
        )
        if len(inside) > 1:
            raise UsageError(
                f"--data.path {path}: {inside[0].name} and {inside[1].name} both look "
                f"like its {part} part; name the files: --data.path, --data.val_path, "
                f"--data.test_path"
            )
        if inside:
            found[part] = inside[0]
    if "train" not in found:
        raise UsageError(
            f"--data.path {path}: neither a train file (csv, tsv, jsonl) nor a folder "
            f"for each label with a text in each file"
        )
    return found


def read_examples(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    keep_breaks: bool,
    notes: Notes,
) -> list[Example]:
    """All labelled texts of a file, or of a folder with a folder for each label.

    Rows without a text or a label are left out, and counted in ``notes``.

    Raises:
        UsageError: unreadable, another kind of file, or no columns to be found.
    """
    if path.is_dir():
        rows = _folder_rows(path, notes)
    elif suffix_of(path) in CSV_SUFFIXES:
        rows = _table_rows(path, text_column, label_column, notes)
    elif suffix_of(path) in JSON_SUFFIXES:
        rows = _json_rows(path, text_column, label_column, notes)
    else:
        raise UsageError(
            f"{path}: labelled text is csv, tsv, jsonl, or a folder for each label"
        )
    found, short = [], 0
    for text, label in rows:
        text = text if keep_breaks else BREAKS.sub(" ", text)
        text, label = text.strip(), label.strip()
        if text and label:
            found.append(Example(text, label))
        else:
            short += 1
    if short:
        notes.add("rows without a text or a label left out", str(path), f"{short:,}")
    if not found:
        raise UsageError(f"{path}: holds no text with a label")
    return found


# ---- folders -------------------------------------------------------------------------


def _label_folders(path: Path) -> list[Path]:
    """Folders inside ``path`` that hold text files: their names are labels."""
    if not path.is_dir():
        return []
    return [
        folder
        for folder in sorted(path.iterdir())
        if folder.is_dir() and any(_texts(folder))
    ]


def _texts(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if suffix_of(file) in TEXT_SUFFIXES)


def _folder_rows(path: Path, notes: Notes) -> Iterator[Example]:
    labels = [f for f in _label_folders(path) if f.name not in UNLABELLED]
    if not labels:
        raise UsageError(f"{path}: holds no folder of texts for any label")
    for folder in _label_folders(path):
        if folder not in labels:
            notes.add("texts without labels left out", str(folder))
            continue
        for file in sorted(_texts(folder)):
            yield Example("".join(read_text(file, notes)), folder.name)


def _is_table(path: Path) -> bool:
    return suffix_of(path) in CSV_SUFFIXES + JSON_SUFFIXES


# ---- tables --------------------------------------------------------------------------


def _table_rows(
    path: Path, text_column: str | None, label_column: str | None, notes: Notes
) -> Iterator[Example]:
    rows = [row for _, row in cells(path, notes)]
    if not rows:
        return
    names = [name.strip().lower() for name in rows[0]]
    wanted = [c.lower() for c in (text_column, label_column) if c is not None]
    known = any(n in LABEL_NAMES for n in names) and (
        len(names) == 2 or any(n in TEXT_NAMES for n in names)
    )
    header = known or any(not name.isdecimal() for name in wanted)
    if header:
        text = column(names, text_column, TEXT_NAMES, "text", path)
        label = column(names, label_column, LABEL_NAMES, "label", path, text)
        if text is None and label is not None and len(names) == 2:
            text = 1 - label
        rows = rows[1:]
    else:
        text, label = guessed(rows, text_column, label_column, path)
        _refuse_header(rows, label, path)
        notes.add(
            "no header; columns read by place",
            str(path),
            f"label {label + 1}, text {text + 1}",
        )
    if text is None or label is None or text == label:
        raise UsageError(
            f"{path}: its columns are {', '.join(names)}; say which is which with "
            f"--data.text_column and --data.label_column"
        )
    for row in rows:
        whole = len(row) > max(text, label)
        yield Example(row[text], row[label]) if whole else Example("", "")


def column(
    names: list[str],
    given: str | None,
    usual: Iterable[str],
    what: str,
    path: Path,
    taken: int | None = None,
    option: str = "data.",
) -> int | None:
    """Where a column is: by the name that was typed, or by a usual one.

    Raises:
        UsageError: no column has the name that was typed.
    """
    if given is not None:
        if given.lower() not in names:
            raise UsageError(
                f"--{option}{what}_column {given}: {path} has no such column; it has "
                f"{', '.join(names)}"
            )
        return names.index(given.lower())
    found = [names.index(name) for name in usual if name in names]
    if not found and taken is not None and len(names) == 2:
        return 1 - taken
    return found[0] if found else None


def guessed(
    rows: list[list[str]], text: str | None, label: str | None, path: Path
) -> tuple[int, int]:
    """Columns of a table without a header: by number, or the one with few values."""
    if text is None and label is None and len(rows[0]) == 2:
        values = [{row[i] for row in rows if len(row) > i} for i in range(2)]
        shorter = sum(map(len, values[0])) / len(values[0]) <= sum(
            map(len, values[1])
        ) / len(values[1])
        first = (len(values[0]), not shorter) <= (len(values[1]), shorter)
        return (1, 0) if first else (0, 1)
    names = ", ".join(cell[:20] for cell in rows[0])
    if not (text and label and text.isdecimal() and label.isdecimal()):
        other = next((mark for mark in ";\t|" if mark in rows[0][0]), "")
        hint = f"; its fields seem to stand between {other!r}" if other else ""
        raise UsageError(
            f"{path}: its first row ({names}) names no text and no label{hint}; give "
            f"--data.text_column and --data.label_column, names of a header or "
            f"numbers from 1"
        )
    for what, number in (("text", int(text)), ("label", int(label))):
        if not 1 <= number <= len(rows[0]):
            raise UsageError(
                f"--data.{what}_column {number}: {path} has {len(rows[0])} columns, "
                f"numbered from 1"
            )
    return int(text) - 1, int(label) - 1


def _refuse_header(rows: list[list[str]], label: int, path: Path) -> None:
    """A first row that is a header of unusual names would be one more text and label.

    Its label stands once, where every other one is repeated.
    """
    found = Counter(row[label] for row in rows if len(row) > label)
    first = rows[0][label]
    others = [count for name, count in found.items() if name != first]
    if found[first] == 1 and len(others) > 1 and min(others) >= REPEATED:
        raise UsageError(
            f"{path}: the first row ({', '.join(cell[:20] for cell in rows[0])}) looks "
            f"like a header; say which is which with --data.text_column and "
            f"--data.label_column, or take it away"
        )


def _json_rows(
    path: Path, text_column: str | None, label_column: str | None, notes: Notes
) -> Iterator[Example]:
    text: int | None = None
    names: list[str] = []
    label: int | None = None
    for fields in json_objects(path, notes):
        if text is None or label is None:
            names = list(fields)
            text = column(names, text_column, TEXT_NAMES, "text", path)
            label = column(names, label_column, LABEL_NAMES, "label", path, text)
            if text is None or label is None:
                raise UsageError(
                    f"{path}: its fields are {', '.join(names)}; say which is which "
                    f"with --data.text_column and --data.label_column"
                )
        yield Example(*(plain(fields.get(names[place])) for place in (text, label)))


def json_objects(path: Path, notes: Notes) -> Iterator[dict[str, object]]:
    """The rows of a jsonl file, their keys in lower case."""
    for _, row in json_rows(split_lines(read_text(path, notes)), str(path)):
        yield {str(key).lower(): value for key, value in row.items()}


def plain(value: object) -> str:
    """A JSON value as text; nothing, and what is nested, as none."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
