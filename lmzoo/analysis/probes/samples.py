"""What a run writes at each checkpoint, how it differs from real text, and varies."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lmzoo import runs
from lmzoo.analysis.history import History, open_history
from lmzoo.analysis.probes.prose import FIGURES, Averages, Made, averages, real_text
from lmzoo.analysis.probes.prose_charts import LONG, figures
from lmzoo.analysis.prompts import Prompt, read_prompt
from lmzoo.analysis.variability import MISSING, PHRASE, Variability, variability
from lmzoo.errors import UsageError
from lmzoo.generation import generate_texts
from lmzoo.report.finding import Finding
from lmzoo.report.spread import Spread
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, count, listed, percent, plural
from lmzoo.text.spans import Spans

REAL = "held-out text"
ENOUGH = 4  # samples for an interval: Student's factor is 12.7 with two, 4.3 with three
HEADS = {
    "known_words": "real words",
    "repetition": "repetition",
    "distinct_1": "dist-1",
    "distinct_2": "dist-2",
    "distinct_3": "dist-3",
    "punctuation": "punct.",
    "symbols": "symbols",
}


def samples(
    run: "str | History",
    *,
    prompt: str = "",
    checkpoints: str = "all",
    max_new_tokens: int = 300,
    temperature: float = 0.8,
    top_k: int = 0,
    seed: int = 42,
    num_samples: int = 5,
) -> Finding:
    """Samples of every checkpoint from the same prompt and seeds, and their figures.

    Real words: share of the words that the training text has. Repetition: share of
    the word 4-grams that stood in the sample before. Distinct-n: distinct word
    n-grams, divided by all. Punctuation, symbols: shares of the characters. Each is
    measured on every sample and averaged.

    Args:
        run: a run folder or one checkpoint
        prompt: the text to continue; empty begins a new one
        checkpoints: all, best, last, steps as 500,1000, or ~5 for five evenly spread
        max_new_tokens: of each sample
        temperature: 0 takes the likeliest token, 1 the model's own distribution
        top_k: sample among the k likeliest tokens; 0 among all
        seed: of the first sample; the second has the next, at every checkpoint
        num_samples: at each checkpoint; those of the last one are shown

    Raises:
        UsageError: an option out of its range, or no such checkpoint.
    """
    if num_samples < 1 or max_new_tokens < 1:
        raise UsageError("--num_samples and --max_new_tokens: give 1 or more")
    history = open_history(run)
    steps = history.choose(checkpoints)
    given = read_prompt(history, prompt, empty=True)
    spans = runs.read_spans(history.path)
    options = {
        "num_samples": num_samples,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "seed": seed,
    }
    made = []
    for step in steps:
        model = history.at(step)
        texts = generate_texts(model, history.tokenizer, given.text, **options)
        made.append(Made(step, texts, averages(texts, spans)))
    real, why = real_text(history, made[-1].texts, spans)
    last = variability(made[-1].texts, spans)
    return Finding(
        "samples",
        f"Samples {_when(steps)}: {history.name}",
        text=_said(made, real, num_samples),
        tables=[_table(made, real), _variability(last, made[-1], seed)],
        figures=figures(history, made, real),
        notes=_notes(given, spans, why, options),
        samples=_boxes(made, seed),
        rows=[_row(one) for one in made],
        data={
            "run": str(history.path),
            "prompt": given.text,
            **options,
            "seeds": list(range(seed, seed + num_samples)),
            "checkpoints": [{**_row(one), "texts": one.texts} for one in made],
            "held_out": {} if real is None else _plain(real),
            "variability": last.plain(),
        },
    )


def _when(steps: list[int]) -> str:
    return "over training" if len(steps) > 1 else f"of step {steps[0]:,}"


# ---- words ---------------------------------------------------------------------------


def _said(made: Sequence[Made], real: Averages | None, number: int) -> list[str]:
    first, last = made[0], made[-1]
    said = []
    if len(made) > 1:
        said.append(
            f"From step {first.step:,} to {last.step:,} "
            + "; ".join(
                f"{words} went from {_share(first.figures[name])} to "
                f"{_share(last.figures[name])}"
                for name, words in (
                    ("known_words", "the share of real words"),
                    ("distinct_1", "distinct words"),
                    ("punctuation", "punctuation"),
                )
                if first.figures[name].values and last.figures[name].values
            )
            + f" (means of {plural(number, 'sample')})."
        )
    if real is not None:
        said.append(_beside(last, real))
    said.append(
        "None of this says whether the text makes sense: only what it is made of."
    )
    return said


def _beside(last: Made, real: Averages) -> str:
    """How the last samples differ from real text, as far as that can be told."""
    number = len(last.texts)
    if number < ENOUGH:
        known = last.figures["known_words"]
        words = "" if not known.values else (
            f" ({_share(known)} real words, {_share(real['known_words'])} in {REAL})"
        )  # fmt: skip
        few = "has no interval" if number == 1 else "have intervals too wide to compare"
        return (
            f"{plural(number, 'sample')} of step {last.step:,} {few}, so what sets "
            f"{'it' if number == 1 else 'them'} apart from {REAL} cannot be "
            f"told{words}; give --num_samples 5."
        )
    if gaps := _unlike(last.figures, real):
        return (
            f"Set beside {REAL} of the same length, the samples of step "
            f"{last.step:,} lie {'; '.join(gaps)}."
        )
    return (
        f"By {number} samples none of these figures of step {last.step:,} is told "
        f"apart from {REAL} of the same length (their 95 % intervals meet), which does "
        "not show that they are alike."
    )


def _seeds(seed: int, number: int) -> str:
    return f"seeds {seed} to {seed + number - 1}" if number > 1 else f"seed {seed}"


def _unlike(made: Averages, real: Averages) -> list[str]:
    """Figures whose intervals do not meet those of real text, in words."""
    found: dict[str, list[str]] = {"below it": [], "above it": []}
    for name in FIGURES:
        one, other = made[name].interval, real[name].interval
        if one and other and (one[1] < other[0] or other[1] < one[0]):
            side = "below it" if one[1] < other[0] else "above it"
            beside = f"{_share(made[name])} against {_share(real[name])}"
            found[side].append(f"{LONG[name]} ({beside})")
    return [f"{side} in {listed(names)}" for side, names in found.items() if names]


def _notes(
    given: Prompt, spans: Spans | None, why: str, options: Mapping[str, Any]
) -> list[str]:
    temperature, top_k, seed = (options[k] for k in ("temperature", "top_k", "seed"))
    chance = f"temperature {temperature:g}" if temperature else "greedy"
    chance += f", top_k {top_k}" if top_k else ""
    prompt = repr(given.text) if given.text else "none (a new text)"
    notes = [
        f"prompt: {prompt}, not counted in any figure; {chance}; "
        f"{_seeds(seed, options['num_samples'])} at every checkpoint; "
        f"{options['max_new_tokens']:,} tokens each at most",
        f"real words: in the training text, repeats counted; repetition: word {PHRASE}-"
        "grams that stood in the sample before; dist-n: distinct word n-grams / all, "
        "lower with greater length; symbols: neither letters, digits, white space nor "
        "punctuation (Unicode categories); bands: 95 % intervals over samples",
    ]
    if chance != "temperature 1":
        notes.append(
            "this way of sampling favours the likely: the figures are those of the "
            "model and of the sampling together; --temperature 1 is the model's own"
        )
    if spans is None:
        notes.append(f"the share of real words {MISSING}")
    return [*notes, why, *given.notes]


# ---- tables, figures, numbers --------------------------------------------------------


def _variability(found: Variability, last: Made, seed: int) -> Table:
    number = len(last.texts)
    caption = (
        f"Variability of {plural(number, 'sample')} of step {last.step:,}, "
        f"{_seeds(seed, number)}"
    )
    rows = [list(row) for row in found.rows()]
    return Table(["over all of these samples", ""], rows, caption, words=(0, 1))


def _table(made: Sequence[Made], real: Averages | None) -> Table:
    rows = [
        [count(one.step), *(_share(one.figures[name]) for name in FIGURES)]
        for one in made
    ]
    if real is not None:
        rows.append([REAL, *(_share(real[name]) for name in FIGURES)])
    kinds = {} if real is None else {len(made): "floor"}
    caption = "What the samples are made of; means over the samples of each checkpoint"
    return Table(["step", *HEADS.values()], rows, caption, kinds=kinds)


def _boxes(made: Sequence[Made], seed: int) -> list[tuple[str, str]]:
    """The first sample of each checkpoint, then the others of the last."""
    boxes = [(f"step {one.step:,}, seed {seed}", one.texts[0]) for one in made]
    last = made[-1]
    boxes += [
        (f"step {last.step:,}, seed {seed + i}", text)
        for i, text in enumerate(last.texts)
        if i
    ]
    return boxes


def _row(made: Made) -> dict[str, Any]:
    return {"step": made.step, **_plain(made.figures)}


def _plain(figures: Averages) -> dict[str, float | None]:
    plain: dict[str, float | None] = {}
    for name, one in figures.items():
        plain[name] = one.mean if one.values else None
        plain[f"{name}_half_width"] = one.half
    return plain


def _share(one: Spread) -> str:
    return percent(one.mean) if one.values and math.isfinite(one.mean) else NONE
