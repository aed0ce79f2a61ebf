"""Tokenizers: char, word, byte, bpe and any ``tokenizer.json``, behind one protocol.

Here they are trained, restored from their state, and run over a stream of text.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo.errors import UsageError
from lmzoo.files import require_regular
from lmzoo.text.corpora import END_OF_DOCUMENT, Piece
from lmzoo.text.protocol import Tokenizer
from lmzoo.text.readers import PIECE
from lmzoo.text.subword import BPETokenizer, HFTokenizer, parse_library
from lmzoo.text.symbols import ByteTokenizer, CharTokenizer, WordTokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "HFTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "encode_stream",
    "from_state",
    "read_tokenizer_file",
    "train_tokenizer",
]

KINDS = ("char", "word", "byte", "bpe")
WORD_SIZE = 10_000  # the word vocabulary if no size is asked for
_MAX_STATE = 64 << 20  # bytes of a tokenizer.json; the largest known take half
_SLICE = 1 << 16  # characters handed to a sub-word encoder at a time
_LONGEST = 1 << 20  # text without white space is cut after this
_CUT = re.compile(r"\S(?=[ \n])")


def train_tokenizer(
    kind: str,
    pieces: Iterable[Piece],
    *,
    documents: bool = False,
    size: int | None = None,
    min_frequency: int = 1,
    split_digits: bool = False,
) -> Tokenizer:
    """Learn a tokenizer from a stream of text.

    Args:
        kind: ``char``, ``word``, ``byte`` or ``bpe``.
        pieces: the text; marks between documents are skipped.
        documents: add the end-of-document token.
        size: most tokens (word: 10,000; bpe: 1,024 if not given).
        min_frequency: rarer words are unknown (word).
        split_digits: each digit its own token (bpe).

    Raises:
        UsageError: an unknown kind, or a size that cannot be had.
    """
    if kind == "char":
        texts = (piece for piece in pieces if isinstance(piece, str))
        characters = CharTokenizer.train(texts, documents)
        if not characters.known:
            raise UsageError(
                "the training part of the text is empty; give more text, or smaller "
                "--data.val_fraction and --data.test_fraction"
            )
        return characters
    if kind == "byte":
        return ByteTokenizer(documents)
    texts = (piece for piece in whole_words(pieces) if isinstance(piece, str))
    if kind == "word":
        return WordTokenizer.train(texts, documents, min_frequency, size or WORD_SIZE)
    if kind == "bpe":
        return BPETokenizer.train(texts, documents, size, split_digits)
    raise UsageError(
        f"--data.tokenizer {kind}: no such tokenizer; choose {', '.join(KINDS)} or "
        "give the path of a tokenizer.json"
    )


def encode_stream(
    tokenizer: Tokenizer, pieces: Iterable[Piece]
) -> Iterator[np.ndarray]:
    """Ids of a stream, in arrays of about a megabyte of text; bounded memory.

    The ids are those of the whole text, wherever the pieces were cut (only text without
    white space for a megabyte is cut blindly). Between documents stands ``eod_id``, or
    a line break's ids where the tokenizer has none.
    """
    for _, ids in encode_pieces(tokenizer, pieces):
        yield ids


def encode_pieces(
    tokenizer: Tokenizer, pieces: Iterable[Piece]
) -> Iterator[tuple[list[Piece], np.ndarray]]:
    """As ``encode_stream``, each array with the pieces of text that it encodes."""
    if tokenizer.eod_id is None:
        pieces = ("\n" if piece is END_OF_DOCUMENT else piece for piece in pieces)
    if tokenizer.whole_words:
        pieces = whole_words(pieces)
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece) if isinstance(piece, str) else 1
        if size >= PIECE:
            yield group, _encode_group(tokenizer, group)
            group, size = [], 0
    if group:
        yield group, _encode_group(tokenizer, group)


def _encode_group(tokenizer: Tokenizer, group: list[Piece]) -> np.ndarray:
    texts = [piece for piece in group if isinstance(piece, str)]
    encoded = iter(tokenizer.encode_batch(texts))
    end = np.array([tokenizer.eod_id or 0], np.int32)
    parts = [next(encoded) if isinstance(piece, str) else end for piece in group]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def whole_words(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Cut a stream anew, only before white space that follows something else.

    Both GPT-2's pre-tokenizer and the word pattern start afresh there, so that the
    tokens do not depend on where the pieces were cut.
    """
    held = ""
    for piece in pieces:
        if not isinstance(piece, str):
            if held:
                yield held
            held = ""
            yield piece
            continue
        for begin in range(0, len(piece), _SLICE):
            held += piece[begin : begin + _SLICE]
            cut = _last_cut(held)
            if not cut and len(held) >= _LONGEST:
                cut = len(held)
            if cut:
                yield held[:cut]
                held = held[cut:]
    if held:
        yield held


