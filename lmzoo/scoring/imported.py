"""Log-probabilities that another program wrote down, as a score: a hosted model's, say.

Two forms of JSON are read:

    {"name": "...", "tokens": ["On", "ce"], "logprobs": [null, -1.5]}
    [{"token": "On", "logprob": null}, {"token": "ce", "logprob": -1.5}]

Log-probabilities are natural logarithms; null is a first token without one. An item of
the second form may have ``bytes``, a list of integers, which then counts as its token.
"""

import math
from typing import Any

import numpy as np

from lmzoo.errors import UsageError
from lmzoo.scoring.result import Score
from lmzoo.text.protocol import byte_lengths, utf8


def imported(data: Any, text: str, where: str) -> tuple[str, Score]:
    """The name and the score that ``data``, parsed JSON, holds for ``text``.

    Args:
        data: one of the two forms.
        text: what the tokens must add up to.
        where: the file, for messages; also the name, where the data has none.

    Raises:
        UsageError: another form, tokens that are not the text (saying where they
            differ), or a logprob that is positive, not finite, or missing.
    """
    name, tokens, logprobs = _columns(data, where)
    if len(tokens) != len(logprobs):
        raise UsageError(
            f"{where}: {len(tokens)} tokens but {len(logprobs)} logprobs; give one each"
        )
    _same_text(b"".join(tokens), utf8(text), where)
    first = int(bool(logprobs) and logprobs[0] is None)
    for i, value in enumerate(logprobs[first:], first):
        _check(value, i, where)
    if len(logprobs) <= first:
        raise UsageError(f"{where}: no token has a logprob; there is nothing to score")
    chars, sizes = byte_lengths(tokens)
    rule = "not scored: null in the file" if first else "scored in the file"
    return name, Score(
        text=text,
        nll=np.array([math.nan] * first + [0.0 - x for x in logprobs[first:]]),
        chars=chars,
        bytes=sizes,
        first=first,
        first_rule=rule,
        context="not known: imported",
    )


def _columns(data: Any, where: str) -> tuple[str, list[bytes], list[Any]]:
    if isinstance(data, dict) and {"tokens", "logprobs"} <= set(data):
        tokens, logprobs = data["tokens"], data["logprobs"]
        name = data.get("name", where)
    elif isinstance(data, list) and all(isinstance(item, dict) for item in data):
        tokens = [item.get("bytes") or item.get("token") for item in data]
        logprobs = [item.get("logprob") for item in data]
        name = where
    else:
        tokens = logprobs = name = None
    if not isinstance(tokens, list) or not isinstance(logprobs, list):
        raise UsageError(
            f'{where}: expected {{"tokens": [...], "logprobs": [...]}} or '
            f'[{{"token": ..., "logprob": ...}}, ...]'
        )
    return str(name), [_bytes(x, i, where) for i, x in enumerate(tokens)], logprobs


def _bytes(token: Any, i: int, where: str) -> bytes:
    if isinstance(token, str):
        return utf8(token)
    if isinstance(token, list) and all(
        type(byte) is int and 0 <= byte < 256 for byte in token
    ):
        return bytes(token)
    raise UsageError(f"{where}: token {i} must be a string, given {token!r:.40}")


def _same_text(given: bytes, wanted: bytes, where: str) -> None:
    if given == wanted:
        return
    pairs = zip(given, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    at = min(len(given), len(wanted)) if at is None else at
    while at and at < len(wanted) and wanted[at] & 0xC0 == 0x80:
        at -= 1  # to where the character begins
    shown = [part[at : at + 20].decode("utf-8", "replace") for part in (wanted, given)]
    place = len(wanted[:at].decode("utf-8", "replace"))
    raise UsageError(
        f"{where}: its tokens are not the text: at character {place} the text has "
        f"{shown[0]!r}, the tokens {shown[1]!r}"
    )


def _check(value: Any, i: int, where: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not -math.inf < value <= 0:
        raise UsageError(
            f"{where}: logprob {i} must be a finite number, 0 or less, "
            f"given {value!r}; only the first may be null"
        )
