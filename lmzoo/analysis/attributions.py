"""How much each position of a prompt matters to one next token, in five ways.

Each function gives (T,) float64 numbers for a prompt of T tokens. Which question each
answers differs, and none is proof: a large gradient says that a small change of the
vector would change the answer, not that the model relies on it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lmzoo.analysis.sensitivity import Inputs
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.scoring.common import ready

Quantity = Literal["log-probability", "logit"]
EMBEDDING = "embedding"
CLOSE = 0.01  # of the whole change: how well integrated gradients must add up
ROUNDING = 4 * torch.finfo(torch.float32).eps  # of the largest number on the way
STEPS = (64, 128, 256, 512, 1024)  # of the integral, the first that is close enough
ROWS = 64  # forward passes side by side


@dataclass
class Question:
    """What makes ``target`` follow ``tokens``?

    Attributes:
        model: any member of the zoo.
        tokens: (1, T).
        target: the id of the next token in question.
        quantity: what is differentiated. Never the probability: near 1 it is flat.
        layer: where ``grad_cam`` looks: ``embedding``, or one of ``model.blocks()``.
        baselines: tokens that ``occlusion`` puts in place of each; the first that is
            not there already.
    """

    model: LanguageModel
    tokens: Tensor
    target: int
    quantity: Quantity = "log-probability"
    layer: str = EMBEDDING
    baselines: tuple[int, ...] = (0, 1)

    @cached_property
    def inputs(self) -> Inputs:
        """The vectors that the model reads."""
        return Inputs(self.model, self.tokens)

    def values(self, logits: Tensor) -> Tensor:
        """The target's log-probability (nats) or logit; (N, T, V) -> (N,)."""
        last = logits[:, -1]
        last = last.float() if last.dtype in (torch.float16, torch.bfloat16) else last
        if self.quantity == "log-probability":
            last = last.log_softmax(-1)
        return last[:, self.target]

    def value(self, logits: Tensor) -> Tensor:
        """The sum of ``values``: a scalar."""
        return self.values(logits).sum()

    @cached_property
    def slope(self) -> Tensor:
        """Gradient of the value by the input vectors, (T, D)."""
        return self.inputs.gradient(self.value)[0]

    def plain(self, tokens: Tensor) -> Tensor:
        """Values (N,) of rows of tokens, without gradients."""
        with ready(self.model), torch.no_grad():
            rows = tokens.split(ROWS)
            return torch.cat([self.values(self.model(row)) for row in rows]).double()


def grad_norm(question: Question) -> np.ndarray:
    """Length of the gradient by each input vector: the lab's definition.

    Simonyan et al. 2013, arXiv:1312.6034, for pictures.
    """
    return _numbers(question.slope.double().norm(dim=-1))


def input_x_gradient(question: Question) -> np.ndarray:
    """Gradient times input vector, summed: the change to first order, with a sign.

    Shrikumar et al. 2016, arXiv:1605.01713.
    """
    vectors = question.inputs.vectors[0].double()
    return _numbers((question.slope.double() * vectors).sum(-1))


def grad_cam(question: Question) -> np.ndarray:
    """ReLU of the activations summed with the channels' mean gradients as weights.

    Selvaraju et al. 2017, arXiv:1610.02391, with positions in place of pixels. At a
    block after which positions no longer mix, the target sees only the last position:
    all earlier ones would be exactly zero, and the layer is refused. The weights are of
    channels, not of positions: a position that the target cannot see has a share too.

    Raises:
        UsageError: no such layer, or one after which positions no longer mix.
    """
    if question.layer == EMBEDDING:
        activations, slope = question.inputs.vectors[0], question.slope
    else:
        activations, slope = _at_layer(question)
    weights = slope.double().mean(0)  # (D,)
    return _numbers((activations.double() @ weights).relu())


