"""What a look at something found, on the terminal and in files."""

import json as to_json
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lmzoo.errors import UsageError
from lmzoo.files import finite
from lmzoo.report.finding import Finding
from lmzoo.report.page import printable
from lmzoo.report.table import Table

LONGEST = 30  # rows of a table that the terminal shows; the files have all


def deliver(
    found: Finding, folder: Path | None, json: bool = False, png: bool = False
) -> None:
    """Print what was found, and write its files.

    Args:
        found: by a probe.
        folder: where to; None writes no files.
        json: print the numbers as JSON, and no words.
        png: figures as PNG too.

    Raises:
        UsageError: the folder cannot be written, or PNG needs an extra.
    """
    written = found.write(folder, png) if folder else []
    if json:
        numbers = finite(found.numbers())
        print(to_json.dumps(numbers, ensure_ascii=False, allow_nan=False))
        return
    show(found)
    if written:
        print(f"\nwritten    {written[0]}")
        for path in written[1:]:
            print(f"           {path}")
    elif png:
        raise UsageError("--png needs a folder; give --out FOLDER")


def show(found: Finding) -> None:
    """Words and tables, as wide as the terminal."""
    console = Console(highlight=False)
    console.print(Text(found.title, style="bold"))
    for text in found.text:
        console.print(Text(text))
    for table in found.tables:
        console.print()
        console.print(rich_table(table))
        if len(table.rows) > LONGEST:
            console.print(Text(f"{len(table.rows) - LONGEST} more rows in the files"))
    for title, text in found.samples:
        console.print()
        console.print(Text(title, style="bold"))
        console.print(Text(printable(text)))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="dim"))


def rich_table(table: Table) -> RichTable:
    """The same table for the terminal."""
    drawn = RichTable(
        box=None,
        pad_edge=False,
        title=Text(table.caption) if table.caption else None,
        title_justify="left",
    )
    for i, head in enumerate(table.heads):
        justify = "left" if i in table.words else "right"
        drawn.add_column(Text(head), justify=justify, overflow="fold")
    for i, row in enumerate(table.rows[:LONGEST]):
        style = "bold" if table.kinds.get(i) == "best" else None
        drawn.add_row(*(Text(printable(cell)) for cell in row), style=style)
    return drawn
