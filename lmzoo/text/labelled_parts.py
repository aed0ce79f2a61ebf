"""Parts of labelled data: names of labels, shares of each label, texts as ids."""

import hashlib
from collections.abc import Iterable, Mapping
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
    return encoded(tokenizer, texts, length, truncation)[0]


def encoded(
    tokenizer: Tokenizer, texts: list[str], length: int, truncation: Side = "head"
) -> tuple[list[np.ndarray], int]:
    """As ``encode``, and how many texts were longer."""
    before, after = (np.array(ids, np.int32) for ids in tokenizer.around)
    room = max(1, length - len(before) - len(after))
    found, cut = [], 0
    # a word after a space is another symbol there: the first is to be like the others
    lead = " " if tokenizer.kind in ("word", "bpe") else ""
    for ids in tokenizer.encode_batch([lead + text for text in texts]):
        cut += len(ids) > room
        ids = ids[:room] if truncation == "head" else ids[-room:]
        found.append(np.concatenate([before, ids, after]))
    return found, cut


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
    if not given and len(found) < FEW:
        raise UsageError(
            f"every text of the training part has the label {found[0][:40]!r}; a "
            f"classifier tells two labels or more apart"
        )
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


def places_of(labels: Iterable[str], names: Mapping[str, str]) -> list[int]:
    """The target of each label of a part, which holds what the training file holds.

    A part may hold the names instead, but not a mixture: with ratings from 0 to 4 that
    are called "1" to "5", nothing else says which of the two a "1" is.

    Args:
        labels: as they stand in the file.
        names: what stands in the training file -> name, in the order of the targets.

    Raises:
        UsageError: a label that is neither, or a mixture of both.
    """
    labels = list(labels)
    spellings = [list(names), list(names.values())]
    for spelled in spellings:
        places = {label: i for i, label in enumerate(spelled)}
        if all(label in places for label in labels):
            return [places[label] for label in labels]
    strange = next((x for x in labels if not any(x in s for s in spellings)), None)
    if strange is None:
        raise UsageError(
            f"labels stand as {', '.join(names)} in one place and by their names "
            f"{', '.join(names.values())} in another; write them in one way"
        )
    raise UsageError(
        f"the label {strange[:40]!r} is none of {', '.join(names)}; --data.labels "
        f"names them all"
    )


def divided(part: Part, share: float) -> tuple[Part, Part]:
    """``share`` of the texts of each label, and the rest; order kept.

    Texts are drawn by their hash, so the draw is the same whatever the labels are
    called, and equal texts of a label are never on both sides. Of each label something
    stays in the rest.
    """
    hashes = np.array([_hash(text) for text in part.texts], np.uint64)
    chosen = np.zeros(len(part.texts), bool)
    for label in np.unique(part.targets):
        rows = np.flatnonzero(part.targets == label)
        rows = rows[np.argsort(hashes[rows], kind="stable")]
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        while count > 0 and hashes[rows[count]] == hashes[rows[count - 1]]:
            count -= 1
        chosen[rows[:count]] = True
    return _taken(part, chosen), _taken(part, ~chosen)


def _hash(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _taken(part: Part, chosen: np.ndarray) -> Part:
    rows = np.flatnonzero(chosen)
    return Part([part.texts[row] for row in rows], part.targets[rows])
