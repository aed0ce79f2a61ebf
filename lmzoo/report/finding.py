"""What one look at something found: words, tables, figures, the numbers behind them."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmzoo.errors import UsageError
from lmzoo.files import finite, write_atomically, write_json
from lmzoo.report.page import Section
from lmzoo.report.table import Table

UNSAFE = re.compile(r"[^\w.-]+")  # in a file's name


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

        Files of the same name that an earlier call left and this one does not make go.

        Raises:
            UsageError: the folder cannot be written, or ``png`` without the extra.
        """
        named = {
            f"{self.name}-{UNSAFE.sub('_', figure)}": svg
            for figure, svg in self.figures.items()
        }
        made = {f"{name}.svg": svg.encode() for name, svg in named.items()}
        if png:
            from lmzoo.report.png import png as pixels  # matplotlib, an extra

            made |= {f"{name}.png": pixels(svg) for name, svg in named.items()}
        if self.rows:
            made = {f"{self.name}.csv": as_csv(self.rows).encode(), **made}
        numbers = folder / f"{self.name}.json"
        written = [numbers, *(folder / name for name in made)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            left = self._left_before(numbers)
            write_json(numbers, finite({**self.numbers(), "files": list(made)}))
            for name, content in made.items():
                write_atomically(folder / name, content)
            for name in left - set(made):
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror or error}") from error
        return written

    def _left_before(self, numbers: Path) -> set[str]:
        """The files beside the JSON that an earlier call wrote, by what it says."""
        with suppress(OSError, ValueError, TypeError, AttributeError):
            told = json.loads(numbers.read_text(encoding="utf-8")).get("files") or []
            own = re.compile(rf"{re.escape(self.name)}[\w.-]*\.(csv|svg|png)")
            return {name for name in told if own.fullmatch(name)}
        return set()


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; the columns are the keys in the order of their appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
