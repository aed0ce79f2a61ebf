"""``lmzoo models``: the zoo as a table, without importing any of it; or one member."""

import json
import sys
from dataclasses import asdict

from lmzoo.cli.options import Options
from lmzoo.registry import Entry, models


def run(argv: list[str]) -> int:
    """Print one line for each model, or one model's page.

    Plugins that cannot be used go to stderr.
    """
    parser = Options("models", "List the zoo: name, what it is, and where it is from.")
    parser.add_argument("name", nargs="?", help="one model: its options and presets")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.add_plugin()
    options = parser.read(argv)
    if options is None:
        return 0
    if options.name is not None:
        # the model is imported here, and for the table none is
        from lmzoo.cli.classes import page

        print(page("model", models.class_path(options.name)))
        return 0
    table, problems = models.entries()
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    rows = list(table.values())
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print(_table(rows))
    return 0


def _table(rows: list[Entry]) -> str:
    names = max(len(row.name) for row in rows)
    texts = max(len(row.summary) for row in rows)
    return "\n".join(
        f"{row.name:<{names}}  {row.summary:<{texts}}  {row.source}" for row in rows
    )
