"""``lmzoo predict``: the label of a text and its score; JSON lines for many texts."""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from lmzoo.cli import given
from lmzoo.cli.command import call
from lmzoo.errors import UsageError
from lmzoo.text.labelled_files import read_examples
from lmzoo.text.readers import (
    CSV_SUFFIXES,
    JSON_SUFFIXES,
    Notes,
    documents,
    suffix_of,
)

if TYPE_CHECKING:
    from lmzoo.classification import Prediction
    from lmzoo.runs import Run


def run(argv: list[str]) -> int:
    """Classify; returns the exit code."""
    return call("predict", predict, argv)


def predict(
    run: str,
    *,
    text: str = "",
    file: str = "",
    text_column: str = "",
    label_column: str = "",
    json: bool = False,
    device: str = "auto",
) -> int:
    """Label a text, or each text of a file, with a trained classifier.

    Args:
        run: run folder, checkpoint file, or folder of an exported model
        text: the text itself
        file: a csv, tsv or jsonl file, or one with a text on each line; - reads lines
            from standard input. Prints one JSON object a line
        text_column: the column or field of the text
        label_column: that of the true label, if the file has one
        json: print JSON for a single text as well
        device: auto (a GPU if there is one), cpu, cuda, cuda:N or mps
    """
    # torch is for the work, and not for the help
    from lmzoo import runs

    # as above
    from lmzoo.classification import classifier_of, predictions

    where = given.device(device)
    opened = runs.load(run)
    model = classifier_of(opened).to(where)
    if not file and not text.strip():
        raise UsageError("no text to label; give --text TEXT or --file FILE")
    if not file:
        said = next(predictions(opened, [text]))
        print(dumps(_plain(said)) if json else _line(said))
        return 0
    texts, labels = _read(text, file, text_column or None, label_column or None)
    right = 0
    for i, said in enumerate(predictions(opened, texts)):
        row = {"text": texts[i], **_plain(said)}
        if labels:
            row["given"] = _named(labels[i], opened, model.labels)
            right += row["given"] == said.label
        print(dumps(row, ensure_ascii=True), flush=i % 64 == 0)
    if labels:
        share = right / len(texts)
        print(f"{right:,} of {len(texts):,} right ({share:.1%})", file=sys.stderr)
    return 0


def _read(
    text: str, file: str, text_column: str | None, label_column: str | None
) -> tuple[list[str], list[str]]:
    """Texts, and their labels where the file has any."""
    path, notes = Path(file), Notes()
    if text or suffix_of(path) not in CSV_SUFFIXES + JSON_SUFFIXES:
        lines = given.text_or_file(text, file).splitlines()
        texts, labels = [line for line in lines if line.strip()], []
    else:
        try:
            rows = read_examples(path, text_column, label_column, True, notes)
            texts, labels = [row.text for row in rows], [row.label for row in rows]
        except UsageError:
            if label_column or not path.is_file():
                raise
            found = ("".join(row) for row in documents(path, text_column, notes))
            texts, labels = [row for row in found if row.strip()], []
    if not texts:
        raise UsageError(f"{file}: holds no text")
    for line in notes.lines():
        print(f"note: {line}", file=sys.stderr)
    return texts, labels


def _named(raw: str, opened: "Run", labels: list[str]) -> str:
    """The name of a label as it stands in a file."""
    described = (opened.stored.get("data") or {}).get("described") or {}
    names = described.get("labels")
    known = names if isinstance(names, dict) else {}
    return str(known.get(raw, raw)) if raw not in labels else raw


def _line(said: "Prediction") -> str:
    rest = ", ".join(
        f"{name} {share:.3f}"
        for name, share in said.scores.items()
        if name != said.label
    )
    return f"{said.label}  {said.score:.3f}  ({rest})"


def _plain(said: "Prediction") -> dict[str, object]:
    return {"label": said.label, "score": said.score, "scores": said.scores}
