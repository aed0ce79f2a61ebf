"""Sub-word tokenizers by the ``tokenizers`` library: our byte-level BPE, and any other.

The library's own file format, ``tokenizer.json``, is the state of both.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tokenizers as hf
from tokenizers import decoders, models, pre_tokenizers, trainers

from lmzoo.errors import UsageError, first_line
from lmzoo.text.protocol import END, Tokenizer, byte_lengths, lengths_of, utf8
from lmzoo.text.ranks import LONGEST_WORD, Ranks, ranks

_ENDS = (END, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

# The library starts threads on first use, and they do not survive a fork: outside of
# `_parallel` it stays on one thread, which also silences its warning.
_PARALLEL = "TOKENIZERS_PARALLELISM"
os.environ.setdefault(_PARALLEL, "false")
_owner_of_threads: list[int] = []


@contextmanager
def _no_panic() -> Iterator[None]:
    """What makes the library give up, as a length of zero, ends in one line.

    Raises:
        UsageError: with what it said.
    """
    try:
        yield
    except BaseException as error:  # a panic of Rust is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise UsageError(
            f"the tokenizer cannot cut a text ({first_line(error)}); "
            f"its tokenizer.json was changed, or is damaged"
        ) from error


@contextmanager
def _parallel() -> Iterator[None]:
    """Let the library use all cores, but never in a child forked after it did."""
    if not _owner_of_threads:
        _owner_of_threads.append(os.getpid())
    before = os.environ.get(_PARALLEL, "false")
    if _owner_of_threads[0] == os.getpid():
        os.environ[_PARALLEL] = "true"
    try:
        yield
    finally:
        os.environ[_PARALLEL] = before


class _Library(Tokenizer):
    """A ``tokenizers.Tokenizer``, and perhaps an id for the end of a document."""

    whole_words = True

    def __init__(self, library: hf.Tokenizer, end_of_document: bool) -> None:
        library.no_padding()
        library.no_truncation()
        self._library = library
        vocabulary = library.get_vocab(with_added_tokens=True)
        size = max(vocabulary.values(), default=-1) + 1
        if len(set(vocabulary.values())) != len(vocabulary) or size > 4 * len(
            vocabulary
        ):
            raise UsageError(
                "tokenizer.json: its ids are not a numbering (an id twice, or "
                f"{len(vocabulary):,} tokens numbered up to {size - 1:,}); "
                "give the file as the library wrote it"
            )
        self._strings = [f"<id {i}>" for i in range(size)]  # gaps are rare, but legal
        for string, i in vocabulary.items():
            self._strings[i] = string
        self.eod_id = self._own_end(vocabulary)
        self._added_end = end_of_document and self.eod_id is None
        if self._added_end:
            self.eod_id = size
        self.vocab_size = size + self._added_end
        self.unk_id = None

    def _own_end(self, vocabulary: dict[str, int]) -> int | None:
        return next((vocabulary[end] for end in _ENDS if end in vocabulary), None)

    def encode(self, text: str) -> np.ndarray:
        """See ``Tokenizer.encode``."""
        clean = utf8(text).decode()
        with _no_panic():
            ids = self._library.encode(clean, add_special_tokens=False).ids
        return np.array(ids, np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See ``Tokenizer.encode_batch``."""
        clean = [utf8(text).decode() for text in texts]
        with _parallel(), _no_panic():
            done = self._library.encode_batch_fast(clean, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in done]

    def state(self) -> dict[str, Any]:
        """See ``Tokenizer.state``."""
        return {
            "kind": self.kind,
            "version": 1,
            "tokenizer": self._library.to_str(),
            "end_of_document": bool(self._added_end),
        }

    def symbols(self) -> list[str]:
        """See ``Tokenizer.symbols``."""
        return [*self._strings] + [END] * self._added_end


class BPETokenizer(_Library):
    """Byte-level byte-pair encoding: any text round-trips, nothing is unknown."""

    kind = "bpe"

    def __init__(self, library: hf.Tokenizer, end_of_document: bool = False) -> None:
        super().__init__(library, end_of_document)
        self._bytes = [_to_bytes(string) for string in self._strings]
        self._bytes += [b""] * self._added_end
        self.token_chars, self.token_bytes = byte_lengths(self._bytes)
        self._ranks: Ranks | None = None  # of what is looked for at the first batch
        self._looked = False

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See ``Tokenizer.encode_batch``; by tiktoken where it gives the same ids."""
        if not self._looked:
            tokens = self._bytes[: len(self._strings)]
            self._ranks = ranks(self._library, tokens, _words(split_digits=False))
            self._looked = True
        if self._ranks is None:
            return super().encode_batch(texts)
        texts = [utf8(text).decode() for text in texts]
        done = self._ranks.encode_batch(texts)
        left = [text for text, ids in zip(texts, done, strict=True) if ids is None]
        others = iter(super().encode_batch(left))
        return [next(others) if ids is None else ids for ids in done]

    def _own_end(self, vocabulary: dict[str, int]) -> int | None:
        return None  # a learned "<eod>" would be text

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        end_of_document: bool = False,
        size: int | None = None,
        split_digits: bool = False,
    ):
        """Learn the merges.

        Args:
            texts: cut at white space only.
            end_of_document: whether documents will be joined.
            size: the vocabulary, end of document included; None means 1,024 or as many
                as the text gives.
            split_digits: each digit is a token of its own.

        Raises:
            UsageError: fewer than the 256 bytes, or more than the text can give.
        """
        wanted = 1024 if size is None else size
        if wanted < 256 + end_of_document:
            raise UsageError(
                f"--data.tokenizer_size {wanted}: bpe starts from the 256 bytes; give "
                f"{256 + end_of_document} or more"
            )
        library = hf.Tokenizer(models.BPE())
        library.pre_tokenizer = _words(split_digits)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=wanted - end_of_document,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        with _parallel():
            library.train_from_iterator(texts, trainer)
        trained = cls(library, end_of_document)
        if size is not None and trained.vocab_size < size:
            raise UsageError(
                f"--data.tokenizer_size {size}: this text gives no more than "
                f"{trained.vocab_size} tokens; give {trained.vocab_size} or fewer"
            )
        return trained

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """See ``Tokenizer.decode``."""
        table = self._bytes
        return b"".join([table[i] for i in self._checked(ids)]).decode(
            "utf-8", "replace"
        )


def _words(split_digits: bool) -> pre_tokenizers.PreTokenizer:
    """GPT-2's words as bytes; long runs are cut, for a merge is quadratic in them."""
    steps = [
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        pre_tokenizers.FixedLength(length=LONGEST_WORD),
    ]
    if split_digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    return pre_tokenizers.Sequence(steps)


