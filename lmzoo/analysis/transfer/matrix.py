"""N models on N texts: what each loses where, and which differences can be told."""

from typing import Literal

from lmzoo.analysis.history import History
from lmzoo.analysis.transfer.corpora import (
    Corpus,
    chosen_corpora,
    labels,
    open_runs,
    trained_on,
)
from lmzoo.analysis.transfer.matrix_page import SPLITS, Cell, finding
from lmzoo.analysis.transfer.passes import interval, losses
from lmzoo.report.finding import Finding

Part = Literal["val", "test", "train", "both"]


def matrix(
    runs: list[str],
    *,
    corpora: str = "",
    split: Part = "val",
    max_tokens: int = 0,
    policy: Literal["own", "unk", "skip"] = "own",
    checkpoints: Literal["best", "last"] = "best",
) -> Finding:
    """What each model loses on each corpus.

    Args:
        runs: run folders, exported folders or checkpoint files.
        corpora: texts as kjv,pydoc or name=path,name=path; by default those that the
            runs were trained on, under the splits that they were trained with
        split: the part of each text; both sets training against held-out text
        max_tokens: of each part measure only about as many tokens, evenly spread; 0
            for all of them
        policy: symbols outside a vocabulary are read as <unk> or skipped; by default
            as the run does
        checkpoints: the best or the last checkpoint of each run

    Raises:
        UsageError: a run twice, no such run or text, or a part without text.
    """
    opened = open_runs(runs, 1)
    columns = chosen_corpora(opened, corpora)
    cells: list[Cell] = []
    for run, label in zip(opened, labels(opened), strict=True):
        run.at(getattr(run, checkpoints))
        for corpus in columns:
            cells += _measured(run, label, corpus, split, max_tokens, policy)
    return finding(cells, split, max_tokens, checkpoints)


def _measured(
    run: History, label: str, corpus: Corpus, split: str, most: int, policy: str
) -> list[Cell]:
    """One model on one text: encoded once, whatever the splits."""
    changes = {} if policy == "own" else {"unknown": policy}
    data = corpus.under(run, **changes)
    home = data.describe()["sha256"] == trained_on(run)
    own = run.run.stored["data"].get("arguments") or {}
    same_cut = all(
        own.get(key) == corpus.arguments.get(key, own.get(key))
        for key in ("val_fraction", "test_fraction", "val_path", "test_path")
    )
    model = run.run.model
    found = []
    for part in SPLITS.get(split, (split,)):
        cost = losses(model, data, part, most)
        found.append(
            Cell(
                label,
                corpus.label,
                part,
                home,
                cost,
                run.tokenizer.kind,
                data.settings.unknown,
                home and not same_cut and part != "train",
                interval(cost),
            )
        )
    return found
