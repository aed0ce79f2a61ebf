"""Models set side by side, told: tables, continuations, sentences from the numbers."""

import math
from collections.abc import Sequence
from typing import Any

from lmzoo.analysis.side_by_side import (
    Cells,
    Model,
    Phrase,
    figures,
    known,
    perplexity,
    scores,
)
from lmzoo.analysis.transfer.passes import difference
from lmzoo.generation import generate_texts
from lmzoo.report.page import Section
from lmzoo.report.table import Table
from lmzoo.report.words import NONE, count, decimals, listed, signed, visible
from lmzoo.scoring import Score, next_tokens

LONGEST = 60  # tokens of a phrase that are shown one by one
NEXT = 5  # likeliest tokens after a phrase
HEADS = ["model", "tokens", "nats", "perplexity", "bits per char", "bits per byte"]


def compared(
    models: Sequence[Model],
    cells: Cells,
    prompts: Sequence[str],
    phrases: Sequence[Phrase],
    generation: dict[str, Any],
) -> tuple[list[Section], dict[str, Any]]:
    """The report's sections, and its numbers, JSON-plain."""
    scored = [scores(models, phrase) for phrase in phrases]
    written = {
        prompt: {
            model.name: generate_texts(
                model.run.model, model.run.tokenizer, prompt, **generation
            )
            for model in models
        }
        for prompt in prompts
    }
    sections = [
        Section("Summary", text=_observations(models, cells, phrases, scored)),
        _data(models),
        _perplexities(models, cells),
        *(_texts(prompt, made) for prompt, made in written.items()),
        *(
            _phrase(i, phrase, columns, models)
            for i, (phrase, columns) in enumerate(zip(phrases, scored, strict=True), 1)
        ),
    ]
    numbers = {
        "models": [{"name": m.name, "run": str(m.run.path)} for m in models],
        "validation": [
            {"model": model, "text": text, **figures(cost)}
            for (model, text), cost in cells.items()
        ],
        "continuations": written,
        "generation": generation,
        "phrases": [
            {"text": phrase.text, "models": [s.column(n) | s.totals() for n, s in row]}
            for phrase, row in zip(phrases, scored, strict=True)
        ],
        "observations": sections[0].text,
    }
    return sections, numbers


# ---- sections ------------------------------------------------------------------------


def _data(models: Sequence[Model]) -> Section:
    rows = []
    for model in models:
        stored = model.run.stored
        described = (stored.get("data") or {}).get("described") or {}
        splits = described.get("splits") or {}
        sizes = [splits.get(part, {}) for part in ("train", "val")]
        rows.append(
            [
                model.name,
                model.corpus or "(as it came)",
                *(count(size.get("characters")) for size in sizes),
                *(count(size.get("tokens")) for size in sizes),
                count(model.run.step),
                str(model.run.path),
            ]
        )
    heads = ["model", "text", "characters to train on", "to validate on"]
    heads += ["tokens to train on", "to validate on", "steps", "where"]
    return Section("Data and models", tables=[Table(heads, rows, words=(0, 1, 7))])


def _perplexities(models: Sequence[Model], cells: Cells) -> Section:
    tables = []
    for text in dict.fromkeys(text for _, text in cells):
        rows, kinds = [], {}
        best = min(models, key=lambda m: cells[m.name, text].bits_per_char)
        for i, model in enumerate(models):
            cost = cells[model.name, text]
            apart = NONE
            if model.corpus:
                gap = difference(cost, cells[models[0].name, text])
                apart = signed(gap.mean)
                apart += f" ± {gap.half:.3f}" if gap.half else ""
            told = cost.nats_per_token, perplexity(cost), cost.bits_per_char
            row = [model.name, count(len(cost.nats)), *map(decimals, told), apart]
            rows.append(row)
            if model is best:
                kinds[i] = "best"
        heads = ["model", "tokens", "nats per token", "perplexity", "bits per char"]
        heads.append(f"bits per char beyond {models[0].name}")
        tables.append(Table(heads, rows, f"Held-out part of {text}", kinds=kinds))
    length = min(model.run.model.context_length for model in models)
    notes = [
        f"Every model reads fresh windows of {length} tokens, each target once. Only "
        f"bits per character compare across tokenizers. The interval is over stretches "
        f"of the text, 95 %."
    ]
    return Section("Perplexities", tables=tables, notes=notes)


