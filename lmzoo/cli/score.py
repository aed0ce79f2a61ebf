"""``lmzoo score``: what each token of a text costs each model, side by side."""

import math
import sys
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmzoo.cli import given
from lmzoo.cli.command import call
from lmzoo.errors import UsageError
from lmzoo.files import finite
from lmzoo.text.readers import Notes, read_text

if TYPE_CHECKING:
    import torch

    from lmzoo.scoring.columns import Column
    from lmzoo.scoring.result import Score


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
    # torch is for the work, and not for the help
    from lmzoo.cli import score_tables

    # as above
    from lmzoo.scoring import page as score_page

    # as above
    from lmzoo.scoring.columns import Column, short_names

    wanted = _text(text, file)
    choices = _texts(continuations)
    scored = [read_imported(path, wanted) for path in import_]
    others = [Column(name, "imported", found) for name, found in scored]
    where = given.device(device)
    columns = [
        _column(path, name, wanted, stride, top_k, choices, where)
        for path, name in zip(runs, short_names(runs), strict=True)
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
    device: "torch.device",
) -> "Column":
    """One run's view of the text."""
    # torch is for the work, and not for the help
    from lmzoo import runs as stored_runs

    # as above
    from lmzoo import scoring

    # as above
    from lmzoo.scoring.columns import column, trained_on

    opened = stored_runs.load(path)
    model, tokenizer = opened.model.to(device), opened.tokenizer
    seen = column(name, model, tokenizer, text, stride=stride, top_k=top_k)
    seen.notices += trained_on(stored_runs.read_spans(opened.path), text)
    if top_k:
        seen.next_tokens = scoring.next_tokens(model, tokenizer, text, top_k)
    if texts:
        seen.continuations = scoring.continuations(model, tokenizer, text, texts)
        unknown = [t for t in texts if tokenizer.unk_id in tokenizer.encode(t)]
        if tokenizer.unk_id is not None and unknown:
            seen.notices.append(
                f"of the continuations, {unknown[0]!r} holds unknown symbols, whose "
                f"cost is not that of the text: its share says nothing"
            )
    return seen


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


def read_imported(path: str, text: str) -> "tuple[str, Score]":
    """The name and the score that a file of another model's log-probabilities holds.

    Raises:
        UsageError: not such a file, or of another text.
    """
    # torch is for the work, and not for the help
    from lmzoo import scoring

    try:
        content = "".join(read_text(Path(path), Notes()))
        data = loads(content)
    except (JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON ({error}); see --help") from error
    return scoring.imported(data, text, path)


# ---- JSON ----------------------------------------------------------------------------


def _plain(text: str, columns: "list[Column]") -> dict[str, Any]:
    return {"text": text, "models": [_plain_column(column) for column in columns]}


def _plain_column(column: "Column") -> dict[str, Any]:
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
