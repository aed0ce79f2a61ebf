"""Text for a model that was trained elsewhere: its own corpus again, or another one."""

from pathlib import Path
from typing import Any

from lmzoo.errors import UsageError
from lmzoo.rebuild import check_plain
from lmzoo.runs import Run
from lmzoo.text.datamodule import TextDataModule


def own_arguments(run: Run) -> dict[str, Any]:
    """What a run's data module was made with, and the run's own tokenizer.

    Raises:
        UsageError: the run was not trained on text.
    """
    stored = run.stored.get("data") or {}
    if stored.get("name") != "text":
        raise UsageError(
            f"{run.path}: only a run on text can be looked at with its text"
        )
    arguments = dict(stored.get("arguments") or {})
    check_plain(arguments, f"{run.path}: data")
    state = {"tokenizer_state": run.stored["tokenizer"], "extend_tokenizer": False}
    return {**arguments, **state}


def text_for(run: Run, corpus: str = "", **changes: Any) -> TextDataModule:
    """A data module under the run's tokenizer and splits.

    Args:
        run: what ``lmzoo.load`` gives.
        corpus: a named corpus, or a file, folder or glob; "" is the run's own text.
        changes: arguments of ``TextDataModule`` that differ from the run's.

    Raises:
        UsageError: no such text, or the run's own has changed since.
    """
    arguments = own_arguments(run)
    if corpus:
        arguments |= {"val_path": None, "test_path": None, **where(corpus)}
    try:
        data = TextDataModule(**{**arguments, **changes})
        described = data.describe()
    except TypeError as error:
        raise UsageError(f"{run.path}: its data arguments: {error}") from error
    wanted = (run.stored["data"].get("described") or {}).get("sha256")
    if not corpus and wanted and described["sha256"] != wanted:
        raise UsageError(
            f"{run.path}: the text that it was trained on has changed since; name a "
            f"corpus"
        )
    return data


def where(corpus: str) -> dict[str, Any]:
    """``corpus`` or ``path``: which of the two a word means; a file is a path."""
    if Path(corpus).exists() or any(mark in corpus for mark in "/\\*"):
        return {"corpus": None, "path": corpus}
    return {"corpus": corpus, "path": None}


def is_own(run: Run, data: TextDataModule) -> bool:
    """Whether ``data`` is the text that the run was trained on."""
    stored = (run.stored["data"].get("described") or {}).get("sha256")
    return data.describe()["sha256"] == stored