def _last_cut(text: str) -> int:
    """Where the last white space after something else begins; 0 if nowhere."""
    for window in (1 << 10, len(text)):
        last = None
        for match in _CUT.finditer(text, max(0, len(text) - window)):
            last = match
        if last:
            return last.end()
    return 0


def read_tokenizer_file(path: str, documents: bool = False) -> HFTokenizer:
    """The tokenizer of a Hugging Face ``tokenizer.json``.

    Raises:
        UsageError: missing, too large, or not such a file.
    """
    file = Path(path)
    require_regular(file)
    if file.stat().st_size > _MAX_STATE:
        raise UsageError(
            f"{path}: larger than {_MAX_STATE >> 20} MB; no tokenizer.json"
        )
    try:
        text = file.read_text(encoding="utf-8")
        return HFTokenizer.from_json(text, documents)
    except (OSError, ValueError) as error:
        raise UsageError(f"--data.tokenizer {path}: {error}") from error


def from_state(state: dict[str, Any]) -> Tokenizer:
    """The tokenizer that ``Tokenizer.state`` described.

    The state may come from a file of unknown origin: only its data is read, and its
    shape is checked.

    Raises:
        UsageError: not a tokenizer's state, or one of a newer lmzoo.
    """
    if not isinstance(state, dict) or state.get("kind") not in _RESTORE:
        kinds = ", ".join(_RESTORE)
        raise _malformed(f"its kind must be one of {kinds}")
    if state.get("version") != 1:
        raise _malformed(
            f"its version is {state.get('version')!r}, this lmzoo reads 1; update lmzoo"
        )
    if not isinstance(state.get("end_of_document"), bool):
        raise _malformed("'end_of_document' must be true or false")
    payload, restore = _RESTORE[state["kind"]]
    expected = {"kind", "version", "end_of_document"} | ({payload} - {""})
    if set(state) != expected:
        raise _malformed(f"its keys must be {', '.join(sorted(expected))}")
    return restore(state.get(payload), state["end_of_document"])


def _malformed(why: str) -> UsageError:
    return UsageError(
        f"tokenizer state: {why}; use the checkpoint or file as lmzoo wrote it"
    )


def _restore_char(symbols: Any, ends: bool) -> Tokenizer:
    _check_symbols(symbols)
    if any(len(symbol) != 1 for symbol in symbols) or symbols != sorted(symbols):
        raise _malformed("'symbols' must be single characters in order")
    return CharTokenizer(symbols, ends)


def _restore_word(symbols: Any, ends: bool) -> Tokenizer:
    _check_symbols(symbols)
    return WordTokenizer(symbols, ends)


def _restore_byte(nothing: Any, ends: bool) -> Tokenizer:
    del nothing
    return ByteTokenizer(ends)


def _restore_bpe(text: Any, ends: bool) -> Tokenizer:
    _check_json(text)
    spec = json.loads(text)
    if spec.get("added_tokens") or spec.get("normalizer"):
        raise _malformed("a bpe has neither added tokens nor a normalizer")
    return BPETokenizer(parse_library(text), ends)


def _restore_hf(text: Any, ends: bool) -> Tokenizer:
    _check_json(text)
    return HFTokenizer.from_json(text, ends)


_RESTORE: dict[str, tuple[str, Callable[[Any, bool], Tokenizer]]] = {
    "char": ("symbols", _restore_char),
    "word": ("symbols", _restore_word),
    "byte": ("", _restore_byte),
    "bpe": ("tokenizer", _restore_bpe),
    "hf": ("tokenizer", _restore_hf),
}


def _check_symbols(symbols: Any) -> None:
    if not isinstance(symbols, list) or not symbols:
        raise _malformed("'symbols' must be a non-empty list")
    if not all(isinstance(symbol, str) and symbol for symbol in symbols):
        raise _malformed("'symbols' must be non-empty strings")
    if len(set(symbols)) != len(symbols):
        raise _malformed("'symbols' has a symbol twice")
    if sum(map(len, symbols)) > _MAX_STATE:
        raise _malformed(f"'symbols' is larger than {_MAX_STATE >> 20} MB")


def _check_json(text: Any) -> None:
    if not isinstance(text, str) or len(text) > _MAX_STATE:
        raise _malformed(f"'tokenizer' must be JSON text below {_MAX_STATE >> 20} MB")
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"'tokenizer' is not JSON ({error})") from None
    if not isinstance(spec, dict):
        raise _malformed("'tokenizer' is not a JSON object")
