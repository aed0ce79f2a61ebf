"""A trained byte-level BPE by ``tiktoken``: the same ids as ``tokenizers``, sooner.

``tokenizers`` merges the pairs that its file lists, ``tiktoken`` every pair whose bytes
are a token, both the lowest rank first and the leftmost of equals. The two agree on
every word if each token is listed once, in the order of the ids, and comes out whole
when it is encoded alone: then the last pair of that token's own encoding is the listed
one, and no state of any word has another. A word here is what GPT-2's pattern cuts;
words that lmzoo's own files cut after 256 bytes are left to ``tokenizers``, and so is a
text with a character that only one of the two calls a letter, a number or a space:
each brings its own version of Unicode, and both are asked.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tokenizers as hf

LONGEST_WORD = 256  # bytes; longer ones are cut, for a merge is quadratic in them
BYTES = 256

# GPT-2's words (Radford et al. 2019), as the tokenizers library cuts them.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CLASSES = (r"\p{L}", r"\p{N}", r"\s")  # of characters, all that the words look at
_SPACES = re.compile(rf"\s{{{LONGEST_WORD // 4}}}")
_PLAIN = {  # of the model in a tokenizer.json; anything else merges in another way
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


class Ranks:
    """Encodes what a ``tokenizers`` BPE would encode to the same ids.

    Args:
        encoding: tiktoken's own.
    """

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        """Ids of each text, int32 (n,); None for one that must go the other way."""
        if len(texts) < 2:
            return [self._encode(text) for text in texts]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return list(threads.map(self._encode, texts))

    def _encode(self, text: str) -> np.ndarray | None:
        if not agreed(text):
            return None
        # every string is text, that of an end of document too
        ids = self._encoding.encode_to_numpy(text, disallowed_special=())
        return ids.astype(np.int32)


def ranks(
    library: hf.Tokenizer,
    tokens: Sequence[bytes],
    words: hf.pre_tokenizers.PreTokenizer,
) -> Ranks | None:
    """The fast way to the ids of ``library``; None where there is none.

    Args:
        library: a byte-level BPE.
        tokens: the bytes of each of its ids.
        words: how lmzoo cuts words, digits together.
    """
    if not _lists_each_once(library, words):
        return None
    return Ranks(_encoding(_WORDS, tokens))


def _encoding(pattern: str, tokens: Sequence[bytes]) -> Any:
    import tiktoken  # brings an HTTP client along, which nothing here uses

    numbered = {token: i for i, token in enumerate(tokens)}
    return tiktoken.Encoding(
        "lmzoo", pat_str=pattern, mergeable_ranks=numbered, special_tokens={}
    )


def agreed(text: str) -> bool:
    """Whether no word of ``text`` may be cut, and both libraries know its characters.

    Args:
        text: without lone surrogates.
    """
    if not text.isascii():
        codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
        if not _known.alike(codes):
            return False
    raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    # A word is a blank and no more blanks, or blanks alone.
    blanks = np.flatnonzero((raw == ord(" ")) | (raw == ord("\n")))
    ends = np.concatenate([[-1], blanks, [len(raw)]])
    return int(np.diff(ends).max()) < LONGEST_WORD and not _SPACES.search(text)


class _Known:
    """Characters that both libraries put into the same class, asked for once each."""

    def __init__(self) -> None:
        self._asked = np.zeros(sys.maxunicode + 1, bool)
        self._alike = np.zeros(sys.maxunicode + 1, bool)

    def alike(self, codes: np.ndarray) -> bool:
        """Whether that is so for all of these code points, (n,)."""
        fresh = np.unique(codes[~self._asked[codes]])
        if len(fresh):
            text = "".join(map(chr, fresh.tolist()))
            differ: set[str] = set()
            for pattern in _CLASSES:
                differ |= _by_tiktoken(pattern, text) ^ _by_tokenizers(pattern, text)
            # a thread that asks for the same at the same time writes the same
            self._alike[fresh] = [chr(code) not in differ for code in fresh]
            self._asked[fresh] = True
        return bool(self._alike[codes].all())


_known = _Known()


def _by_tiktoken(pattern: str, text: str) -> set[str]:
    """The characters of ``text`` that ``tiktoken`` finds in a class."""
    every = [bytes([byte]) for byte in range(BYTES)]
    found = _encoding(pattern, every).encode_ordinary(text)  # drops what is no match
    return set(bytes(found).decode())


def _by_tokenizers(pattern: str, text: str) -> set[str]:
    """The characters of ``text`` that ``tokenizers`` finds in a class."""
    runs = hf.Regex(f"{pattern}+")  # cutting takes time squared in the pieces
    cut = hf.pre_tokenizers.Split(runs, "removed", invert=True)
    return set("".join(piece for piece, _ in cut.pre_tokenize_str(text)))


def _lists_each_once(
    library: hf.Tokenizer, words: hf.pre_tokenizers.PreTokenizer
) -> bool:
    """Whether the proof in this file's head holds for ``library``."""
    spec = json.loads(library.to_str())
    model, cut = spec["model"], hf.Tokenizer(hf.models.BPE())
    cut.pre_tokenizer = words
    alike = spec["pre_tokenizer"] == json.loads(cut.to_str())["pre_tokenizer"]
    if not alike or spec["normalizer"] or spec["added_tokens"]:
        return False
    if any(model.get(key) != value for key, value in _PLAIN.items()):
        return False
    strings = sorted(model["vocab"], key=model["vocab"].__getitem__)
    pairs = (p.split(" ") if isinstance(p, str) else p for p in model["merges"])
    if ["".join(pair) for pair in pairs] != strings[BYTES:]:
        return False
    alone = library.model.tokenize
    return all(
        [part.id for part in alone(string)] == [i] for i, string in enumerate(strings)
    )