def integrated_gradients(question: Question) -> np.ndarray:
    """Gradients summed on the straight way from zero vectors to the prompt's vectors.

    Sundararajan et al. 2017, arXiv:1703.01365, by Captum. They add up to the value at
    the prompt less the value at zero vectors; the number of steps (Gauss-Legendre)
    grows until they do so within 1 %.

    Raises:
        UsageError: Captum is not installed, or 1,024 steps are not enough.
    """
    try:
        # optional: the inspect extra
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise UsageError(
            "integrated_gradients needs Captum: pip install 'lmzoo[inspect]'"
        ) from error
    inputs = question.inputs
    zeros = torch.zeros_like(inputs.vectors)
    method = IntegratedGradients(lambda x: question.values(inputs.logits(x)))
    with torch.no_grad():
        ends = inputs.logits(inputs.vectors), inputs.logits(zeros)
        there, zero = (question.value(logits) for logits in ends)
    whole = there - zero
    # a small difference of large numbers is no more exact than they are
    largest = max(float(found.abs().max()) for found in (*ends, there, zero))
    allowed = CLOSE * abs(float(whole)) + ROUNDING * largest
    for steps in STEPS:
        found = method.attribute(
            inputs.vectors, zeros, n_steps=steps, internal_batch_size=ROWS
        )
        parts = found[0].double().sum(-1)
        if abs(float(parts.sum() - whole)) <= allowed:
            return _numbers(parts)
    raise UsageError(
        f"integrated_gradients: after {STEPS[-1]:,} steps the parts add up to "
        f"{float(parts.sum()):.4g}, the whole is {float(whole):.4g}; another method "
        f"suits this model"
    )


def occlusion(question: Question) -> np.ndarray:
    """How far the value falls when a token is replaced by a baseline token.

    Zeiler & Fergus 2013, arXiv:1311.2901. Needs no gradient: every model has it.
    """
    tokens = question.tokens
    length = tokens.shape[1]
    rows = tokens.repeat(length, 1)
    for i in range(length):
        rows[i, i] = next(b for b in question.baselines if b != int(tokens[0, i]))
    return _numbers(question.plain(tokens) - question.plain(rows))


METHODS: dict[str, Callable[[Question], np.ndarray]] = {
    "grad_norm": grad_norm,
    "input_x_gradient": input_x_gradient,
    "grad_cam": grad_cam,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
}


def layers(question: Question) -> list[str]:
    """Where ``grad_cam`` has something to show: positions still mix afterwards."""
    blocks = _blocks(question).items()
    return [EMBEDDING, *(name for name, (_, slope) in blocks if _mixes(slope))]


def _at_layer(question: Question) -> tuple[Tensor, Tensor]:
    """Activations and their gradient at the layer, each (T, D')."""
    found = _blocks(question)
    usable = ", ".join(layers(question))
    if question.layer not in found:
        raise UsageError(
            f"--layer {question.layer}: no such layer with a vector for each position; "
            f"there are {usable}"
        )
    activations, slope = found[question.layer]
    if not _mixes(slope):
        raise UsageError(
            f"--layer {question.layer}: after it the target depends on the last "
            f"position alone, so all earlier ones are exactly zero; choose {usable}"
        )
    return activations[0], slope[0]


def _blocks(question: Question) -> dict[str, tuple[Tensor, Tensor]]:
    return question.inputs.through(question.model.blocks(), question.value)


def _mixes(slope: Tensor) -> bool:
    """Whether an earlier position than the last reaches the target from here."""
    return slope.shape[1] == 1 or bool(slope[:, :-1].any())


# ---- what importances say ------------------------------------------------------------


def normalised(values: np.ndarray) -> np.ndarray:
    """Magnitudes divided by the largest; all zero if that is zero."""
    sizes = np.abs(values)
    top = sizes.max(initial=0.0)
    return sizes / top if top > 0 else sizes


def concentration(values: np.ndarray) -> tuple[float, float]:
    """Share of the top position, and entropy in bits of the shares of all.

    NaN where all are zero.
    """
    sizes = np.abs(values)
    if not sizes.sum() > 0:
        return math.nan, math.nan
    shares = sizes / sizes.sum()
    some = shares[shares > 0]
    return float(shares.max()), float(-(some * np.log2(some)).sum()) + 0.0


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; NaN if either is constant."""
    first, second = _ranks(one), _ranks(other)
    if len(one) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts - 1) / 2)[inverse]


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