def _texts(prompt: str, made: dict[str, list[str]]) -> Section:
    boxes = [
        (name if i == 0 else f"{name}, sample {i + 1}", prompt + text)
        for name, texts in made.items()
        for i, text in enumerate(texts)
    ]
    return Section(f"Continuations of “{prompt}”", samples=boxes)


def _phrase(
    number: int,
    phrase: Phrase,
    columns: Sequence[tuple[str, Score]],
    models: Sequence[Model],
) -> Section:
    seen = {model.name: known(model, phrase.text) for model in models}
    rows = []
    for name, found in columns:
        totals = found.totals()
        keys = ("nats", "perplexity", "bits_per_char", "bits_per_byte")
        told = [totals[key] for key in keys]
        rows.append([name, count(totals["tokens"]), *map(decimals, told)])
        rows[-1].append(seen.get(name, "not known"))
    words = (0, len(HEADS))
    summary = Table([*HEADS, "in its training text"], rows, words=words)
    shown = [phrase.text] if len(phrase.text) < 400 else []
    tables = [summary, *_by_token(columns), _next(models, phrase.text)]
    rules = dict.fromkeys(found.first_rule for _, found in columns)
    return Section(
        f"Phrase {number}",
        shown,
        tables=tables,
        notes=[f"First token: {listed(list(rules))}."],
    )


def _by_token(columns: Sequence[tuple[str, Score]]) -> list[Table]:
    """Bits of each token; models that cut the phrase alike share a table."""
    alike: dict[bytes, list[tuple[str, Score]]] = {}
    for name, found in columns:
        if len(found.nll) <= LONGEST:
            alike.setdefault(found.chars.tobytes(), []).append((name, found))
    tables = []
    for group in alike.values():
        rows = [
            [visible(piece), *(decimals(s.nll[i] / math.log(2), 2) for _, s in group)]
            for i, piece in enumerate(group[0][1].pieces())
        ]
        heads = ["token", *(name for name, _ in group)]
        tables.append(Table(heads, rows, "Bits of surprise"))
    return tables


def _next(models: Sequence[Model], text: str) -> Table:
    columns = [next_tokens(m.run.model, m.run.tokenizer, text, NEXT) for m in models]
    rows = [
        [str(i + 1), *(f"{visible(c.token)} {c.probability:.1%}" for c in row)]
        for i, row in enumerate(zip(*columns, strict=True))
    ]
    heads = ["", *(model.name for model in models)]
    return Table(heads, rows, "Likeliest next tokens")


# ---- sentences -----------------------------------------------------------------------


def _observations(
    models: Sequence[Model],
    cells: Cells,
    phrases: Sequence[Phrase],
    scored: Sequence[Sequence[tuple[str, Score]]],
) -> list[str]:
    """What the numbers say, one sentence each."""
    start, tuned = models[0], [model for model in models if model.corpus]
    told = [
        f"The {listed([m.name for m in tuned])} were fine-tuned from the "
        f"{start.name}, on the texts {listed([m.corpus for m in tuned])}."
    ]
    for model in tuned:
        mine, theirs = (cells[m.name, model.corpus] for m in (model, start))
        gap, before = difference(mine, theirs), f"{perplexity(theirs):,.2f}"
        clear = gap.interval is not None and gap.interval[0] * gap.interval[1] > 0
        told.append(
            f"On held-out {model.corpus}, its own text, the {model.name} has "
            f"perplexity {perplexity(mine):,.2f} where the {start.name} has {before}: "
            f"{signed(gap.mean)} bits per character"
            f"{'' if clear else ', which is within the noise'}."
        )
        for other in (m for m in tuned if m is not model):
            away, home = (cells[m.name, other.corpus] for m in (model, other))
            gap = difference(away, home)
            told.append(
                f"On {other.corpus} it needs {signed(gap.mean)} bits per character "
                f"beside the {other.name}, which was trained there."
            )
    for i, (phrase, row) in enumerate(zip(phrases, scored, strict=True), 1):
        best = min(row, key=lambda one: one[1].totals()["bits_per_char"])
        inside = [m.name for m in tuned if known(m, phrase.text) == "all of it"]
        counted = best[1].totals()["characters"]
        partly = "" if counted == len(phrase.text) else " without its first token"
        caution = (
            f"; the {listed(inside)} had it in the training text" if inside else ""
        )
        told.append(
            f"Phrase {i} is least surprising to {best[0]}, "
            f"{best[1].totals()['bits_per_char']:.3f} bits per character"
            f"{partly}{caution}."
        )
    return told
