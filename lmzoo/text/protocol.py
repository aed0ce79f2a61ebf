"""What every tokenizer is: text to ids and back, and the length of each id."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

UNKNOWN, END = "<unk>", "<eod>"
REPLACEMENT = "\ufffd"


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        kind: ``char``, ``word``, ``byte``, ``bpe`` or ``hf``.
        vocab_size: number of ids.
        unk_id: the id of unknown symbols; None where every text can be encoded.
        eod_id: the id of the end of a document; None for single-document corpora.
        token_chars: characters of each id, float64 (V,); 0 for the end of a document, 1
            for the unknown (a placeholder: its true length is the split's mean).
        token_bytes: the same in UTF-8 bytes.
        whole_words: a text may only be cut before white space.
    """

    kind: str
    vocab_size: int
    unk_id: int | None
    eod_id: int | None
    token_chars: np.ndarray
    token_bytes: np.ndarray
    whole_words: bool = False

    @property
    def start_id(self) -> int | None:
        """The id that a text starts after: the end of the document before it.

        None where the vocabulary has none; then a text starts after nothing.
        """
        return self.eod_id

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """Ids that belong before and after a text that is to be classified; none."""
        return [], []

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Token ids, int32 (n,). Never raises: what is not known becomes ``unk_id``."""

    @abstractmethod
    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        r"""The text of the ids; unknown is U+FFFD, the end of a document nothing.

        Raises:
            ValueError: an id outside the vocabulary.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that ``from_state`` needs, JSON-plain."""

    @abstractmethod
    def symbols(self) -> list[str]:
        """The token strings in the order of their ids, each once."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """``encode`` of each text."""
        return [self.encode(text) for text in texts]

    def lengths_in(self, text: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Characters and UTF-8 bytes of ``text`` that each of its ids stands for.

        Unlike ``token_chars[ids]`` these are the true lengths of unknown symbols.

        Args:
            text: what was encoded.
            ids: ``encode(text)``, (n,).

        Returns:
            Two arrays (n,) float64; the characters add up to ``len(text)``.
        """
        del text
        return self.token_chars[ids], self.token_bytes[ids]

    def first_unknown(self, text: str) -> str | None:
        """The first symbol of ``text`` that has no id of its own."""
        del text
        return None

    def sha256(self) -> str:
        """A fingerprint of the whole tokenizer."""
        plain = json.dumps(
            self.state(), sort_keys=True, separators=(",", ":"), ensure_ascii=True
        )
        return hashlib.sha256(plain.encode()).hexdigest()

    def _checked(self, ids: Iterable[int] | np.ndarray) -> np.ndarray:
        """``ids`` as an int64 array inside the vocabulary."""
        if not isinstance(ids, np.ndarray):
            ids = np.asarray(ids if hasattr(ids, "__array__") else list(ids))
        array = ids.reshape(-1).astype(np.int64)
        if array.size and not 0 <= array.min() <= array.max() < self.vocab_size:
            raise ValueError(
                f"token ids must be in [0, {self.vocab_size}), given "
                f"{array.min()} to {array.max()}"
            )
        return array


def lengths_of(tokens: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Characters and UTF-8 bytes of each token string, float64 (len(tokens),)."""
    chars = [len(token) for token in tokens]
    sizes = [len(token.encode("utf-8", "surrogatepass")) for token in tokens]
    return np.array(chars, np.float64), np.array(sizes, np.float64)


def byte_lengths(tokens: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Characters and bytes of tokens that are pieces of UTF-8.

    A character is counted at its first byte, so that sums over a text are exact.
    """
    chars = [sum(byte & 0xC0 != 0x80 for byte in token) for token in tokens]
    return np.array(chars, np.float64), np.array([*map(len, tokens)], np.float64)


def utf8(text: str) -> bytes:
    """UTF-8 of any ``str``; a lone surrogate, which has none, becomes ``?``."""
    return text.encode("utf-8", "replace")
