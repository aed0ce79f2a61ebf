"""Parts of labelled data: names of labels, shares of each label, texts as ids."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lmzoo.errors import UsageError
from lmzoo.text.labelled_files import Example
from lmzoo.text.protocol import Tokenizer

Side = Literal["head", "tail"]
FEW = 2  # labels at least


@dataclass
class Part:
    """One part of the data: its texts, their labels, and what encoding made of them."""

    texts: list[str] = field(default_factory=list)
    targets: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    ids: list[np.ndarray] = field(default_factory=list)
    cut: int = 0  # texts that were truncated
    unknown: int = 0  # tokens outside the vocabulary


def encode(
    tokenizer: Tokenizer, texts: list[str], length: int, truncation: Side = "head"
) -> list[np.ndarray]:
    """Ids of each text, at most ``length``, with what the tokenizer puts around it."""
    before, after = (np.array(ids, np.int32) for ids in tokenizer.around)
    room = max(1, length - len(before) - len(after))
    found = []
    # a word after a space is another symbol there: the first is to be like the others
    lead = " " if tokenizer.kind in ("word", "bpe") else ""
    for ids in tokenizer.encode_batch([lead + text for text in texts]):
        ids = ids[:room] if truncation == "head" else ids[-room:]
        found.append(np.concatenate([before, ids, after]))
    return found


def name_of(path: Any) -> str:
    """What to call the data: the file, or the folder of a file called train."""
    stem = path.name.split(".")[0]
    return path.resolve().parent.name if stem in ("train", "training") else stem


def label_names(
    examples: list[Example], given: dict[str, str] | list[str] | None
) -> dict[str, str]:
    """What stands in the file -> the name of the label, in the order of the targets."""
    found = sorted({example.label for example in examples}, key=_natural)
    names = given if isinstance(given, dict) else dict(zip(found, found, strict=True))
    if isinstance(given, list):
        if len(given) != len(found):
            raise UsageError(
                f"--data.labels: {len(given)} names for the {len(found)} labels "
                f"{', '.join(found[:10])}"
            )
        names = dict(zip(found, given, strict=True))
    if len(set(names.values())) != len(names) or len(names) < FEW:
        raise UsageError(
            f"--data.labels: a classifier tells two labels or more apart, each with a "
            f"name of its own; given {', '.join(names.values())}"
        )
    return {str(raw): str(name) for raw, name in names.items()}


def _natural(label: str) -> tuple[bool, float, str]:
    """Numbers by size, then words by alphabet."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label


def divided(part: Part, share: float) -> tuple[Part, Part]:
    """``share`` of the texts of each label, and the rest; order kept."""
    generator = np.random.Generator(np.random.PCG64(0))
    chosen = np.zeros(len(part.texts), bool)
    for label in np.unique(part.targets):
        rows = generator.permutation(np.flatnonzero(part.targets == label))
        chosen[rows[: max(1, round(share * len(rows)))]] = True
    return _taken(part, chosen), _taken(part, ~chosen)


def _taken(part: Part, chosen: np.ndarray) -> Part:
    rows = np.flatnonzero(chosen)
    return Part([part.texts[row] for row in rows], part.targets[rows])
