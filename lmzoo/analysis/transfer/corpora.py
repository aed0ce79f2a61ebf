"""The texts that models are moved between, and what models and texts are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo.analysis.history import History, names_apart, open_history
from lmzoo.analysis.texts import own_arguments, where
from lmzoo.errors import UsageError
from lmzoo.text.datamodule import TextDataModule

WHAT = ("corpus", "path", "val_path", "test_path", "text_column", "keep_linebreaks")
CUT = ("val_fraction", "test_fraction", "max_train_tokens", "max_val_tokens")


@dataclass(frozen=True)
class Corpus:
    """A text and how it is split.

    Attributes:
        label: for headings.
        arguments: of ``TextDataModule``: what the text is, where it is cut.
        sha256: of the text that a run was trained on; None if no run was.
    """

    label: str
    arguments: dict[str, Any]
    sha256: str | None = None

    def under(self, run: History, **changes: Any) -> TextDataModule:
        """The text under the tokenizer of ``run``.

        Raises:
            UsageError: no such text, or it has changed since a run was trained on it.
        """
        given = {**own_arguments(run.run), **self.arguments, **changes}
        try:
            data = TextDataModule(**given)
        except TypeError as error:
            raise UsageError(f"{run.path}: its data arguments: {error}") from error
        if self.sha256 not in (None, data.describe()["sha256"]):
            raise UsageError(
                f"{self.label}: the text that a run was trained on has changed since"
            )
        return data


def open_runs(runs: Sequence[Any], least: int) -> list[History]:
    """Each run once, opened.

    Raises:
        UsageError: fewer than ``least``, or one of them twice.
    """
    if len(runs) < least:
        raise UsageError(
            f"{len(runs)} run given, {least} are needed: name runs on different corpora"
        )
    opened = [open_history(run) for run in runs]
    places = [history.path.resolve() for history in opened]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UsageError(f"{opened[i].path} is given twice; name each run once")
    return opened


def trained_on(run: History) -> str | None:
    """SHA-256 of the text that a run was trained on."""
    described = (run.run.stored.get("data") or {}).get("described") or {}
    return described.get("sha256")


def corpus_of(run: History) -> Corpus:
    """The text of a run under the splits that it was trained with."""
    arguments = own_arguments(run.run)
    described = run.run.stored["data"].get("described") or {}
    chosen = {key: arguments[key] for key in (*WHAT, *CUT) if key in arguments}
    return Corpus(str(described.get("name") or "text"), chosen, trained_on(run))


def own_corpora(runs: Sequence[History]) -> list[Corpus]:
    """The texts that the runs were trained on, each once, with names of their own."""
    found: list[Corpus] = []
    for corpus in map(corpus_of, runs):
        if corpus.sha256 not in [one.sha256 for one in found]:
            taken = sum(one.label.split(" (")[0] == corpus.label for one in found)
            label = f"{corpus.label} ({taken + 1})" if taken else corpus.label
            found.append(Corpus(label, corpus.arguments, corpus.sha256))
    return found


def chosen_corpora(runs: Sequence[History], words: str) -> list[Corpus]:
    """``a,b,name=path``: named texts, under the splits of a run that has them.

    A text that no run was trained on is split as that of the first run.

    Raises:
        UsageError: an empty name, or the same text twice.
    """
    own, found = own_corpora(runs), []
    for word in words.split(",") if words else []:
        label, equals, place = (part.strip() for part in word.partition("="))
        place = place if equals else label
        if not place or not label:
            raise UsageError(f"--corpora {words}: give names as kjv,pydoc or name=path")
        mine = next((one for one in own if place in _names(one)), None)
        if mine is None:
            first = corpus_of(runs[0]).arguments
            cut = {key: first[key] for key in CUT[:2] if key in first}
            text = {"val_path": None, "test_path": None, **where(place), **cut}
            shown = label if equals else Path(place).stem if text["path"] else label
            found.append(Corpus(shown, text))
        else:
            shown = label if equals else mine.label
            found.append(Corpus(shown, mine.arguments, mine.sha256))
        if shown in [one.label for one in found[:-1]]:
            raise UsageError(f"--corpora {words}: {shown!r} stands there twice")
    return found or own


def _names(corpus: Corpus) -> list[str]:
    """What may be typed for it."""
    path = corpus.arguments.get("path")
    return [corpus.label, *([path] if isinstance(path, str) else [])]


def labels(runs: Sequence[History]) -> list[str]:
    """Names of the models, as short as tells them apart."""
    texts = [run.corpus or "text" for run in runs]
    alike = len({run.model_name for run in runs}) == 1
    if alike and len(set(texts)) == len(texts):
        return texts
    return names_apart(runs)
