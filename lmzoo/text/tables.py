"""Rows of tables: csv, tsv, and one JSON object a line."""

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

from lmzoo.errors import UsageError

MAX_FIELD = (1 << 31) - 1  # the csv module's limit must fit a C long


def table(
    lines: Iterable[str], where: str, *, tabbed: bool
) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, each with the number of its last line.

    Quotes group the fields of a csv, and are text in a tsv.

    Raises:
        UsageError: not csv.
    """
    limit = csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(
        lines,
        delimiter="\t" if tabbed else ",",
        quoting=csv.QUOTE_NONE if tabbed else csv.QUOTE_MINIMAL,
    )
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UsageError(
            f"{where}: line {reader.line_num:,} is not csv ({error}); repair the line"
        ) from error
    finally:
        csv.field_size_limit(limit)


def json_rows(lines: Iterable[str], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a jsonl file, each with the number of its line.

    Raises:
        UsageError: a line that is no JSON object.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{where}: line {number:,} is not one JSON object "
                f"({_json_fault(error)}); write one object a line (jsonl)"
            ) from error
        if not isinstance(row, dict):
            raise UsageError(
                f"{where}: line {number:,} is not a JSON object; write one object a "
                f"line (jsonl)"
            )
        yield number, row


def _json_fault(error: Exception) -> str:
    """What is wrong in a line of JSON, and in which column; the line is known."""
    if isinstance(error, json.JSONDecodeError):
        return f"column {error.colno:,}: {error.msg}"
    return str(error)
