"""From options to tokens on disk: count the text, learn the vocabulary, encode.

The corpus is streamed three times (count and hash; learn; encode) and never held in
memory. The result's name is a hash of the text and of every option that shapes it, so
that changed text is never served from an old cache.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lmzoo.errors import UsageError
from lmzoo.files import write_atomically
from lmzoo.text import shared_cache
from lmzoo.text.corpora import END_OF_DOCUMENT
from lmzoo.text.encoding import SplitEncoder, SplitStats, count_ids, fit_lengths
from lmzoo.text.plan import Part, plan
from lmzoo.text.settings import Settings
from lmzoo.text.spans import Spans
from lmzoo.text.store import (
    TokenStore,
    cache_folder,
    cache_path,
    open_store,
    write_store,
)
from lmzoo.text.symbols import ListedTokenizer
from lmzoo.text.tokenizers import (
    KINDS,
    Tokenizer,
    from_state,
    read_tokenizer_file,
    train_tokenizer,
)

FORMAT = 1  # raise it whenever the same options would give other tokens
SPLITS = ("train", "val", "test")


@dataclass
class Prepared:
    """Tokens ready for the loaders, and all that is known about them."""

    settings: Settings
    parts: list[Part]
    tokenizer: Tokenizer
    store: TokenStore
    stats: dict[str, SplitStats]
    notes: list[str] = field(default_factory=list)

    def tokens(self, split: str) -> np.ndarray:
        """Ids of a split, a memory map (n,); empty if the split is."""
        return self.store.splits.get(split, np.empty(0, np.uint16))

    def text(self, split: str) -> str:
        """The normalised text of a split in memory, documents run together."""
        return "".join(self.stretches(split))

    def stretches(self, split: str) -> Iterator[str]:
        """The same text, a stretch at a time."""
        limited = getattr(self.settings, f"max_{split}_tokens", None)
        left = self.stats[split].characters if limited else None
        for part in self.parts:
            for name, piece in part.pieces():
                if name != split or not isinstance(piece, str):
                    continue
                yield piece[:left]
                left = left - len(piece[:left]) if left is not None else None

    def pieces(self, split: str) -> Iterator[str]:
        """The text in consecutive pieces, a line break between documents."""
        limited = getattr(self.settings, f"max_{split}_tokens", None)
        left = self.stats[split].characters if limited else None
        counted = self.tokenizer.eod_id is None  # there the break is a character too
        for part in self.parts:
            for name, piece in part.pieces():
                if name != split or left == 0:
                    continue
                if piece is END_OF_DOCUMENT:
                    left = left - 1 if left is not None and counted else left
                    yield "\n"
                    continue
                piece = piece[:left]
                left = left - len(piece) if left is not None else None
                yield piece

    def spans(self) -> Spans:
        """What is kept of the training split, from the cache or built into it."""
        path = self.store.path.with_suffix(".spans")
        with suppress(UsageError):
            return Spans.read(path)
        spans = Spans.build(self.pieces("train"))
        with suppress(UsageError):  # a cache that cannot be written is no loss
            write_atomically(path, spans.to_bytes())
        return spans

    def lengths(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Characters and bytes of each id, (V,) float64, exact in sum over the split.

        The unknown token gets the mean length of what it stands for in this split.
        """
        tokenizer, stats = self.tokenizer, self.stats[split]
        chars, sizes = tokenizer.token_chars.copy(), tokenizer.token_bytes.copy()
        if stats.tokens and (stats.oov or tokenizer.kind == "hf"):
            counts = count_ids(self.tokens(split), tokenizer.vocab_size)
            fit_lengths(chars, counts, tokenizer.unk_id, stats.characters)
            fit_lengths(sizes, counts, tokenizer.unk_id, stats.bytes)
        return chars, sizes


def prepare(settings: Settings) -> Prepared:
    """Tokens for these settings, from the cache or built into it.

    Safe to call from several processes at once; all get the same tokens.

    Raises:
        UsageError: for anything wrong with the text, the options or the cache.
    """
    parts, notes = plan(settings)
    fixed = _fixed_tokenizer(settings, parts)
    key = _key(settings, parts, fixed)
    kept = _read(cache_path() / f"{key}.tokens", fixed)
    store, tokenizer, stats = kept or _open_or_build(key, settings, parts, fixed)
    prepared = Prepared(settings, parts, tokenizer, store, stats)
    for part in parts:
        notes += [note for note in part.corpus.notes if note not in notes]
    prepared.notes = notes + _token_notes(settings, prepared)
    return prepared


def _fixed_tokenizer(settings: Settings, parts: list[Part]) -> Tokenizer | None:
    """A tokenizer that is given rather than learned."""
    if settings.tokenizer_state is not None:
        given = from_state(settings.tokenizer_state)
        return None if _grows(settings, given) else given
    if settings.tokenizer in KINDS:
        return None
    if not (settings.tokenizer.endswith(".json") or os.path.exists(settings.tokenizer)):
        raise UsageError(
            f"--data.tokenizer {settings.tokenizer}: no such tokenizer; choose "
            f"{', '.join(KINDS)} or give the path of a tokenizer.json"
        )
    return read_tokenizer_file(settings.tokenizer, _several_documents(parts))


def _grows(settings: Settings, given: Tokenizer) -> bool:
    return settings.extend_tokenizer and isinstance(given, ListedTokenizer)


def _several_documents(parts: list[Part]) -> bool:
    return any(part.scan.documents > 1 for part in parts)


