"""Which text gives how many characters to which split."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from lmzoo.errors import UsageError
from lmzoo.text.corpora import (
    Corpus,
    Piece,
    Scan,
    hashed_form,
    resolve_corpus,
    scan,
    split_pieces,
    split_sizes,
)
from lmzoo.text.settings import Settings


@dataclass(frozen=True)
class Part:
    """One corpus, and the characters of each split that it provides, in order."""

    corpus: Corpus
    scan: Scan
    sizes: list[tuple[str, int]]

    def pieces(self) -> Iterator[tuple[str, Piece]]:
        """(split, piece) of the text as it was counted.

        Raises:
            UsageError: the text changed since.
        """
        return split_pieces(self._unchanged(), self.sizes)

    def _unchanged(self) -> Iterator[Piece]:
        digest, characters = hashlib.sha256(), 0
        for piece in self.corpus.pieces():
            digest.update(hashed_form(piece))
            characters += len(piece) if isinstance(piece, str) else 0
            if characters > self.scan.characters:
                break
            yield piece
        if digest.hexdigest() != self.scan.sha256:
            raise UsageError(
                f"{self.corpus.source}: the text changed while it was read; run again "
                "when nothing writes to it"
            )


def plan(settings: Settings) -> tuple[list[Part], list[str]]:
    """Which corpus gives how many characters to which split, and what to tell.

    Raises:
        UsageError: nothing to read.
    """
    notes, separate = [], []
    for split, path in (("val", settings.val_path), ("test", settings.test_path)):
        if path is None:
            continue
        option = f"--data.{split}_path"
        corpus = _resolve(settings, None, path, option)
        counted = scan(corpus)
        if counted.characters:
            separate.append(Part(corpus, counted, [(split, counted.characters)]))
        else:
            notes.append(f"{corpus.source} is empty: {split} is cut from the main text")
    main = _resolve(settings, settings.corpus, settings.path, "--data.path")
    counted = scan(main)
    if not counted.characters:
        raise UsageError(f"{main.source}: is empty; give a file with text")
    given = {part.sizes[0][0] for part in separate}
    sizes = split_sizes(
        counted.characters,
        0.0 if "val" in given else settings.val_fraction,
        0.0 if "test" in given else settings.test_fraction,
    )
    kept = [(name, size) for name, size in sizes.items() if name not in given]
    return [Part(main, counted, kept), *separate], notes


def _resolve(
    settings: Settings, name: str | None, path: str | list[str] | None, option: str
) -> Corpus:
    column, keep = settings.text_column, settings.keep_linebreaks
    return resolve_corpus(name, path, column, keep, option)
