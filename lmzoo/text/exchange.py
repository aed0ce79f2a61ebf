r"""Any tokenizer in the format of the ``tokenizers`` library, with the same ids.

    char   each code point looked up in a table, unknown ones as <unk>
    word   the word pattern, each match looked up in a table
    byte   the 256 bytes as GPT-2 writes them, no merges
    bpe    as it is

The unknown and the end of a document are entries of the table and not special tokens:
the library would find a special token's name in a text and read it as that token. In
decoding the unknown is U+FFFD and the end of a document nothing, as everywhere here.
"""

import json
import re
from functools import cache
from typing import Any

import tokenizers as hf
from tokenizers import decoders, models, pre_tokenizers

from lmzoo.errors import UsageError
from lmzoo.text.protocol import END, REPLACEMENT, UNKNOWN, Tokenizer
from lmzoo.text.subword import BYTE_OF, HFTokenizer, parse_library
from lmzoo.text.symbols import CODE_POINTS

CHARACTER = r"[\s\S]"
_ENDS = (END, "<|endoftext|>", "</s>")
_LONGEST_WORD = 256


def library_tokenizer(tokenizer: Tokenizer) -> hf.Tokenizer:
    """The same tokenizer as a ``tokenizers.Tokenizer``.

    Raises:
        UsageError: a kind that the library cannot express.
    """
    if tokenizer.kind in ("char", "word"):
        return _listed(tokenizer)
    if tokenizer.kind == "byte":
        return _bytes(tokenizer)
    if tokenizer.kind in ("bpe", "hf"):
        return _subword(tokenizer)
    raise UsageError(
        f"a tokenizer of kind {tokenizer.kind!r} has no tokenizer.json; char, word, "
        f"byte, bpe and hf have"
    )


def _listed(tokenizer: Tokenizer) -> hf.Tokenizer:
    table = {symbol: i for i, symbol in enumerate(tokenizer.symbols())}
    library = hf.Tokenizer(models.WordLevel(table, unk_token=UNKNOWN))
    pattern = CHARACTER if tokenizer.kind == "char" else _words()
    library.pre_tokenizer = pre_tokenizers.Split(hf.Regex(pattern), "isolated")
    steps = [_shown(UNKNOWN, REPLACEMENT)]
    if tokenizer.eod_id is not None:
        steps.append(_shown(END, ""))
    library.decoder = decoders.Sequence([*steps, decoders.Fuse()])
    return library


@cache
def _words() -> str:
    r"""The word pattern with Python's own classes written out.

    The library's ``\w`` and ``\s`` are others: they follow another version of Unicode,
    count combining marks as letters, and not the separators from U+001C on as space.
    """
    letters, spaces = _class(r"\w+"), _class(r"\s+")
    return rf" ?[{letters}]+| ?[^{letters}{spaces}]|[{spaces}]"


def _class(pattern: str) -> str:
    """The characters that ``pattern`` finds, as ranges of a character class."""
    every = "".join(map(chr, range(CODE_POINTS)))
    runs = [found.span() for found in re.finditer(pattern, every)]
    return "".join(f"\\x{{{a:X}}}-\\x{{{b - 1:X}}}" for a, b in runs)


def _bytes(tokenizer: Tokenizer) -> hf.Tokenizer:
    library = hf.Tokenizer(models.BPE(dict(BYTE_OF), []))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            pre_tokenizers.FixedLength(length=_LONGEST_WORD),
        ]
    )
    library.decoder = decoders.ByteLevel()
    return _with_end(library, tokenizer)


def _subword(tokenizer: Tokenizer) -> hf.Tokenizer:
    library = parse_library(tokenizer.state()["tokenizer"])
    if not tokenizer.state()["end_of_document"]:  # its own end, if any, is inside
        return library
    if isinstance(tokenizer, HFTokenizer):
        library.add_special_tokens([END])
        if library.token_to_id(END) != tokenizer.eod_id:
            raise UsageError(
                f"the tokenizer.json has no place for the end of a document at "
                f"{tokenizer.eod_id}: its ids have gaps, or it has a {END!r}"
            )
        return library
    return _with_end(library, tokenizer)


def _with_end(library: hf.Tokenizer, tokenizer: Tokenizer) -> hf.Tokenizer:
    """Give a byte-level library the id of the end of a document, if there is one."""
    if tokenizer.eod_id is None:
        return library
    spec: dict[str, Any] = json.loads(library.to_str())
    table = spec["model"]["vocab"]
    end = next(name for name in _ENDS if name not in table)  # one may be learned text
    table[end] = tokenizer.eod_id
    library = parse_library(json.dumps(spec))
    library.decoder = decoders.Sequence([_shown(end, ""), decoders.ByteLevel()])
    return library


def _shown(token: str, text: str) -> decoders.Decoder:
    """Decode exactly this token as ``text``."""
    escaped = "".join(f"\\{c}" if c in "|<>/" else c for c in token)
    return decoders.Replace(hf.Regex(rf"\A{escaped}\z"), text)
