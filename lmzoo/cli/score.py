"""``lmzoo score``: what each token of a text costs each model, side by side."""

import math
import sys
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from typing import Any

import torch

from lmzoo import runs as stored_runs
from lmzoo import scoring
from lmzoo.cli import given, score_page, score_tables
from lmzoo.cli.command import call
from lmzoo.cli.score_columns import Column
from lmzoo.errors import UsageError
from lmzoo.files import finite
from lmzoo.models.base import LanguageModel
from lmzoo.scoring import Score
from lmzoo.scoring.common import token_names
from lmzoo.text.protocol import Tokenizer
from lmzoo.text.readers import Notes, read_text

NEARLY = 0.9  # share of a text's spans from which it counts as trained on


def run(argv: list[str]) -> int:
    """Score a text under several models."""
    return call("score", score, argv)


def score(
    runs: list[str],
    *,
    text: str = "",
    file: str = "",
    import_: tuple[str, ...] = (),
    stride: int | None = None,
    top_k: int = 0,
    continuations: str = "",
    json: bool = False,
    html: str = "",
    device: str = "auto",
) -> int:
    """Score a text: what each of its tokens costs each model, side by side.

    Args:
        runs: run folders, checkpoint files, or folders of exported models.
        text: the text itself.
        file: a file with the text; - reads standard input.
        import_: a JSON file with the log-probabilities of another model: {"name": ...,
            "tokens": [...], "logprobs": [...]} or [{"token": ..., "logprob": ...}];
            may be repeated.
        stride: tokens from one window to the next in a text longer than the context
            (half the context if not given); smaller is slower and gives more context.
        top_k: show the k likeliest tokens after the text.
        continuations: a JSON list of texts that may come next, to be weighed.
        json: print JSON, for programs.
        html: write a page to this file, each token coloured by its surprise.
        device: auto (a GPU if there is one), cpu, cuda, cuda:N or mps.
    """
    wanted = _text(text, file)
    choices = _texts(continuations)
    scored = [read_imported(path, wanted) for path in import_]
    others = [Column(name, "imported", found) for name, found in scored]
    where = given.device(device)
    columns = [
        _column(path, name, wanted, stride, top_k, choices, where)
        for path, name in zip(runs, _names(runs), strict=True)
    ]
    columns += others
    if html:
        page = score_page.page(wanted, columns)
        given.write_figure(Path(html), page, "--html", "<!doctype html>")
    if json:
        print(dumps(finite(_plain(wanted, columns)), indent=1, ensure_ascii=True))
    else:
        score_tables.show(wanted, columns)
    if html:
        print(f"page       {html}", file=sys.stderr)
    return 0


def _column(
    path: str,
    name: str,
    text: str,
    stride: int | None,
    top_k: int,
    texts: list[str],
    device: torch.device,
) -> Column:
    """One run's view of the text."""
    opened = stored_runs.load(path)
    model, tokenizer = opened.model.to(device), opened.tokenizer
    scored = scoring.score(model, tokenizer, text, stride=stride, top_k=top_k)
    column = Column(name, f"{tokenizer.kind} {tokenizer.vocab_size:,}", scored)
    column.notices = _notices(scored, model, tokenizer)
    column.notices += _seen_in_training(opened.path, text)
    if top_k:
        column.next_tokens = scoring.next_tokens(model, tokenizer, text, top_k)
        column.top = _top(scored, tokenizer)
    if texts:
        column.continuations = scoring.continuations(model, tokenizer, text, texts)
        unknown = [t for t in texts if tokenizer.unk_id in tokenizer.encode(t)]
        if tokenizer.unk_id is not None and unknown:
            column.notices.append(
                f"of the continuations, {unknown[0]!r} holds unknown symbols, whose "
                f"cost is not that of the text: its share says nothing"
            )
    return column


