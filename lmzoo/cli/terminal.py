"""The summary of a run, and lines and tables of figures, as a person sees them."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

FIGURES = ("nll", "perplexity", "bits_per_char", "bits_per_byte", "accuracy")
TITLES = ("nats/token", "perplexity", "bits/char", "bits/byte", "accuracy")


def show(summary: dict[str, Any], plugins: Sequence[str] = ()) -> None:
    """The closing summary; ``plugins`` are the files that its model needs."""
    console = Console(highlight=False)
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    console.print()
    console.print(
        Text(
            f"{summary['model']}  {summary['parameters']:,} parameters  "
            f"{summary['steps']:,} steps in {minutes}:{seconds:02d}  "
            f"{summary['tokens_per_second']:,.0f} tokens/s  "
            f"stopped: {summary['stopped']}",
            style="bold",
        ),
        soft_wrap=True,
    )
    figures = table()
    for name, record in (("best", summary["best"]), ("last", summary["last"])):
        if record and record["metrics"]:
            label = f"{name} val, step {record['step']:,}"
            figures.add_row(label, *cells(record["metrics"]))
    if summary["other_protocol"]:
        other = summary["other_protocol"]
        label = (
            "best, state carried" if "carried" in other["context"] else "best, fresh"
        )
        figures.add_row(label, *cells(other["metrics"]))
    if summary["test"]:
        label = "best test" if summary["best"] else "last test"
        figures.add_row(label, *cells(summary["test"]), end_section=True)
    for name, row in summary["floors"].items():
        figures.add_row(Text(f"floor: {name}", style="dim"), *cells(row))
    console.print(figures)
    said = summary["verdict"]
    console.print(Text(said[0].upper() + said[1:], style="bold"), soft_wrap=True)
    for finding in summary["health"]:
        console.print(Text(f"{finding['severity']}: {finding['message']}"))
    run, plugins = summary["run"], "".join(f" --plugin {p}" for p in plugins)
    following = [
        f"lmzoo generate {run}{plugins}",
        f'lmzoo score {run}{plugins} --text "..."',
        f"lmzoo validate --ckpt_path {run} --data.corpus pydoc{plugins}",
        f"tensorboard --logdir {run}",
    ]
    console.print(
        f"context    {summary['context']}\n"
        f"run        {run}\n"
        f"next       " + "\n           ".join(filter(None, following)),
        soft_wrap=True,
    )


def say(*lines: str, file: Any = None) -> None:
    """Print lines, to standard error unless told otherwise."""
    for line in lines:
        print(line, file=file or sys.stderr)


def table() -> Table:
    """An empty table with a column for each figure."""
    made = Table(box=None, pad_edge=False)
    made.add_column("", no_wrap=True)
    for name in TITLES:
        made.add_column(name, justify="right")
    return made


def cells(figures: dict[str, Any]) -> list[str]:
    """The figures of one pass as the cells of a row."""
    row = []
    for name in FIGURES:
        value = figures.get(name)
        if value is None or math.isnan(value):
            row.append("")
        elif name == "accuracy":
            row.append(f"{value:.1%}")
        else:
            row.append(f"{value:.3f}" if value < 1e4 else f"{value:.2e}")
    return row
