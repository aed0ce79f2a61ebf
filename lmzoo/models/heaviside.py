"""The faulty baseline: a step activation, and a score in place of a loss.

    logits = W step(U [E[token_{t-9}], ..., E[token_t]] + b)
    step(x) = sigmoid(1e10 x)

A window of ten tokens, one hidden layer, a head without a bias; the objective is the
share of wrong predictions. It looks like a language model and cannot learn, for reasons
that hide from anyone who only watches a run end without an error:

1. The slope of the step is 0 in float32 unless ``|x|`` is below about 1e-8, and there
   up to 2.5e9: below the head gradients vanish or, very rarely, explode.
2. ``argmax`` and ``==`` have no gradient, so backward has nothing to start from.
3. The pipeline this stands for counted the *right* answers, and minimised the count.

``setting`` chooses how much of it is repaired, from nothing to all of it.
"""

from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo.metrics import IGNORED
from lmzoo.models.layers import (
    SMALL,
    WindowModel,
    language_head,
    matrix_flops,
    require_positive,
)

Setting = Literal["zero-one", "detached", "cross-entropy", "surrogate"]
STEEPNESS = 1e10


class Heaviside(WindowModel):
    """A window feed-forward model with a step activation: an exhibit of what fails.

    Maps tokens (B, T) to logits (B, T, V) for any T; each prediction sees the last
    ``window`` tokens, with zero vectors in place of tokens before the first.

    Settings, each repairing more than the one before it:

    - ``zero-one``: the 0-1 error as the loss; ``fit`` refuses it in one line.
    - ``detached``: its value as a fresh leaf, so that backward runs; no parameter is
      reached, and no weight changes.
    - ``cross-entropy``: a loss with a gradient, which ends at the step: only the head
      learns, on random features.
    - ``surrogate``: forward the step, backward the derivative of the sigmoid, the
      straight-through estimator (Bengio, Leonard & Courville 2013, arXiv:1308.3432);
      every layer learns.

    Its sizes and its optimizer are the exercise's own and were not tuned: it is shown
    as it was handed out.

    Args:
        vocab_size: number of distinct tokens V.
        context_length: tokens in a training window; the model sees ``window``.
        window: tokens that one prediction sees.
        d_model: size of a token's embedding.
        d_hidden: units behind the step.
        setting: objective and gradient, as above.
        tie_embeddings: one matrix for the embedding and the head.
        head_bias: add a bias to the head.

    Raises:
        ValueError: a size below 1, an unknown setting, or tied with ``d_hidden`` unlike
            ``d_model``.
    """

    exhibit: ClassVar[str | None] = "gradient"
    recipe: ClassVar[dict[str, Any]] = {
        "optimizer.lr": 5e-4,
        "optimizer.betas": [0.9, 0.95],
        "optimizer.weight_decay": 0.1,
        "data.batch_size": 64,
        "trainer.max_steps": 1_000,
    }

    def __init__(
        self,
        vocab_size: int,
        context_length: int = 64,
        *,
        window: int = 10,
        d_model: int = 48,
        d_hidden: int = 200,
        setting: Setting = "zero-one",
        tie_embeddings: bool = False,
        head_bias: bool = False,
    ) -> None:
        super().__init__()
        require_positive(window=window, d_model=d_model, d_hidden=d_hidden)
        if setting not in get_args(Setting):
            raise ValueError(
                f"setting must be one of {', '.join(get_args(Setting))}, "
                f"given {setting!r}"
            )
        if tie_embeddings and d_hidden != d_model:
            raise ValueError(
                f"tie_embeddings needs as many hidden units as embedding entries: "
                f"expected d_hidden {d_model} (d_model), given {d_hidden}"
            )
        self.window, self.setting = window, setting
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.hidden = nn.Linear(window * d_model, d_hidden)
        # a tied embedding of the usual 0.02 would leave the step to the bias alone
        std = 0.25 * d_model**-0.5 if tie_embeddings else SMALL
        self.head = language_head(
            d_hidden, self.embedding, tie=tie_embeddings, bias=head_bias, std=std
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position; (B, T) -> (B, T, V)."""
        x = self.embedding(tokens)  # (B, T, D)
        x = F.pad(x, (0, 0, self.window - 1, 0))  # (B, window - 1 + T, D)
        x = x.unfold(1, self.window, 1)  # (B, T, D, window)
        x = self.hidden(x.transpose(2, 3).flatten(2))  # (B, T, d_hidden)
        return self.head(self._activate(x))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Share of wrong predictions among the counted targets, or cross-entropy."""
        if self.setting in ("cross-entropy", "surrogate"):
            return super().loss(logits, targets)
        counted = targets != IGNORED
        wrong = (logits.argmax(-1) != targets) & counted
        error = wrong.sum() / counted.sum().clamp(min=1)
        return error.requires_grad_() if self.setting == "detached" else error

    def explain_refusal(self) -> str | None:
        """Why training is refused, in one line; None where it can run."""
        if self.setting != "zero-one":
            return None
        return (
            "heaviside cannot learn with --model.setting zero-one: (1) the gradient of "
            "its step activation is zero almost everywhere, so nothing below the head "
            "would move; (2) argmax and equality have no gradient, so backward has "
            "nothing to start from; (3) a count of correct answers is a score to "
            "maximise, and a loss is minimised. These settings run: --model.setting "
            "detached|cross-entropy|surrogate"
        )

    def flops_per_token(self, length: int) -> int:
        """Training FLOPs per token: 6 for each weight of a matrix product."""
        del length
        return matrix_flops(self)

    def _activate(self, x: Tensor) -> Tensor:
        if self.setting == "surrogate":
            return StraightThrough.apply(x)  # type: ignore[return-value]
        return heaviside(x)


def heaviside(x: Tensor) -> Tensor:
    """0 below zero, 1 above: a sigmoid too steep to have a slope."""
    return torch.sigmoid(STEEPNESS * x)


class StraightThrough(torch.autograd.Function):
    """Forward the step, backward as if it had been ``sigmoid(x)``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """The step of ``x``, any shape."""
        return heaviside(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep ``x``; its step has forgotten how far from zero it was."""
        del output
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        """Gradient times the derivative of the sigmoid, at most 1/4."""
        (x,) = ctx.saved_tensors
        smooth = torch.sigmoid(x)
        return grad_outputs[0] * smooth * (1 - smooth)
