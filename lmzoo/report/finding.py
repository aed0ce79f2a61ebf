"""What one look at something found: words, tables, figures, the numbers behind them."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmzoo.errors import UsageError
from lmzoo.files import finite, write_atomically, write_json
from lmzoo.report.page import Section
from lmzoo.report.table import Table


@dataclass
class Finding:
    """A result that prints, saves and takes its place in a report.

    Attributes:
        name: of the files, lower case.
        title: the heading.
        text: sentences computed from the numbers, the most important first.
        tables: each may have a caption.
        figures: name -> SVG.
        notes: small print: the conditions under which the numbers hold.
        samples: (title, text) of each box.
        rows: the numbers as a flat table, one mapping a line: the CSV.
        data: the numbers as they belong together, JSON-plain.
    """

    name: str
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    samples: list[tuple[str, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def section(self) -> Section:
        """Its place in a page."""
        return Section(
            self.title,
            text=self.text,
            figures=list(self.figures.values()),
            tables=self.tables,
            notes=self.notes,
            samples=self.samples,
        )

    def plain(self) -> dict[str, Any]:
        """All of it, JSON-plain: ``Finding.read`` makes the same again."""
        return asdict(self)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Finding":
        """What ``plain`` described."""
        given = dict(plain)
        given["tables"] = [
            Table(
                table["heads"],
                table["rows"],
                table["caption"],
                tuple(table["words"]),
                {int(row): kind for row, kind in table["kinds"].items()},
            )
            for table in given["tables"]
        ]
        given["samples"] = [(title, text) for title, text in given["samples"]]
        return cls(**given)

    def numbers(self) -> dict[str, Any]:
        """What the JSON file holds: the numbers and the words, no drawings."""
        return {
            "name": self.name,
            "title": self.title,
            "text": self.text,
            "notes": self.notes,
            **self.data,
        }

    def write(self, folder: Path, png: bool = False) -> list[Path]:
        """NAME.json, NAME.csv where there are rows, NAME-FIGURE.svg; whole or not.

        Raises:
            UsageError: the folder cannot be written, or ``png`` without the extra.
        """
        drawn = {f"{n}.svg": svg.encode() for n, svg in self.figures.items()}
        if png:
            from lmzoo.report.png import png as pixels  # matplotlib, an extra

            drawn |= {f"{n}.png": pixels(svg) for n, svg in self.figures.items()}
        written = [folder / f"{self.name}.json"]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(written[0], finite(self.numbers()))
            if self.rows:
                written.append(folder / f"{self.name}.csv")
                write_atomically(written[-1], as_csv(self.rows).encode())
            for ending, content in drawn.items():
                written.append(folder / f"{self.name}-{ending}")
                write_atomically(written[-1], content)
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror or error}") from error
        return written


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; the columns are the keys in the order of their appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
