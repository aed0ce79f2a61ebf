"""What a model expects next: distributions along a continuation of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel


@dataclass(frozen=True)
class Path:
    """A continuation and the distribution that each of its tokens was chosen from.

    Attributes:
        tokens: ids, (n,).
        probabilities: of every id before each token, float64 (n, V).
    """

    tokens: list[int]
    probabilities: np.ndarray

    @property
    def entropies(self) -> np.ndarray:
        """Of each distribution, bits (n,)."""
        p = self.probabilities
        logs = np.log2(p, out=np.zeros_like(p), where=p > 0)  # 0 log 0 = 0
        return -(p * logs).sum(1)

    @property
    def chosen(self) -> np.ndarray:
        """The probability of each token, (n,)."""
        return self.probabilities[np.arange(len(self.tokens)), self.tokens]

    def top(self, place: int, most: int) -> list[tuple[int, float]]:
        """The likeliest ids at a place, with their probabilities."""
        row = self.probabilities[place]
        order = np.argsort(-row, kind="stable")[:most]
        return [(int(token), float(row[token])) for token in order]


@torch.inference_mode()
def greedy(
    model: LanguageModel, prompt: Tensor, count: int, banned: Sequence[int] = ()
) -> Path:
    """The likeliest next token, ``count`` times, each after the ones before it.

    Args:
        model: in evaluation mode.
        prompt: token ids (1, T).
        count: n, tokens to make.
        banned: ids that are never chosen; the distributions keep them.

    Raises:
        UsageError: the model's output is not a number.
    """
    tokens, rows = [], []
    given, state = prompt.to(model.device), None
    for _ in range(count):
        logits, state = model.step(given, state)
        rows.append(_probabilities(logits)[0])
        allowed = rows[-1].copy()
        allowed[list(banned)] = -1.0
        tokens.append(int(allowed.argmax()))
        given = torch.tensor([[tokens[-1]]], device=model.device)
    return Path(tokens, np.stack(rows))


@torch.inference_mode()
def along(model: LanguageModel, prompt: Tensor, tokens: Sequence[int]) -> Path:
    """The distributions before each of some given tokens, in one pass.

    Args:
        model: in evaluation mode.
        prompt: token ids (1, T).
        tokens: that follow the prompt, (n,).
    """
    before = torch.tensor([tokens[:-1]], dtype=torch.long)
    stream = torch.cat([prompt, before], dim=1).to(model.device)
    logits, _ = model.advance(stream)
    return Path(list(tokens), _probabilities(logits[0, -len(tokens) :]))


def hardened(steps: Sequence[int], paths: Sequence[Sequence[int]]) -> list[int | None]:
    """The step from which the first 1, 2, ... n tokens stay those of the last path.

    Args:
        steps: of checkpoints, ascending.
        paths: the continuation at each.

    Returns:
        For each length a step; None where the last path alone has these tokens.
    """
    found: list[int | None] = []
    for length in range(1, len(paths[-1]) + 1):
        final, since = list(paths[-1][:length]), len(paths) - 1
        while since and list(paths[since - 1][:length]) == final:
            since -= 1
        found.append(steps[since] if since < len(paths) - 1 else None)
    return found


def _probabilities(logits: Tensor) -> np.ndarray:
    """Rows that add up to one, float64 (n, V)."""
    found = logits.double().softmax(-1).cpu().numpy()
    if np.isnan(found).any():
        raise UsageError("the model's output is not a number; its weights are damaged")
    return found