def _key(settings: Settings, parts: list[Part], fixed: Tokenizer | None) -> str:
    options = asdict(settings)
    for name in ("corpus", "path", "val_path", "test_path", "text_column"):
        del options[name]  # the text counts, not where it came from
    state = settings.tokenizer_state
    options["tokenizer_state"] = from_state(state).sha256() if state else None
    if fixed and not state:
        options["tokenizer_state"] = fixed.sha256()
    if fixed:
        options["tokenizer"] = fixed.kind
    text = [(part.scan.sha256, part.sizes) for part in parts]
    plain = json.dumps([FORMAT, options, text], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:32]


Kept = tuple[TokenStore, Tokenizer, dict[str, SplitStats]]


def _read(path: Path, fixed: Tokenizer | None) -> Kept | None:
    """What the cache holds; None where it has to be made, perhaps anew."""
    store = open_store(path)
    if store is None:
        return None
    try:
        tokenizer = fixed or from_state(store.meta["tokenizer"])
        found = {name: store.meta["stats"].get(name, {}) for name in SPLITS}
        stats = {name: SplitStats(**numbers) for name, numbers in found.items()}
    except (UsageError, LookupError, TypeError, AttributeError):
        return None
    numbers = [number for one in stats.values() for number in vars(one).values()]
    sound = all(type(number) is int and number >= 0 for number in numbers)
    return (store, tokenizer, stats) if sound and _within(store, tokenizer) else None


def _within(store: TokenStore, tokenizer: Tokenizer) -> bool:
    """Whether every id is one of the tokenizer's: a model looks them up unchecked."""
    return store.largest < tokenizer.vocab_size


def _open_or_build(
    key: str, settings: Settings, parts: list[Part], fixed: Tokenizer | None
) -> Kept:
    path = cache_folder() / f"{key}.tokens"
    with ExitStack() as held:
        # where a file system has no locks both may build, and the last one wins
        with suppress(OSError, NotImplementedError):
            held.enter_context(FileLock(path.with_suffix(".lock")))
        kept = _read(path, fixed)
        if kept is None and shared_cache.fetch(path):
            kept = _read(path, fixed)
        if kept is None:
            tokenizer = fixed or _learned(settings, parts)
            _build(path, settings, parts, tokenizer)
            shared_cache.offer(path)
            kept = _read(path, fixed)
    if kept is None:
        raise UsageError(
            f"{path}: cannot be read back as it was written; check the disk or point "
            "LMZOO_CACHE to another folder"
        )
    return kept


def _learned(settings: Settings, parts: list[Part]) -> Tokenizer:
    """The tokenizer, from the training split only unless all was asked for."""
    everything = settings.vocabulary == "all"
    pieces = (
        piece
        for part in parts
        for split, piece in part.pieces()
        if everything or split == "train"
    )
    state = settings.tokenizer_state
    given = from_state(state) if state is not None else None
    learned = train_tokenizer(
        given.kind if given else settings.tokenizer,
        pieces,
        documents=_several_documents(parts),
        size=settings.tokenizer_size,
        min_frequency=settings.min_frequency,
        split_digits=settings.split_digits,
    )
    if isinstance(given, ListedTokenizer) and isinstance(learned, ListedTokenizer):
        return given.extended(learned)
    return learned


def _build(
    path: Path, settings: Settings, parts: list[Part], tokenizer: Tokenizer
) -> None:
    stats = {name: SplitStats() for name in SPLITS}
    limits = {"train": settings.max_train_tokens, "val": settings.max_val_tokens}

    def chunks() -> Iterator[tuple[str, np.ndarray]]:
        for part in parts:
            for split, group in groupby(part.pieces(), key=lambda pair: pair[0]):
                pieces = (piece for _, piece in group)
                encoder = SplitEncoder(tokenizer, split, settings.unknown, stats[split])
                for ids in encoder.run(pieces, limits.get(split)):
                    yield split, ids

    def meta() -> dict[str, Any]:
        plain = {name: asdict(found) for name, found in stats.items()}
        return {"tokenizer": tokenizer.state(), "stats": plain}

    write_store(path, chunks(), tokenizer.vocab_size, meta)


def _token_notes(settings: Settings, prepared: Prepared) -> list[str]:
    """What encoding cut or could not represent."""
    notes = []
    tokenizer = prepared.tokenizer
    for part in prepared.parts:
        for split, size in part.sizes:
            stats = prepared.stats[split]
            limited = getattr(settings, f"max_{split}_tokens", None)
            if limited and stats.characters < size:
                notes.append(
                    f"{split}: cut to {stats.tokens:,} tokens, {stats.characters:,} of "
                    f"{size:,} characters"
                )
            if stats.oov:
                skipped = settings.unknown == "skip"
                share = stats.oov / (stats.tokens + stats.oov * skipped)
                done = "left out" if skipped else "read as <unk>"
                notes.append(
                    f"{split}: {stats.oov:,} symbols ({100 * share:.2g} %) outside the "
                    f"vocabulary were {done}"
                )
    if _several_documents(prepared.parts) and tokenizer.eod_id is None:
        notes.append(
            "documents are joined by a line break, for the tokenizer has no "
            "end-of-document token"
        )
    wanted = settings.tokenizer_size or 1024
    learned = settings.tokenizer_state is None and tokenizer.kind == "bpe"
    if learned and tokenizer.vocab_size < wanted:
        notes.append(f"bpe: the text gives no more than {tokenizer.vocab_size} tokens")
    return notes
