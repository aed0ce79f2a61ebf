"""Rows of csv and tsv: quotes group the fields of a csv and are text in a tsv."""

import csv
from collections.abc import Iterable, Iterator

from lmzoo.errors import UsageError

MAX_FIELD = (1 << 31) - 1  # the csv module's limit must fit a C long


def table(
    lines: Iterable[str], where: str, *, tabbed: bool
) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, each with the number of its last line.

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