class HFTokenizer(_Library):
    """Whatever a Hugging Face ``tokenizer.json`` says."""

    kind = "hf"

    def __init__(self, library: hf.Tokenizer, end_of_document: bool = False) -> None:
        super().__init__(library, end_of_document)
        spec = json.loads(library.to_str())
        self.unk_id = _unknown_id(spec, library)
        special = {
            token["content"] for token in spec["added_tokens"] if token["special"]
        }
        plain = ["" if string in special else string for string in self._strings]
        plain += [""] * self._added_end
        if _mentions(spec, "ByteLevel"):
            lengths = byte_lengths([_to_bytes(string) for string in plain])
        else:
            lengths = _string_lengths(plain)
        self.token_chars, self.token_bytes = lengths
        for i in (self.unk_id, self.eod_id):  # placeholders, in this order
            if i is not None:
                value = float(i == self.unk_id and i != self.eod_id)
                self.token_chars[i] = self.token_bytes[i] = value

    @property
    def start_id(self) -> int | None:
        """What the file itself puts before a text, or the end of a document."""
        put = self._library.encode("", add_special_tokens=True).ids
        return put[0] if put else self.eod_id

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """What the file itself puts before and after a text: [CLS] and [SEP]."""
        whole = self._library.encode("a", add_special_tokens=True)
        inside = [
            i for i, special in enumerate(whole.special_tokens_mask) if not special
        ]
        if not inside:
            return [], []
        return whole.ids[: inside[0]], whole.ids[inside[-1] + 1 :]

    def lengths_in(self, text: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Tokenizer.lengths_in``; what a normalizer drops goes to the next id."""
        chars, sizes = super().lengths_in(text, ids)
        clean = utf8(text).decode()
        if chars.sum() == len(clean) and sizes.sum() == len(clean.encode()):
            return chars, sizes
        offsets = self._library.encode(clean, add_special_tokens=False).offsets
        ends = np.maximum.accumulate([0, *(end for _, end in offsets)])
        ends[-1] = len(clean)
        each = [0, *(len(character.encode()) for character in clean)]
        return (
            np.diff(ends).astype(np.float64),
            np.diff(np.cumsum(each)[ends]).astype(np.float64),
        )

    @classmethod
    def from_json(cls, text: str, end_of_document: bool = False):
        """Read the text of a ``tokenizer.json``.

        Raises:
            UsageError: the library does not accept it.
        """
        return cls(parse_library(text), end_of_document)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """See ``Tokenizer.decode``."""
        array = self._checked(ids)
        if self.eod_id is not None:
            array = array[array != self.eod_id]
        return self._library.decode(array.tolist(), skip_special_tokens=False)


def parse_library(text: str) -> hf.Tokenizer:
    """The library's tokenizer from its JSON.

    Raises:
        UsageError: the library does not accept it.
    """
    try:
        return hf.Tokenizer.from_str(text)
    except BaseException as error:
        # the library raises bare Exception, and a Rust panic is not even that
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        raise UsageError(
            f"tokenizer.json: not a tokenizer that the tokenizers library reads "
            f"({str(error)[:120]}); save it again with that library"
        ) from None


def _unknown_id(spec: dict[str, Any], library: hf.Tokenizer) -> int | None:
    model = spec["model"]
    if isinstance(model.get("unk_token"), str):
        return library.token_to_id(model["unk_token"])
    number = model.get("unk_id")
    return number if isinstance(number, int) else None


def _mentions(spec: Any, kind: str) -> bool:
    """Whether a component of type ``kind`` decodes."""
    decoder = spec.get("decoder") or {}
    parts = [decoder, *decoder.get("decoders", [])]
    return any(part.get("type") == kind for part in parts)


def _string_lengths(tokens: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of tokens that are text with SentencePiece's or WordPiece's marks."""
    chars, sizes = lengths_of(
        [token.removeprefix("##").replace("\u2581", " ") for token in tokens]
    )
    for i, token in enumerate(tokens):
        if match := _BYTE_TOKEN.fullmatch(token):
            sizes[i] = 1
            chars[i] = int(match[1], 16) & 0xC0 != 0x80
    return chars, sizes


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte (Radford et al. 2019)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    table = {chr(byte): byte for byte in shown}
    return table | {chr(256 + i): byte for i, byte in enumerate(hidden)}


BYTE_OF = _byte_alphabet()


def _to_bytes(token: str) -> bytes:
    if all(character in BYTE_OF for character in token):
        return bytes(BYTE_OF[character] for character in token)
    return utf8(token)  # an added token, written as plain text
