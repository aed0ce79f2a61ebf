"""How expectations go with the steps, drawn."""

from collections.abc import Sequence

from lmzoo.analysis.history import History
from lmzoo.analysis.probes.expectations import Looks, Names, Text, unit
from lmzoo.report.charts import Curve
from lmzoo.report.lines import lines
from lmzoo.report.svg import fit
from lmzoo.report.words import visible


def figures(
    history: History,
    prompt: str,
    looks: Looks,
    names: Names,
    texts: Sequence[Text],
) -> dict[str, str]:
    """Lines over the steps; none where there is one checkpoint."""
    steps = looks.steps
    if len(steps) < 2:
        return {}
    x, places = [float(step) for step in steps], range(len(looks.last.tokens))
    own = [looks.own[step].entropies.tolist() for step in steps]
    curves = [
        Curve(f"{unit(history)} {i + 1}", x, [row[i] for row in own], style=i + 1)
        for i in places
        if len(places) <= 6  # more lines are a tangle; their mean says it
    ]
    mean = [sum(row) / len(row) for row in own]
    curves = [Curve("mean", x, mean), *(curves if len(places) > 1 else [])]
    under, over = "optimizer steps", history.name
    after = f"after {fit(repr(prompt), 17, 260, bold=True)}"
    figures = {
        "entropy": lines(curves, f"{over}: entropy {after}", under, "bits"),
        "choices": lines(
            [
                Curve(
                    f"{i + 1}: {visible(names(looks.last.tokens[i]))}",
                    x,
                    [float(looks.fixed[step].chosen[i]) for step in steps],
                    style=i + 1,
                )
                for i in list(places)[:6]
            ],
            f"{over}: top choices {after}",
            under,
            "probability, each after the prompt and the choices before it",
            (0.0, 1.0),
        ),
    }
    if texts:
        figures["text"] = _text_chart(looks, texts, x, over)
    return figures


def _text_chart(looks: Looks, texts: Sequence[Text], x: list[float], over: str) -> str:
    """Entropy of texts, and what they really cost, in and out of domain."""
    curves = []
    for i, text in enumerate(texts):
        rows = [looks.texts[text.name][step] for step in looks.steps]
        for name, key, style in (
            ("entropy", "entropy", 2 * i),
            ("paid", "cross_entropy", 2 * i + 1),
        ):
            y = [row[key] or 0.0 for row in rows]
            curves.append(Curve(f"{text.name}, {name}", x, y, style=style))
    title = f"{over}: expected and paid bits on text"
    return lines(
        curves, title, "optimizer steps", "bits per token; paid: cross-entropy"
    )
