"""Parts that several families need: argument checks, the head, limited memory."""

from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmzoo.models.base import LanguageModel, State

DEEPEST = 10_000  # layers: several times what anybody trained
SMALL = 0.02  # standard deviation of a head's weights: training starts near ln V


class WindowModel(LanguageModel):
    """A model whose prediction sees the last ``window`` tokens and no others.

    A subclass sets ``self.window``. Its ``forward`` takes any length, and chunking
    changes no logit: the state is just the last ``window - 1`` tokens.
    """

    window: int

    def window_start(self, seen: int) -> int:
        """First token that a prediction after ``seen`` tokens looks at."""
        return max(0, seen - self.window)

    def advance(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Feed tokens (B, T_new) after ``state``, the last ``window - 1`` tokens."""
        history = tokens if state is None else torch.cat([state, tokens], dim=1)
        logits = self(history)[:, history.shape[1] - tokens.shape[1] :]
        return logits, history[:, self.window_start(history.shape[1] + 1) :]


class ScaledLinear(nn.Linear):
    """W (x times ``scale``) + b: a factor of the product, for the price of the input.

    Args:
        scale: the factor.
        features: size of the input.
        outputs: size of the output.
        bias: add a learned number to each output, which is not scaled.
    """

    def __init__(self, scale: float, features: int, outputs: int, bias: bool) -> None:
        super().__init__(features, outputs, bias=bias)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) -> (..., outputs)."""
        return super().forward(x * self.scale)


class ShortConvolution(nn.Module):
    """Causal convolution of each channel with itself over the last few positions.

    y_t = b + sum_k w_k x_{t - K + 1 + k}; what came before the text is zero.

    The weights have the shape of nn.Conv1d's, (D, 1, K): to an optimizer of matrices
    they are none.

    Args:
        channels: D.
        kernel_size: positions that one output reads, K.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        bound = kernel_size**-0.5  # as nn.Conv1d begins
        weight = torch.empty(channels, 1, kernel_size).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, D) and the K - 1 inputs before it -> (B, T, D) and the last K - 1."""
        reach, length = self.weight.shape[-1] - 1, x.shape[1]
        if before is None:
            x = F.pad(x, (0, 0, reach, 0))  # (B, K - 1 + T, D)
        else:
            x = torch.cat([before, x], dim=1)
        # as an image one pixel wide, channels last: the quickest of the ways on a CPU
        image = x.unsqueeze(2).permute(0, 3, 1, 2)  # (B, D, K - 1 + T, 1), no copy
        weight, bias = self.weight.unsqueeze(-1).to(x.dtype), self.bias.to(x.dtype)
        y = F.conv2d(image, weight, bias, groups=len(weight))
        y = y.permute(0, 2, 3, 1).squeeze(2)
        return y, x[:, length:]


def widened(x: Tensor) -> Tensor:
    """``x`` in at least float32: what is summed over time is not kept in half."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def emulated(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products of this type take many times as long as in float32 there.

    So it is with bfloat16 on a CPU for which oneDNN has no kernels of it (x86 without
    AVX-512): PyTorch multiplies number by number, and has no LSTM at all.
    """
    # the question that PyTorch's own compiler asks; no public name
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def language_head(
    features: int,
    embedding: nn.Embedding,
    *,
    tie: bool,
    bias: bool,
    std: float = SMALL,
    scale: float = 1.0,
) -> nn.Linear:
    """Linear map to logits, (..., features) -> (..., V).

    Args:
        features: size of the vectors that come in.
        embedding: the token embedding, (V, D).
        tie: use the embedding's own matrix as weights; ``features`` must be D then.
        bias: add one learned number to each token's logit, 0 at first.
        std: standard deviation of the first weights, the embedding's too if tied.
        scale: factor of what the matrix gives.

    Raises:
        ValueError: tied, and the sizes differ.
    """
    vocab_size, d_model = embedding.weight.shape
    if tie and features != d_model:
        raise ValueError(
            f"tie_embeddings needs a head input as wide as the embedding: expected "
            f"{d_model} (d_model), given {features}"
        )
    head = nn.Linear(features, vocab_size, bias=bias)
    if scale != 1:
        head = ScaledLinear(scale, features, vocab_size, bias)
    if tie:
        head.weight = embedding.weight
    nn.init.normal_(head.weight, std=std)
    if bias:
        nn.init.zeros_(head.bias)
    return head


def matrix_flops(model: nn.Module) -> int:
    """Training FLOPs per token spent in products with weights: 6 for each weight.

    2 forward and 4 backward (Kaplan et al. 2020, arXiv:2001.08361); a tied head counts
    like any other, embeddings, norms and biases do not.
    """
    products = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d)]
    return 6 * sum(m.weight.numel() for m in products)


def require_positive(**sizes: int) -> None:
    """Raise ValueError unless every keyword is an integer of at least 1.

    A number of layers has an upper end too: a slip of the finger would otherwise build
    layer after layer until the memory is gone.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a positive integer, given {size!r}")
        if name == "num_layers" and size > DEEPEST:
            raise ValueError(f"{name} must be at most {DEEPEST:,}, given {size}")


def require_probability(**rates: float) -> None:
    """Raise ValueError unless every keyword lies in [0, 1)."""
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ValueError(f"{name} must be in [0, 1), given {rate!r}")


def require_choice(kind: Any, **choices: str) -> None:
    """Raise ValueError unless every keyword is a value of the ``Literal`` ``kind``."""
    for name, choice in choices.items():
        if choice not in get_args(kind):
            known = ", ".join(get_args(kind))
            raise ValueError(f"{name} must be one of {known}, given {choice!r}")
