"""``lmzoo predict``: the label of a text and its score; JSON lines for many texts."""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from lmzoo.cli import given
from lmzoo.cli.command import call
from lmzoo.errors import UsageError
from lmzoo.text.labelled_files import Example
from lmzoo.text.labelled_parts import places_of
from lmzoo.text.readers import CSV_SUFFIXES, JSON_SUFFIXES, Notes, suffix_of
from lmzoo.text.unlabelled import read_rows

if TYPE_CHECKING:
    from lmzoo.classification import Prediction


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
    stored = ((opened.stored.get("data") or {}).get("described") or {}).get("labels")
    names = stored if isinstance(stored, dict) else {x: x for x in model.labels}
    if not file and not text.strip():
        raise UsageError("no text to label; give --text TEXT or --file FILE")
    if not file:
        said = next(predictions(opened, [text]))
        print(dumps(_plain(said)) if json else _line(said))
        return 0
    known = [*names, *model.labels]
    rows = _read(text, file, text_column or None, label_column or None, known)
    true = _true([row.label for row in rows], names)
    right = 0
    for i, said in enumerate(predictions(opened, [row.text for row in rows])):
        told = {"row": i + 1, "text": rows[i].text, **_plain(said)}
        if true[i]:
            told["given"] = true[i]
            right += true[i] == said.label
        print(dumps(told, ensure_ascii=True), flush=i % 64 == 0)
    if labelled := sum(map(bool, true)):
        share = right / labelled
        print(f"{right:,} of {labelled:,} right ({share:.1%})", file=sys.stderr)
    return 0


def _read(
    text: str,
    file: str,
    text_column: str | None,
    label_column: str | None,
    known: list[str],
) -> list[Example]:
    """Every text, and its label where the file has one."""
    path, notes = Path(file), Notes()
    if text or suffix_of(path) not in CSV_SUFFIXES + JSON_SUFFIXES:
        lines = given.text_or_file(text, file).splitlines()
        rows = [Example(line, "") for line in lines if line.strip()]
    else:
        rows = read_rows(path, text_column, label_column, known, notes)
    if not rows:
        raise UsageError(f"{file}: holds no text")
    for line in notes.lines():
        print(f"note: {line}", file=sys.stderr)
    return rows


def _true(given: list[str], names: dict[str, str]) -> list[str]:
    """The names of the labels that stand in a file; "" where a text has none."""
    try:
        places = iter(places_of(filter(None, given), names))
    except UsageError as error:
        print(f"note: {error}", file=sys.stderr)
        return given
    spelled = list(names.values())
    return [spelled[next(places)] if label else "" for label in given]


def _line(said: "Prediction") -> str:
    rest = ", ".join(
        f"{name} {share:.3f}"
        for name, share in said.scores.items()
        if name != said.label
    )
    return f"{said.label}  {said.score:.3f}  ({rest})"


def _plain(said: "Prediction") -> dict[str, object]:
    return {"label": said.label, "score": said.score, "scores": said.scores}
