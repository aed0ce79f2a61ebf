"""``results.json`` as report.html, report.md and a table for the terminal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from lmzoo.compare import conditions, curves, plots, questions, tables
from lmzoo.compare.paragraph import paragraph
from lmzoo.compare.reading import Comparison, pick
from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.report.page import Section, html, markdown
from lmzoo.report.words import listed, plural

RESULTS, PAGE, TEXT = "results.json", "report.html", "report.md"
SAMPLE = 600  # characters shown of a sample
EXPLAINED = (
    "Shaded: the lowest mean. ± is half the 95 % interval of the mean over seeds "
    "(Student's t). A rank is the first and the last place that a model can have: "
    "behind all that are shown to be better with an interval apart from its own, "
    "before all shown to be worse. Floors are counted or compressed on the same text."
)
UNKNOWN = (
    "Unknown: share of the validation tokens that are not in the vocabulary. They are "
    "predicted as one symbol and never spelled out, yet their bytes count: beside what "
    "spells everything, too few bits per byte stand for {}."
)
CLOCK = (
    "Seconds at a check are interpolated: the clock is read between checks; a check "
    "takes its share of the stretch of training steps that it falls into."
)
PAIRED = (
    "Differences are between runs of the same seed on the same stretches of validation "
    "text. Seeds and runs of neighbouring stretches are resampled 2,000 times; the "
    "interval takes Student's t with Satterthwaite's degrees of freedom for its width "
    "and belongs to one pair alone. The verdict is by p after the correction for all "
    "pairs of the table (Holm 1979), at 5 %."
)


def write(folder: str | Path) -> None:
    """Make report.html and report.md of a comparison folder from its results.json.

    Raises:
        UsageError: there is no results.json, or it is not one.
    """
    folder = Path(folder)
    results = read(folder / RESULTS)
    found = Comparison(results)
    title, under = _title(found), subtitle(found)
    parts = sections(found)
    page = html(title, under, parts)
    write_atomically(folder / PAGE, page.encode("utf-8", "replace"))
    text = markdown(title, under, parts, PAGE)
    write_atomically(folder / TEXT, text.encode("utf-8", "replace"))


def read(file: Path) -> dict[str, Any]:
    """The results of a comparison.

    Raises:
        UsageError: missing, damaged, or of a newer lmzoo.
    """
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror}; run lmzoo compare first"
        ) from error
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if not isinstance(results, dict) or "cells" not in results:
        raise UsageError(f"{file} holds no comparison")
    if results.get("format") != 1:
        raise UsageError(
            f"{file} has format {results.get('format')!r}, this lmzoo reads format 1; "
            "upgrade lmzoo"
        )
    return results


def summary_table(results: Mapping[str, Any]) -> RichTable:
    """The report's main figures for the terminal, in its order and its words."""
    found = Comparison(results)
    full, spent = tables.quality(found), tables.cost(found)
    keep = [0, 1, 2, 4, 5, 6, 8]
    costs = {row[0]: row for row in spent.rows}
    extra = [1, 3, len(spent.heads) - 1]
    table = RichTable(box=None, pad_edge=False)
    heads = [*(full.heads[i] for i in keep), *(spent.heads[i] for i in extra)]
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i < 2 else "right", no_wrap=True)
    labels = {_marked(row): row.label for row in [*found.rows, *found.exhibits]}
    for i, row in enumerate(full.rows):
        cost = costs.get(labels.get(row[1], ""))
        cells = [row[k] for k in keep] + [cost[k] if cost else "" for k in extra]
        style = {"best": "bold", "floor": "dim"}.get(full.kinds.get(i, ""), "")
        table.add_row(*map(Text, cells), style=style)
    return table


def _marked(row: Any) -> str:
    return f"{row.label} ({row.mark})" if row.mark else row.label


# ---- sections ------------------------------------------------------------------------


def sections(found: Comparison) -> list[Section]:
    """What a report holds, in reading order; sections without data are left out."""
    wide = [plots.intervals(found)] if found.rows else []
    made = [
        Section("Findings", text=paragraph(found), wide=wide),
        _quality(found),
        _cost(found),
        _pairs(found),
        _curves(found),
        _context(found),
        _ablations(found),
        _tuning(found),
        _tokenizers(found),
        _figures_that_misrank(found),
        _stopping(found),
        _samples(found),
        _missing(found),
        Section(
            "How it was measured",
            tables=[conditions.measured(found)],
            notes=conditions.mixed_versions(found),
        ),
    ]
    return [section for section in made if section]


def _title(found: Comparison) -> str:
    models = [str(m) for m in dict.fromkeys(c["model"] for c in found.cells)]
    return f"{listed(models)} on {listed(found.corpora)}" if models else "No models"


def subtitle(found: Comparison) -> str:
    """The budget of each run and what of it went to a search; the seeds."""
    seeds = len({cell["seed"] for cell in found.cells})
    search = found.search()
    spent = f"{found.budget()} each" + (f", of which {search}" if search else "")
    return f"{spent}; {plural(seeds, 'seed')}; made by lmzoo compare"