def _notices(score: Score, model: LanguageModel, tokenizer: Tokenizer) -> list[str]:
    """What must be known to read a model's figures."""
    found = []
    if score.unknown is not None and score.unknown.any():
        count, first = int(score.unknown.sum()), int(score.unknown.argmax())
        symbol = score.pieces(first + 1)[-1]
        found.append(
            f"{count:,} of {len(score.nll):,} tokens unknown ({symbol!r} first), "
            f"scored as {tokenizer.symbols()[tokenizer.unk_id or 0]}, whatever they "
            f"are: the figures are too low to compare"
        )
    if model.exhibit is not None:
        found.append(
            f"an exhibit: it breaks the law {model.exhibit!r}; its figures are no "
            f"measure of prediction"
        )
    return found


def _seen_in_training(path: Path, text: str) -> list[str]:
    """Whether the text stands in the run's training text, if its hashes are there."""
    spans = stored_runs.read_spans(path)
    if spans is None:
        return ["whether it was trained on cannot be told: no spans.bin is beside it"]
    found = spans.present(text)
    if not len(found) or not spans.exact:
        return []
    if NEARLY <= found.mean() < 1:
        return [f"{found.mean():.1%} of this text occurs in the training text"]
    if not found.all():
        return []
    return [
        "every part of this text occurs in the training text: its score may be of what "
        "was learned by heart, and not of how such text is predicted"
    ]


# ---- what was given ------------------------------------------------------------------


def _text(text: str, file: str) -> str:
    read = given.text_or_file(text, file)
    if not read:
        empty = {"": "no text to score", "-": "standard input is empty"}
        why = empty.get(file, f"{file}: is empty")
        raise UsageError(f"{why}; give --text TEXT or --file FILE")
    return read


def _texts(continuations: str) -> list[str]:
    if not continuations:
        return []
    example = """give a JSON list of texts, as in '["a", "b"]'"""
    try:
        texts = loads(continuations)
    except (JSONDecodeError, RecursionError) as error:
        raise UsageError(f"--continuations: not JSON ({error}); {example}") from error
    if not isinstance(texts, list) or not texts:
        raise UsageError(f"--continuations: expected a list of texts; {example}")
    if not all(isinstance(text, str) and text for text in texts):
        raise UsageError(f"--continuations: expected non-empty texts; {example}")
    return texts


def read_imported(path: str, text: str) -> tuple[str, Score]:
    """The name and the score that a file of another model's log-probabilities holds.

    Raises:
        UsageError: not such a file, or of another text.
    """
    try:
        content = "".join(read_text(Path(path), Notes()))
        data = loads(content)
    except (JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON ({error}); see --help") from error
    return scoring.imported(data, text, path)


def _names(paths: list[str]) -> list[str]:
    """A short name for each path; the path itself where short names clash."""
    short = [Path(path).resolve().name for path in paths]
    return [
        name if short.count(name) == 1 else path
        for name, path in zip(short, paths, strict=True)
    ]


# ---- JSON ----------------------------------------------------------------------------


def _top(score: Score, tokenizer: Tokenizer) -> list[list[tuple[str, float]]]:
    assert score.top is not None
    name = token_names(tokenizer)
    rows = zip(score.nll.tolist(), *(part.tolist() for part in score.top), strict=True)
    return [
        []
        if math.isnan(nats)
        else [(name(i), -value) for i, value in zip(ids, values, strict=True)]
        for nats, ids, values in rows
    ]


def _plain(text: str, columns: list[Column]) -> dict[str, Any]:
    return {"text": text, "models": [_plain_column(column) for column in columns]}


def _plain_column(column: Column) -> dict[str, Any]:
    score = column.score
    plain: dict[str, Any] = {
        **score.column(column.name),
        "tokenizer": column.tokenizer,
        "totals": score.totals(),
        "first_token": score.first_rule,
        "context": score.context,
        "notices": column.notices,
    }
    if score.ids is not None and score.rank is not None:
        scored = zip(score.rank.tolist(), score.nll.tolist(), strict=True)
        ranks = [None if math.isnan(nats) else rank for rank, nats in scored]
        plain |= {"ids": score.ids.tolist(), "ranks": ranks}
    if column.top:
        plain["top"] = [
            [{"token": token, "logprob": -nats} for token, nats in row]
            for row in column.top
        ]
    if column.next_tokens:
        plain["next_tokens"] = [row._asdict() for row in column.next_tokens]
    if column.continuations:
        plain["continuations"] = [row._asdict() for row in column.continuations]
    return plain
