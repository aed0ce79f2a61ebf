"""``lmzoo split``: one's own text cut into two corpora by a criterion."""

import sys
from contextlib import ExitStack
from json import dumps
from pathlib import Path
from typing import Any

from lmzoo.cli.command import call
from lmzoo.errors import UsageError
from lmzoo.files import whole, write_json
from lmzoo.text.splitting import By, Part, Size, Source, criterion, cut


def run(argv: list[str]) -> int:
    """Cut a text in two; returns the exit code."""
    return call("split", split, argv)


def split(
    paths: list[str],
    *,
    by: By = "length",
    at: int | None = None,
    pattern: str = "",
    field: str = "",
    value: str = "",
    unit: Size = "line",
    text_column: str | None = None,
    out: str = "",
    json: bool = False,
) -> int:
    """Cut a text into two corpora by a criterion; every line is in one of them.

    Args:
        paths: files, folders or globs: plain text, or tables (csv, tsv, jsonl).
        by: length (of a line, paragraph or row), regex, or the value of a field.
        at: most characters of a short unit; by default what halves the text.
        pattern: units in which this regular expression is found come first.
        field: of the rows; with two values, one corpus for each.
        value: of the field; rows that have it come first, the others are the rest.
        unit: line or paragraph; blank lines go with what is above them.
        text_column: the field of a table that holds the text.
        out: the folder to be made, for the two files and split.json.
        json: print JSON, for programs.
    """
    if not out:
        raise UsageError("lmzoo split needs --out, the folder to be made")
    target = Path(out)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UsageError(f"--out {target} is there already; choose another name")
    source = Source.of(paths, unit, text_column)
    rule = criterion(source, by, at, pattern, field, value)
    ending = ".jsonl" if source.rows else ".txt"
    names = [f"{name}{ending}" for name in rule.names]
    with whole(target) as folder:
        with ExitStack() as files:
            first, second = (
                files.enter_context((folder / name).open("xb")) for name in names
            )
            parts = cut(source, rule, (first, second))
        report = {
            "by": by,
            "criterion": rule.said,
            "unit": "row" if source.rows else unit,
            "sources": [str(file) for file in source.files],
            "notes": source.notes.lines(),
            "parts": [
                {"file": name, **vars(part)}
                for name, part in zip(names, parts, strict=True)
            ],
        }
        write_json(folder / "split.json", report)
    _show(report, parts, target, json)
    return 0


def _show(report: dict[str, Any], parts: tuple[Part, ...], target: Path, json: bool):
    if json:
        print(dumps(report, indent=1))
        return
    for note in report["notes"]:
        print(f"note: {note}", file=sys.stderr)
    total = sum(part.characters for part in parts)
    print(f"{report['criterion']}, by {report['unit']}")
    for row, part in zip(report["parts"], parts, strict=True):
        share = part.characters / max(1, total)
        print(
            f"  {target / row['file']}  {part.units:,} {report['unit']}s, "
            f"{part.lines:,} lines, {part.characters:,} characters ({share:.1%})"
        )
    lines = sum(part.lines for part in parts)
    print(f"together {lines:,} lines: every one is in one of the two")
