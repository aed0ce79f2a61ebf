"""How made texts change with the steps, drawn beside real text."""

from collections.abc import Sequence

from lmzoo.analysis.history import History
from lmzoo.analysis.probes.prose import Averages, Made
from lmzoo.report.charts import Curve
from lmzoo.report.lines import lines

LONG = {
    "known_words": "real words",
    "repetition": "repetition",
    "distinct_1": "distinct words",
    "distinct_2": "distinct pairs",
    "distinct_3": "distinct triples",
    "punctuation": "punctuation",
    "symbols": "symbols",
}
CHARTS = {
    "words": ("Real words and repetition", ("known_words", "repetition")),
    "distinct": (
        "Distinct words, pairs and triples",
        ("distinct_1", "distinct_2", "distinct_3"),
    ),
    "marks": ("Punctuation and symbols", ("punctuation", "symbols")),
}


def figures(
    history: History, made: Sequence[Made], real: Averages | None
) -> dict[str, str]:
    """Lines over the steps, each against real text; none for one checkpoint."""
    if len(made) < 2:
        return {}
    x, drawn = [float(one.step) for one in made], {}
    for file, (title, names) in CHARTS.items():
        names = [name for name in names if any(m.figures[name].values for m in made)]
        if not names:
            continue
        curves = [_line(made, name, x, i) for i, name in enumerate(names)]
        y = (0.0, 1.0) if file == "words" else None
        marks = {f"held-out: {LONG[names[0]]}": real[names[0]].mean} if real else {}
        drawn[file] = lines(
            curves,
            f"{history.name}: {title[0].lower()}{title[1:]}",
            "optimizer steps",
            "share of the characters" if file == "marks" else "share",
            y,
            marks,
        )
    return drawn


def _line(made: Sequence[Made], name: str, x: list[float], style: int) -> Curve:
    found = [one.figures[name] for one in made]
    ends = [one.interval or (one.mean, one.mean) for one in found]
    low = [max(0.0, end[0]) for end in ends]
    high = [min(1.0, end[1]) for end in ends]
    return Curve(LONG[name], x, [one.mean for one in found], low, high, style)
