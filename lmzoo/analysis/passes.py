"""A pass over text: every target once, under the context rule of validation.

The same windows (or carried streams) as ``lmzoo.text.loader.EvalLoader``, but any
number of them, evenly spread, so that a part of a long text can stand for it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel, State
from lmzoo.report.student import quantile
from lmzoo.report.words import plural
from lmzoo.text.datamodule import TextDataModule

LN2 = math.log(2)
BLOCKS = 32  # consecutive stretches of a pass, for its interval


@dataclass(frozen=True)
class Passage:
    """Stretches of a text, and how a model reads them.

    Attributes:
        tokens: of the text, (n,).
        begins: place of each stretch's first input, ascending, (W,).
        ends: after its last, (W,).
        size: targets computed at a time in each stretch.
        overlap: earlier tokens before a stretch that are context only.
        at_once: stretches side by side.
        carried: a state goes along each stretch.
    """

    tokens: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    size: int
    overlap: int
    at_once: int
    carried: bool

    @property
    def targets(self) -> np.ndarray:
        """The ids to be predicted, in the order of the text, int64 (n,)."""
        parts = [
            np.asarray(self.tokens[begin + 1 : end + 1])
            for begin, end in zip(self.begins, self.ends, strict=True)
        ]
        return np.concatenate(parts).astype(np.int64)

    @property
    def whole(self) -> bool:
        """Whether every target of the text is among them."""
        return int((self.ends - self.begins).sum()) == len(self.tokens) - 1


def passage(
    model: LanguageModel, data: TextDataModule, split: str, most: int
) -> Passage:
    """At most about ``most`` targets of a split, evenly spread; all, if it has fewer.

    Args:
        model: decides the context rule, as in training.
        data: the text.
        split: ``train``, ``val`` or ``test``.
        most: targets; rounded up to whole windows.

    Raises:
        UsageError: a split with fewer than two tokens.
    """
    tokens = data.prepared.tokens(split)
    n = len(tokens) - 1
    if n < 1:
        raise UsageError(f"{data.corpus_name}: its {split} part has no text to predict")
    if model.carry_state:
        rows = min(data.streams, n)
        edges = np.arange(rows + 1) * n // rows
        begins = edges[:-1]
        ends = np.minimum(edges[1:], begins + max(1, -(-most // rows)))
        return Passage(tokens, begins, ends, model.context_length, 0, rows, True)
    size, overlap = model.context_length, (model.window or 1) - 1
    if data.stride is not None and not model.window:
        size, overlap = data.stride, max(0, model.context_length - data.stride)
    total = -(-n // size)
    kept = min(total, max(1, -(-most // size)))
    begins = np.linspace(0, total - 1, kept).round().astype(np.int64) * size
    ends = np.minimum(begins + size, n)
    batch = max(1, data.eval_batch_size)
    return Passage(tokens, begins, ends, size, overlap, batch, False)


@torch.inference_mode()
def logits_of(model: LanguageModel, where: Passage) -> Iterator[tuple[Tensor, Tensor]]:
    """(logits (m, V), targets (m,)) of every target once, in at least float32.

    Stretch after stretch in the order of the text where they are windows; carried
    stretches are read side by side.
    """
    for first in range(0, len(where.begins), where.at_once):
        rows = slice(first, first + where.at_once)
        begins, ends = where.begins[rows, None], where.ends[rows, None]
        state: State = None
        for done in range(0, int((ends - begins).max()), where.size):
            left = begins + done - where.overlap
            places = np.maximum(left, 0) + np.arange(where.size + where.overlap)
            counted = (places >= begins + done) & (places < ends)
            places = np.minimum(places, len(where.tokens) - 2)
            tokens = _ids(where.tokens[places], model)
            if where.carried:
                logits, state = model.advance(tokens, state)
            else:
                logits = model(tokens)
            kept = torch.from_numpy(counted).to(model.device)
            targets = _ids(where.tokens[places + 1], model)[kept]
            found = logits[kept]
            half = found.dtype in (torch.float16, torch.bfloat16)
            yield (found.float() if half else found), targets


def losses(model: LanguageModel, where: Passage) -> np.ndarray:
    """Nats of each target in the order of the text, float64 (n,).

    Raises:
        UsageError: the model's output is not a number.
    """
    parts = [_nats(logits, targets) for logits, targets in logits_of(model, where)]
    return _in_order(np.concatenate(parts), where)


def uncertainty(model: LanguageModel, where: Passage) -> tuple[np.ndarray, np.ndarray]:
    """Entropy of each prediction and loss of each target, bits, float64 (n,) twice.

    Raises:
        UsageError: the model's output is not a number.
    """
    entropies, costs = [], []
    for logits, targets in logits_of(model, where):
        spread = torch.special.entr(logits.softmax(-1)).sum(-1)  # 0 at probability 0
        entropies.append(spread.double().cpu().numpy() / LN2)
        costs.append(_nats(logits, targets) / LN2)
    one, other = np.concatenate(entropies), np.concatenate(costs)
    return _in_order(one, where), _in_order(other, where)


def _nats(logits: Tensor, targets: Tensor) -> np.ndarray:
    found = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if found.isnan().any():
        raise UsageError("the model's output is not a number; its weights are damaged")
    return found.double().cpu().numpy()


def half_width(values: np.ndarray, blocks: int = BLOCKS) -> float | None:
    """Half the 95 % interval of a mean, from consecutive blocks of the text.

    Student's t over the means of the blocks, which are taken as independent. None: too
    few values for two blocks.
    """
    blocks = min(blocks, len(values))
    if blocks < 2:
        return None
    means = np.array([part.mean() for part in np.array_split(values, blocks)])
    return float(quantile(0.95, blocks - 1) * means.std(ddof=1) / np.sqrt(blocks))


def context_rule(where: Passage, model: LanguageModel) -> str:
    """Under which context the figures are taken, in words."""
    if where.carried:
        return f"state carried along {len(where.begins)} streams of the text"
    if model.window is not None:
        return f"every target sees its full window of {plural(model.window, 'token')}"
    if where.overlap:
        return f"every target sees at least {where.overlap + 1} tokens"
    middle = (model.context_length + 1) / 2
    return (
        f"fresh windows of {model.context_length} tokens, on average {middle:g} tokens "
        "seen"
    )


def held_out(data: TextDataModule) -> str:
    """The split that was not trained on: ``val``, else ``test``.

    Raises:
        UsageError: the text has neither.
    """
    for split in ("val", "test"):
        if len(data.prepared.tokens(split)) > 1:
            return split
    raise UsageError(f"{data.corpus_name}: has no held-out part; name another --corpus")


def _in_order(values: np.ndarray, where: Passage) -> np.ndarray:
    """Values of targets, as they were computed, in the order of the text, (n,)."""
    if not where.carried:
        return values
    lengths = where.ends - where.begins
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.concatenate([np.arange(length) for length in lengths])
    found = np.empty_like(values)
    found[np.lexsort((columns, rows, columns // where.size))] = values
    return found


def _ids(ids: np.ndarray, model: LanguageModel) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(model.device)
