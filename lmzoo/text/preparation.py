"""From options to tokens on disk: count the text, learn the vocabulary, encode.

The corpus is streamed three times (count and hash; learn; encode) and never held in
memory. The result's name is a hash of the text and of every option that shapes it, so
that changed text is never served from an old cache.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lmzoo.errors import UsageError
from lmzoo.text.corpora import (
    END_OF_DOCUMENT,
    Corpus,
    Piece,
    Scan,
    hashed_form,
    resolve_corpus,
    scan,
    split_pieces,
    split_sizes,
)
from lmzoo.text.store import (
    TokenStore,
    cache_folder,
    cache_path,
    open_store,
    write_store,
)
from lmzoo.text.tokenizers import (
    KINDS,
    Tokenizer,
    encode_pieces,
    from_state,
    read_tokenizer_file,
    train_tokenizer,
)

FORMAT = 1  # raise it whenever the same options would give other tokens
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Settings:
    """The options that decide which tokens there are (see ``TextDataModule``)."""

    corpus: str | None = None
    path: str | list[str] | None = None
    val_path: str | list[str] | None = None
    test_path: str | list[str] | None = None
    text_column: str | None = None
    keep_linebreaks: bool = True
    val_fraction: float = 0.05
    test_fraction: float = 0.05
    tokenizer: str = "char"
    tokenizer_size: int | None = None
    min_frequency: int = 1
    split_digits: bool = False
    vocabulary: str = "train"
    unknown: str = "unk"
    max_train_tokens: int | None = None
    max_val_tokens: int | None = None
    tokenizer_state: dict[str, Any] | None = None


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


@dataclass
class SplitStats:
    """What one split holds. ``oov``: symbols that the vocabulary lacks."""

    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    oov: int = 0
    documents: int = 0


@dataclass
class Prepared:
    """Tokens ready for the loaders, and all that is known about them."""

    parts: list[Part]
    tokenizer: Tokenizer
    store: TokenStore
    stats: dict[str, SplitStats]
    notes: list[str] = field(default_factory=list)

    def tokens(self, split: str) -> np.ndarray:
        """Ids of a split, a memory map (n,); empty if the split is."""
        return self.store.splits.get(split, np.empty(0, np.uint16))

    def text(self, split: str) -> str:
        """The normalised text of a split, all of it in memory, documents run together."""
        found = [
            piece
            for part in self.parts
            for name, piece in part.pieces()
            if name == split and isinstance(piece, str)
        ]
        return "".join(found)[: self.stats[split].characters]

    def lengths(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Characters and bytes of each id, (V,) float64, exact in sum over the split.

        The unknown token gets the mean length of what it stands for in this split.
        """
        tokenizer, stats = self.tokenizer, self.stats[split]
        chars, sizes = tokenizer.token_chars.copy(), tokenizer.token_bytes.copy()
        if stats.tokens and (stats.oov or tokenizer.kind == "hf"):
            counts = _counts(self.tokens(split), tokenizer.vocab_size)
            _fit(chars, counts, tokenizer.unk_id, stats.characters)
            _fit(sizes, counts, tokenizer.unk_id, stats.bytes)
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
    kept = open_store(cache_path() / f"{key}.tokens")
    store = kept or _open_or_build(key, settings, parts, fixed)
    tokenizer = fixed or from_state(store.meta["tokenizer"])
    stats = {name: SplitStats(**store.meta["stats"].get(name, {})) for name in SPLITS}
    prepared = Prepared(parts, tokenizer, store, stats)
    for part in parts:
        notes += [note for note in part.corpus.notes if note not in notes]
    prepared.notes = notes + _token_notes(settings, prepared)
    return prepared


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


