"""The summary of a run, and lines and tables of figures, as a person sees them."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmzoo.cli.origins import title
from lmzoo.training import utilisation

WIDEST = 22  # characters of a row's name, that the table fits a terminal
OF_TOKENS = {
    "nll": "nats/token",
    "perplexity": "perplexity",
    "bits_per_char": "bits/char",
    "bits_per_byte": "bits/byte",
    "accuracy": "accuracy",
}
FIGURES: dict[str, dict[str, str]] = {  # task -> figure -> heading of its column
    "language model": OF_TOKENS,
    "encoder": OF_TOKENS,
    "classifier": {
        "accuracy": "accuracy",
        "f1": "F1",
        "auroc": "AUROC",
        "nll": "nats/text",
        "calibration_error": "calibration error",
    },
}
OTHER_CORPUS, OTHER_TEXT = "--data.corpus pydoc", "--data.path OTHER.txt"
NEXT = {
    "language model": (
        "lmzoo generate {run}",
        'lmzoo score {run} --text "..."',
        "lmzoo validate --ckpt_path {run} {other}",
    ),
    "encoder": (
        "lmzoo fit --model classifier --model.body {run} --data.path LABELLED",
    ),
    "classifier": (
        'lmzoo predict {run} --text "..."',
        "lmzoo validate --ckpt_path {run} --data.path OTHER",
    ),
}


def show(
    summary: dict[str, Any], plugins: Sequence[str] = (), own_text: bool = False
) -> None:
    """The closing summary.

    Args:
        summary: of the run.
        plugins: the files that its model needs.
        own_text: trained on files of the user's, and no corpus by name.
    """
    console = Console(highlight=False)
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    console.print()
    console.print(
        Text(
            f"{title(summary)}  {parameters(summary)}  "
            f"{summary['steps']:,} steps in {minutes}:{seconds:02d}  "
            f"{summary['tokens_per_second']:,.0f} tokens/s  "
            f"stopped: {summary['stopped']}",
            style="bold",
        ),
        soft_wrap=True,
    )
    task = summary["task"]
    figures = table(task)
    if start := summary["start"]:
        named = f"start: {start['name']}"  # the headline names it, too
        label = named if len(named) <= WIDEST else "start"
        figures.add_row(Text(label), *cells(start["metrics"], task))
    for name, record in (("best", summary["best"]), ("last", summary["last"])):
        if record and record["metrics"]:
            label = f"{name} val, step {record['step']:,}"
            figures.add_row(label, *cells(record["metrics"], task))
    if summary["other_protocol"]:
        other = summary["other_protocol"]
        label = (
            "best, state carried" if "carried" in other["context"] else "best, fresh"
        )
        figures.add_row(label, *cells(other["metrics"], task))
    if summary["test"]:
        label = "best test" if summary["best"] else "last test"
        figures.add_row(label, *cells(summary["test"], task), end_section=True)
    for name, row in summary["floors"].items():
        figures.add_row(Text(f"floor: {name}", style="dim"), *cells(row, task))
    console.print(figures)
    if summary.get("confusion"):
        console.print(confusion(summary["labels"], summary["confusion"]))
    said = summary["verdict"]
    console.print(Text(said[0].upper() + said[1:], style="bold"), soft_wrap=True)
    for finding in summary["health"]:
        console.print(Text(f"{finding['severity']}: {finding['message']}"))
    run, plugins = summary["run"], "".join(f" --plugin {p}" for p in plugins)
    other = OTHER_TEXT if own_text else OTHER_CORPUS
    lines = [line.format(run=run, other=other) for line in NEXT[task]]
    following = [f"{line}{plugins}" for line in lines]
    following.append(f"tensorboard --logdir {run}")
    if summary["utilisation"]:
        console.print(
            f"arithmetic {utilisation.line(summary['utilisation'])}", soft_wrap=True
        )
    console.print(
        f"context    {summary['context']}\n"
        f"run        {run}\n"
        f"next       " + "\n           ".join(filter(None, following)),
        soft_wrap=True,
    )


def parameters(summary: dict[str, Any]) -> str:
    """How many there are, and how many of them were trained if not all."""
    total, trained = summary["parameters"], summary["trainable"]
    if summary["counting"] or trained == total:
        return f"{total:,} parameters"
    return f"{trained:,} of {total:,} parameters trained"


def say(*lines: str, file: Any = None) -> None:
    """Print lines, to standard error unless told otherwise."""
    for line in lines:
        print(line, file=file or sys.stderr)


def confusion(labels: list[str], counts: dict[str, Any]) -> Table:
    """True labels against predicted ones, as counts of texts."""
    made = Table(box=None, pad_edge=False)
    made.add_column(f"{counts['split']}: true", no_wrap=True)
    for label in labels:
        made.add_column(f"said {label}", justify="right")
    for label, row in zip(labels, counts["counts"], strict=True):
        made.add_row(label, *(f"{count:,}" for count in row))
    return made


def table(task: str = "language model") -> Table:
    """An empty table with a column for each figure."""
    made = Table(box=None, pad_edge=False)
    made.add_column("", no_wrap=True)
    for name in FIGURES[task].values():
        made.add_column(name, justify="right")
    return made


def cells(figures: dict[str, Any], task: str = "language model") -> list[str]:
    """The figures of one pass as the cells of a row."""
    row = []
    for name in FIGURES[task]:
        value = figures.get(name)
        if value is None or math.isnan(value):
            row.append("")
        elif name == "accuracy":
            row.append(f"{value:.1%}")
        else:
            row.append(f"{value:.3f}" if value < 1e4 else f"{value:.2e}")
    return row