def _quality(found: Comparison) -> Section | None:
    if not found.rows and not found.exhibits:
        return None
    letter = tables.letters(found)
    notes = [EXPLAINED, _protocols(found, letter)]
    if any(row.mark == "counting" for row in found.rows):
        notes.append("counting: sized and trained by counting, outside any matching.")
    if found.exhibits:
        notes.append("exhibit: broken on purpose, shown and not ranked.")
    return Section("Quality", tables=[tables.quality(found)], notes=notes)


def _protocols(found: Comparison, letter: Mapping[str, str]) -> str:
    told = "; ".join(f"({mark}) {text}" for text, mark in letter.items())
    others = dict.fromkeys(
        cell["other"].get("protocol") or "not stated"
        for cell in found.cells
        if cell.get("other")
    )
    more = f" Other protocol: {'; '.join(others)}." if others else ""
    return f"Context: tokens a prediction may see, and how it was read: {told}.{more}"


def _cost(found: Comparison) -> Section | None:
    if not found.rows:
        return None
    race = tables.races(found)
    figures = [plots.scatter(found, "parameters"), plots.quality_against_time(found)]
    notes = [
        "Seconds are of training alone, without start-up and evaluation, up to the "
        "first check at or below the target; (2/3): two of three seeds reached it. "
        "State: what one stream of text keeps between tokens."
    ]
    return Section(
        "Cost",
        figures=[figure for figure in figures if figure],
        tables=[tables.cost(found), *([race] if race else [])],
        notes=notes,
    )


def _pairs(found: Comparison) -> Section | None:
    table = tables.pairwise(found)
    return Section("Who is better than whom", tables=[table], notes=[PAIRED]) \
        if table else None  # fmt: skip


def _curves(found: Comparison) -> Section | None:
    own = (found.results.get("budget") or {}).get("kind")
    order = sorted(curves.AXES, key=lambda key: key != own)  # the budget's axis first
    figures = [figure for key in order if (figure := curves.loss(found, key))]
    band = "A line is the mean over seeds, its band the lowest and the highest seed."
    notes = [CLOCK] if curves.loss(found, "seconds") else []
    return Section("Learning curves", [band], figures=figures, notes=notes) \
        if figures else None  # fmt: skip


def _context(found: Comparison) -> Section | None:
    figures = [
        curves.positions(found),
        curves.timing(found, "forward"),
        curves.timing(found, "backward"),
    ]
    figures = [figure for figure in figures if figure]
    timing: Mapping[str, Any] = found.results.get("timing") or {}
    rows = [
        [label, f"{one['exponent']:.2f}"]
        for label, one in timing.items()
        if one.get("exponent") is not None
    ]
    growth = tables.Table(["model", "time grows as length to the power"], rows)
    if not figures:
        return None
    uneven = "Tokens differ in length: compare shapes by position, not heights."
    return Section(
        "Context and length",
        text=[uneven] if len(found.tokenizers) > 1 else [],
        figures=figures,
        tables=[growth] if rows else [],
    )


def _ablations(found: Comparison) -> Section | None:
    made = conditions.grids(found)
    return Section("Ablations", tables=made) if made else None


def _tuning(found: Comparison) -> Section | None:
    made = conditions.sweeps(found)
    text = ["Every trial of the search, the lowest figure marked."]
    return Section("Search of learning rates", text=text, tables=made) if made else None


def _tokenizers(found: Comparison) -> Section | None:
    table = questions.tokenizers(found)
    if table is None:
        return None
    text = [
        "Bits per byte compare; nats per token and perplexity do not, because a longer "
        "token is harder to guess and there are fewer of them."
    ]
    unknown = [row.label for row in found.rows if pick(row.first, "unknown")]
    notes = [UNKNOWN.format(", ".join(unknown))] if unknown else []
    return Section("Word, character or subword", text, tables=[table], notes=notes)


def _figures_that_misrank(found: Comparison) -> Section | None:
    made = questions.misranked(found)
    if not made:
        return None
    text = [
        "A pair of checkpoints is misranked by a figure that puts the one with more "
        f"{found.unit_words} first. Differences within noise are counted too."
    ]
    return Section("Which figure to rank by", text=text, tables=made)


def _stopping(found: Comparison) -> Section | None:
    table = questions.stopping(found)
    if table is None:
        return None
    notes = questions.protocols_of_stopping(found)
    return Section("When to stop", tables=[table], notes=notes)


def _samples(found: Comparison) -> Section | None:
    shown = []
    for row in [*found.rows, *found.exhibits]:
        texts = [cell["sample"] for cell in row.cells if cell.get("sample")]
        if texts:
            cut = texts[0] if len(texts[0]) <= SAMPLE else f"{texts[0][:SAMPLE]} …"
            shown.append((f"{row.label}, seed {row.cells[0]['seed']}", cut))
    return Section("Samples side by side", samples=shown) if shown else None


def _missing(found: Comparison) -> Section | None:
    table = conditions.unfinished(found)
    return Section("Runs without a result", tables=[table]) if table else None