def _fixed_tokenizer(settings: Settings, parts: list[Part]) -> Tokenizer | None:
    """A tokenizer that is given rather than learned."""
    if settings.tokenizer_state is not None:
        return from_state(settings.tokenizer_state)
    if settings.tokenizer in KINDS:
        return None
    if not (settings.tokenizer.endswith(".json") or Path(settings.tokenizer).exists()):
        raise UsageError(
            f"--data.tokenizer {settings.tokenizer}: no such tokenizer; choose "
            f"{', '.join(KINDS)} or give the path of a tokenizer.json"
        )
    return read_tokenizer_file(settings.tokenizer, _several_documents(parts))


def _several_documents(parts: list[Part]) -> bool:
    return any(part.scan.documents > 1 for part in parts)


def _key(settings: Settings, parts: list[Part], fixed: Tokenizer | None) -> str:
    options = asdict(settings)
    for name in ("corpus", "path", "val_path", "test_path", "text_column"):
        del options[name]  # the text counts, not where it came from
    options["tokenizer_state"] = fixed.sha256() if fixed else None
    if fixed:
        options["tokenizer"] = fixed.kind
    text = [(part.scan.sha256, part.sizes) for part in parts]
    plain = json.dumps([FORMAT, options, text], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:32]


def _open_or_build(
    key: str, settings: Settings, parts: list[Part], fixed: Tokenizer | None
) -> TokenStore:
    path = cache_folder() / f"{key}.tokens"
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(path.with_suffix(".lock")))
        except (OSError, NotImplementedError):
            pass  # no locks on this file system: both may build, the last one wins
        store = open_store(path)
        if store is None:
            tokenizer = fixed or _learned(settings, parts)
            _build(path, settings, parts, tokenizer)
            store = open_store(path)
    if store is None:
        raise UsageError(
            f"{path}: cannot be read back as it was written; check the disk or point "
            "LMZOO_CACHE to another folder"
        )
    return store


def _learned(settings: Settings, parts: list[Part]) -> Tokenizer:
    """The tokenizer, from the training split only unless all was asked for."""
    everything = settings.vocabulary == "all"
    pieces = (
        piece
        for part in parts
        for split, piece in part.pieces()
        if everything or split == "train"
    )
    return train_tokenizer(
        settings.tokenizer,
        pieces,
        documents=_several_documents(parts),
        size=settings.tokenizer_size,
        min_frequency=settings.min_frequency,
        split_digits=settings.split_digits,
    )


def _build(
    path: Path, settings: Settings, parts: list[Part], tokenizer: Tokenizer
) -> None:
    stats = {name: SplitStats() for name in SPLITS}
    limits = {"train": settings.max_train_tokens, "val": settings.max_val_tokens}

    def chunks() -> Iterator[tuple[str, np.ndarray]]:
        for part in parts:
            for split, group in groupby(part.pieces(), key=lambda pair: pair[0]):
                pieces = (piece for _, piece in group)
                encoder = _Encoder(tokenizer, split, settings.unknown, stats[split])
                for ids in encoder.run(pieces, limits.get(split)):
                    yield split, ids

    def meta() -> dict[str, Any]:
        plain = {name: asdict(found) for name, found in stats.items()}
        return {"tokenizer": tokenizer.state(), "stats": plain}

    write_store(path, chunks(), tokenizer.vocab_size, meta)


