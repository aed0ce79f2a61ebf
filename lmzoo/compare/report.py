"""``results.json`` as report.html, report.md and a table for the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from lmzoo.compare import conditions, curves, plots, questions, recipes, tables
from lmzoo.compare.paragraph import paragraph
from lmzoo.compare.reading import Comparison, pick
from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.report.page import Section, html, markdown
from lmzoo.report.words import decimals, listed, plural

RESULTS, PAGE, TEXT = "results.json", "report.html", "report.md"
NAMES = ("name", "label", "model", "seed")  # without which a cell is nobody's
SAMPLE = 600  # characters shown of a sample
EXPLAINED = (
    "Shaded: the lowest mean. ± is half the 95 % interval of the mean over seeds "
    "(Student's t). A rank is the first and the last place that a model can have: "
    "behind all that are shown to be better with an interval apart from its own, "
    "before all shown to be worse. Floors are counted or compressed on the same text."
)
LOSSY = (
    "Unknown: share of the validation tokens that the vocabulary lacks. Their spelling "
    "is not coded, though their bytes are counted, so such figures are too low; they "
    "are ranked only where nothing beside them codes the whole text."
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
    if not isinstance(results, dict) or not isinstance(results.get("cells"), list):
        raise UsageError(f"{file} holds no comparison")
    if results.get("format") != 1:
        raise UsageError(
            f"{file} has format {results.get('format')!r}, this lmzoo reads format 1; "
            "upgrade lmzoo"
        )
    for cell in results["cells"]:
        if not isinstance(cell, dict) or not set(NAMES) <= set(cell):
            raise UsageError(f"{file} is damaged: a cell lacks {listed(NAMES)}")
    return results


COLUMNS = ("training s", "seeds", "parameters", "nats/token", "accuracy", "steps")


def summary_table(results: Mapping[str, Any], console: Console) -> RichTable:
    """The report's main figures in its order and words, as many as have room."""
    found = Comparison(results)
    endless = console.options.update(max_width=1_000)
    for dropped in range(len(COLUMNS)):
        table = _summary(found, COLUMNS[: len(COLUMNS) - dropped])
        if Measurement.get(console, endless, table).maximum <= console.width:
            return table
    return _summary(found, ())


def protocols(results: Mapping[str, Any]) -> list[str]:
    """What the letters of the context column stand for."""
    told = tables.letters(Comparison(results)).items()
    return [f"({letter}) {protocol}" for protocol, letter in told]


def first_words(results: Mapping[str, Any]) -> list[str]:
    """Who leads, and what was missed: the first sentences of the report."""
    return paragraph(Comparison(results))[:1]


def _summary(found: Comparison, extra: Sequence[str]) -> RichTable:
    full, spent = tables.quality(found), tables.cost(found)
    keep = [0, 1, 2, 3]
    costs = {row[0]: row for row in spent.rows}
    table = RichTable(box=None, pad_edge=False)
    for i, head in enumerate([*(full.heads[i] for i in keep), *extra]):
        left = i in (0, 1, 3)
        table.add_column(head, justify="left" if left else "right", no_wrap=True)
    labels = {_marked(row): row.label for row in [*found.rows, *found.exhibits]}
    for i, row in enumerate(full.rows):
        cost = costs.get(labels.get(row[1], ""))
        cells = [row[k] for k in keep]
        for name in extra:
            if name in full.heads:
                cells.append(row[full.heads.index(name)])
            else:
                cells.append(cost[spent.heads.index(name)] if cost else "")
        style = {"best": "bold", "floor": "dim"}.get(full.kinds.get(i, ""), "")
        table.add_row(*map(Text, cells), style=style)
    return table


def _marked(row: Any) -> str:
    return f"{row.label} ({row.remark})" if row.remark else row.label


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
        _recipes(found),
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
    if not found.rows and not found.shown:
        return None
    letter = tables.letters(found)
    notes = [EXPLAINED, _protocols(found, letter)]
    if any(row.mark == "counting" for row in found.rows):
        notes.append("counting: sized and trained by counting, outside any matching.")
    if any(row.unknown for row in found.rows):
        notes.append(LOSSY)
    told = {row.unranked for row in found.shown}
    if "exhibit" in told:
        notes.append(
            "exhibit: broken on purpose, shown and not ranked; one without figures was "
            "not trained, and the reason stands among the runs without a result."
        )
    if "off budget" in told:
        notes.append(
            "off budget: trained three times, and each time for more than 5 % more or "
            "less than the budget; shown and not ranked."
        )
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
        "State: what one stream of text keeps between tokens. MFU: training FLOPs a "
        "second, nothing computed twice counted, over the rate of the best plain "
        "matrix product that was measured at the run's end, in its precision and "
        "threads. Peak memory is of the whole process, the libraries and the text "
        "included.",
        *tables.without_flops(found),
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
    keys = ("exponent_forward", "exponent")
    rows = [
        [label, *(decimals(pick(one, key), 2) for key in keys)]
        for label, one in timing.items()
        if any(pick(one, key) is not None for key in keys)
    ]
    heads = ["time grows as length to the power", "forward", "forward and backward"]
    growth = tables.Table(heads, rows)
    one = next(iter(timing.values()), {})
    notes = [
        f"Timed after training: {one['batch']} sequences a pass, "
        f"{plural(one['threads'], 'thread')}, medians of {one['rounds']} "
        "interleaved rounds; each model is built anew for each "
        "length, with that context. "
        "The power is the slope of log time on log length."
    ] if rows and "rounds" in one else []  # fmt: skip
    if not figures:
        return None
    uneven = "Tokens differ in length: compare shapes by position, not heights."
    return Section(
        "Context and length",
        text=[uneven] if len(found.tokenizers) > 1 else [],
        figures=figures,
        tables=[growth] if rows else [],
        notes=notes,
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
    notes = [LOSSY] if any(row.unknown for row in found.rows) else []
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
    notes = [
        "Each begins with its prompt: by default the first character of the validation "
        "part."
    ]
    if not shown:
        return None
    return Section("Samples side by side", samples=shown, notes=notes)


def _recipes(found: Comparison) -> Section | None:
    table = recipes.table(found)
    text = ["As the runs had it, of the first seed."]
    return Section("Recipes", text=text, tables=[table]) if table else None


def _missing(found: Comparison) -> Section | None:
    table = conditions.unfinished(found)
    return Section("Runs without a result", tables=[table]) if table else None
