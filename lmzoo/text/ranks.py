"""A trained byte-level BPE by ``tiktoken``, where installed: the same ids, sooner.

``tokenizers`` merges the pairs that its file lists, ``tiktoken`` every pair whose bytes
are a token, both the lowest rank first and the leftmost of equals. The two agree on
every word if each token is listed once, in the order of the ids, and comes out whole
when it is encoded alone: then the last pair of that token's own encoding is the listed
one, and no state of any word has another. A word here is what GPT-2's pattern cuts;
words that lmzoo's own files cut after 256 bytes, and characters that Python does not
know to be assigned (on which two tables of Unicode may differ), are left to
``tokenizers``.
"""

import importlib
import importlib.util
import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import tokenizers as hf

LONGEST_WORD = 256  # bytes; longer ones are cut, for a merge is quadratic in them
BYTES = 256

# GPT-2's words (Radford et al. 2019), as the tokenizers library cuts them.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
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
    if importlib.util.find_spec("tiktoken") is None:
        return None
    if not _lists_each_once(library, words):
        return None
    tiktoken = importlib.import_module("tiktoken")  # the fast extra
    numbered = {token: i for i, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(
        "lmzoo", pat_str=_WORDS, mergeable_ranks=numbered, special_tokens={}
    )
    return Ranks(encoding)


def agreed(text: str) -> bool:
    """Whether no word of ``text`` may be cut, and every character is assigned."""
    if not text.isascii():
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        if not _assigned()[codes].all():
            return False
    raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    # A word is a blank and no more blanks, or blanks alone.
    blanks = np.flatnonzero((raw == ord(" ")) | (raw == ord("\n")))
    ends = np.concatenate([[-1], blanks, [len(raw)]])
    return int(np.diff(ends).max()) < LONGEST_WORD and not _SPACES.search(text)


@cache
def _assigned() -> np.ndarray:
    """Which code points are characters, bool (0x110000,); surrogates are not."""
    none = ("Cn", "Cs")
    every = map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))
    return np.array([category not in none for category in every])


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