class _Encoder:
    """Encodes one split and keeps its books."""

    def __init__(
        self, tokenizer: Tokenizer, split: str, unknown: str, stats: SplitStats
    ) -> None:
        self.tokenizer, self.split, self.stats = tokenizer, split, stats
        self.unknown = unknown

    def run(self, pieces: Iterator[Piece], limit: int | None) -> Iterator[np.ndarray]:
        """Ids of the split, at most ``limit`` of them."""
        between = True
        for group, ids in encode_pieces(self.tokenizer, pieces):
            texts = [piece for piece in group if isinstance(piece, str)]
            ids, chars, sizes = self._apply_policy(ids, texts)
            if limit is not None and self.stats.tokens + len(ids) > limit:
                kept = ids[: limit - self.stats.tokens]
                chars = self._shorter(ids, kept, chars, self.tokenizer.token_chars)
                sizes = self._shorter(ids, kept, sizes, self.tokenizer.token_bytes)
                ids = kept
            for piece in group:
                self.stats.documents += between and piece is not END_OF_DOCUMENT
                between = piece is END_OF_DOCUMENT
            self.stats.characters += round(chars)
            self.stats.bytes += round(sizes)
            self.stats.tokens += len(ids)
            yield ids
            if limit is not None and self.stats.tokens >= limit:
                return

    def _apply_policy(
        self, ids: np.ndarray, texts: list[str]
    ) -> tuple[np.ndarray, float, float]:
        """Ids, characters and bytes after what is said about unknown symbols."""
        chars = float(sum(map(len, texts)))
        sizes = float(sum(map(_utf8_length, texts)))
        unk = self.tokenizer.unk_id
        known = ids != unk if unk is not None else None
        if known is None or known.all():
            return ids, chars, sizes
        self.stats.oov += len(ids) - int(known.sum())
        if self.unknown == "error":
            found = (self.tokenizer.first_unknown(text) for text in texts)
            symbol = next((symbol for symbol in found if symbol is not None), "")
            raise UsageError(
                f"{self.split} text: {symbol!r} is not in the vocabulary of the "
                f"{self.tokenizer.kind} tokenizer; choose --data.unknown unk or skip, "
                "or --data.vocabulary all"
            )
        if self.unknown == "skip":
            ids = ids[known]
            chars = float(self.tokenizer.token_chars[ids].sum())
            sizes = float(self.tokenizer.token_bytes[ids].sum())
        return ids, chars, sizes

    def _shorter(
        self, ids: np.ndarray, kept: np.ndarray, total: float, lengths: np.ndarray
    ) -> float:
        """The part of ``total`` that belongs to the ``kept`` ids."""
        lengths = lengths.copy()
        counts = np.bincount(ids, minlength=len(lengths))
        _fit(lengths, counts, self.tokenizer.unk_id, total)
        return float(lengths[kept].sum())


def _fit(
    lengths: np.ndarray, counts: np.ndarray, unk_id: int | None, total: float
) -> None:
    """Set the unknown's length, in place, so that all lengths add up to ``total``."""
    if unk_id is not None and counts[unk_id]:
        lengths[unk_id] = 0.0
        rest = total - float(counts @ lengths)
        lengths[unk_id] = max(rest, 0.0) / counts[unk_id]
    found = float(counts @ lengths)
    if found and abs(found - total) > 1e-6:  # a lossy tokenizer.json
        lengths *= total / found


def _counts(ids: np.ndarray, size: int) -> np.ndarray:
    """How often each id occurs, (size,), reading a slice at a time."""
    counts = np.zeros(size, np.int64)
    for begin in range(0, len(ids), 1 << 22):
        counts += np.bincount(ids[begin : begin + (1 << 22)], minlength=size)
    return counts


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _token_notes(settings: Settings, prepared: Prepared) -> list[str]:
    """What encoding cut or could not represent."""
    notes = []
    tokenizer = prepared.tokenizer
    for part in prepared.parts:
        for split, size in part.sizes:
            stats = prepared.stats[split]
            limited = split in ("train", "val") and getattr(
                settings, f"max_{split}_tokens"
            )
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
                    f"{split}: {stats.oov:,} symbols ({share:.2%}) are not in the "
                    f"vocabulary and were {done}"
                )
    if _several_documents(prepared.parts) and tokenizer.eod_id is None:
        notes.append(
            "documents are joined by a line break, for the tokenizer has no "
            "end-of-document token"
        )
    wanted = settings.tokenizer_size or 1024
    if settings.tokenizer_state is None and settings.tokenizer == "bpe":
        if tokenizer.vocab_size < wanted:
            notes.append(f"bpe: the text gives no more than {tokenizer.vocab_size} tokens")
    return notes
