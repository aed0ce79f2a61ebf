"""What counting and compression reach on the same split: the numbers beside a model's.

Uniform, unigram, trigram and 5-gram (Witten-Bell) see the training part; bz2 and xz are
given it too: their figure is the growth of the compressed size when the measured part
follows the training part.
"""

import bz2
import hashlib
import json
import lzma
import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmzoo.files import write_json
from lmzoo.metrics import bits_per, perplexity
from lmzoo.models.ngram import NGram
from lmzoo.text.store import cache_folder

ORDERS = {"unigram": 1, "trigram": 3, "5-gram": 5}
COUNTED = 20_000_000  # tokens at most: the last ones of a longer training text
MEASURED = 2_000_000  # tokens at most
COMPRESSED = 20_000_000  # characters at most
CHUNK = 200_000  # targets measured at a time


def floors(data: Any, split: str = "val") -> dict[str, dict[str, float]]:
    """Figures of each floor on a split of a ``TextDataModule``; cached by its text.

    Returns:
        name -> nll, perplexity, bits_per_char, bits_per_byte; a compressor has bits
        only. Where a text was cut to the caps of this module, the row says ``capped``.
    """
    described = json.dumps(data.describe(), sort_keys=True, default=str)
    key = hashlib.sha256(f"floors 1 {split} {described}".encode()).hexdigest()[:32]
    file = Path(cache_folder()) / f"{key}.floors.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        rows = _counted(data, split)
        rows.update(_compressed(data, split))
        write_json(file, rows)
        return rows


def _counted(data: Any, split: str) -> dict[str, dict[str, float]]:
    train = np.asarray(data.train_tokens[-COUNTED:])
    text = np.asarray(getattr(data, f"{split}_tokens")[:MEASURED]).astype(np.int64)
    targets = text[1:]
    chars, sizes = (
        float(table.numpy()[targets].sum()) for table in data.lengths(split)
    )
    capped = len(train) < len(data.train_tokens) or len(text) < len(
        getattr(data, f"{split}_tokens")
    )
    nats = {"uniform": math.log(data.vocab_size) * len(targets)}
    model = NGram(vocab_size=data.vocab_size, order=max(ORDERS.values()))
    model.count(train)
    for name, order in ORDERS.items():
        nats[name] = _nats(model, torch.from_numpy(text), order)
    rows: dict[str, dict[str, float]] = {}
    for name, total in nats.items():
        nll = total / max(1, len(targets))
        rows[name] = {
            "nll": nll,
            "perplexity": perplexity(nll),
            "bits_per_char": bits_per(total, chars),
            "bits_per_byte": bits_per(total, sizes),
            **({"capped": True} if capped else {}),
        }
    return rows


def _nats(model: NGram, text: torch.Tensor, order: int) -> float:
    """Summed loss of every target, each with the full context before it."""
    total = 0.0
    for start in range(0, len(text) - 1, CHUNK):
        before = max(0, start - (model.window or 0))
        tokens = text[before : min(start + CHUNK, len(text) - 1)]
        targets = text[before + 1 : before + 1 + len(tokens)]
        log_probs = model.target_log_probs(tokens[None], targets[None], order)[0]
        total -= float(log_probs[start - before :].sum())
    return total


def _compressed(data: Any, split: str) -> dict[str, dict[str, float]]:
    train, left_out = _last(data.prepared.stretches("train"))
    text, more = _first(data.prepared.stretches(split))
    capped = left_out or more
    first, second = (t.encode("utf-8", "surrogatepass") for t in (train, text))
    rows = {}
    for name, compress in (("bz2", bz2.compress), ("xz", _xz)):
        bits = 8 * (len(compress(first + second)) - len(compress(first)))
        rows[name] = {
            "bits_per_char": bits / max(1, len(text)),
            "bits_per_byte": bits / max(1, len(second)),
            **({"capped": True} if capped else {}),
        }
    return rows


def _first(stretches: Iterator[str]) -> tuple[str, bool]:
    """The first characters, as many as are compressed, and whether there are more."""
    found, size = [], 0
    for stretch in stretches:
        found.append(stretch)
        size += len(stretch)
        if size > COMPRESSED:
            break
    return "".join(found)[:COMPRESSED], size > COMPRESSED


def _last(stretches: Iterator[str]) -> tuple[str, bool]:
    """The last ones, and whether there are more; never the whole text in memory."""
    found: deque[str] = deque()
    size, more = 0, False
    for stretch in stretches:
        found.append(stretch)
        size += len(stretch)
        while size - len(found[0]) >= COMPRESSED:
            size -= len(found.popleft())
            more = True
    return "".join(found)[-COMPRESSED:], more or size > COMPRESSED


def _xz(content: bytes) -> bytes:
    return lzma.compress(content, preset=6)
