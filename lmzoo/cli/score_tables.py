"""A scored text in the terminal."""

import math
import sys
from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmzoo.scoring.columns import (
    COMPARE,
    FIGURES,
    Column,
    cells,
    notes,
    scale,
    shade,
    spelled,
)

SHORT = 80  # tokens: a longer text has no table of tokens


def show(text: str, columns: Sequence[Column]) -> None:
    """Print every table that the columns have something for."""
    wide = None if sys.stdout.isatty() else 240  # nothing is cut in a file or a pipe
    console = Console(highlight=False, markup=False, emoji=False, width=wide)
    sizes = f"{len(text):,} characters, {len(text.encode('utf-8', 'replace')):,} bytes"
    console.print(f"text         {sizes}\n")
    console.print(_summary(columns))
    console.print()
    for title, lines in notes(columns):
        for line in lines:
            console.print(f"{title:<12} {line}", soft_wrap=True)
            title = ""
    console.print(COMPARE)
    limit = scale(columns)
    short = [c for c in columns if len(c.score.nll) <= SHORT]
    if short:
        console.print()
        tables = [_tokens(group, limit) for group in _groups(short)]
        console.print(Columns(tables, padding=(1, 4)))
    if any(len(column.score.nll) > SHORT for column in columns):
        console.print(f"(more than {SHORT} tokens: --html and --json show each)")
    if any(column.next_tokens for column in columns):
        console.print()
        console.print(_next([c for c in columns if c.next_tokens]))
    if any(column.continuations for column in columns):
        console.print()
        console.print(_continuations([c for c in columns if c.continuations]))


# ---- tables --------------------------------------------------------------------------


def _table(first: str, *rest: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in rest:
        table.add_column(name, justify="right")
    return table


def _summary(columns: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("tokenizer")
    for head in FIGURES.values():
        table.add_column(head, justify="right", no_wrap=True)
    for column in columns:
        table.add_row(Text(column.name), column.tokenizer, *cells(column.score))
    return table


def _groups(columns: Sequence[Column]) -> list[list[Column]]:
    """Columns that cut the text alike stand in one table."""
    found: dict[bytes, list[Column]] = {}
    for column in columns:
        found.setdefault(column.score.chars.tobytes(), []).append(column)
    return list(found.values())


def _tokens(group: list[Column], limit: float) -> Table:
    alone = len(group) == 1
    heads = ["bits", "probability", "rank"] if alone else [c.name for c in group]
    title = "bits of surprise" if not alone else group[0].name
    table = _table("token", *heads)
    table.title, table.title_justify = Text(title, style="bold"), "left"
    for i, piece in enumerate(group[0].score.pieces()):
        bits = [float(c.score.nll[i]) / math.log(2) for c in group]
        shown = [_coloured(value, limit) for value in bits]
        if alone:
            ranks = group[0].score.rank
            rank = 0 if ranks is None else int(ranks[i])
            known = not math.isnan(bits[0])
            shown.append(Text(f"{2 ** -bits[0]:.4f}" if known else "-"))
            shown.append(Text(f"{rank:,}" if rank else "-"))
        table.add_row(Text(spelled(piece)), *shown)
    return table


def _coloured(bits: float, limit: float) -> Text:
    if math.isnan(bits):
        return Text("-")
    return Text(f" {bits:.2f} ", style=f"#1b1b1b on {shade(bits / limit)}")


def _next(columns: list[Column]) -> Table:
    table = _table("next", *[c.name for c in columns])
    for i in range(max(len(c.next_tokens) for c in columns)):
        best = [c.next_tokens[i : i + 1] for c in columns]
        row = [
            f"{spelled(b.token)} {b.probability:7.2%}" for found in best for b in found
        ]
        table.add_row(str(i + 1), *map(Text, row))
    return table


def _continuations(columns: list[Column]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("continuation")
    table.add_column("model")
    for head in ("nats", "bits/char", "share"):
        table.add_column(head, justify="right", no_wrap=True)
    for i, first in enumerate(columns[0].continuations):
        title = spelled(first.text)
        for column in columns:
            one = column.continuations[i]
            figures = (
                f"{one.nats:.2f}",
                f"{one.bits_per_char:.3f}",
                f"{one.share:.2%}",
            )
            table.add_row(Text(title), Text(column.name), *figures)
            title = ""
    return table
