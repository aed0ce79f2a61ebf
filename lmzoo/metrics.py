"""The yardstick: nats per token, perplexity, bits per character and per byte.

Quality is a sum over a whole pass divided once at the end, in float64, so it does not
depend on how the pass was cut into batches. torchmetrics' own Perplexity takes softmax
and then log, which is infinite for a confident model; this one is fed the losses.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

IGNORED = -100  # a target that is context only, as in torch's cross_entropy


def perplexity(nll: float) -> float:
    """Exp of nats per token; infinity, not an exception, on overflow."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf


def bits_per(nats: float, count: float) -> float:
    """Bits per unit when ``nats`` were spent on ``count`` units (NaN for none)."""
    return nats / math.log(2) / count if count else math.nan


class LanguageModelMetrics(Metric):
    """Sums over a pass: nats, targets, characters, bytes, top-1 and top-5 hits.

    ``update`` takes the loss of each target, already computed; ``compute`` divides.
    States are float64 and add up across processes.
    """

    full_state_update = False
    NAMES = (
        "nll",
        "perplexity",
        "bits_per_char",
        "bits_per_byte",
        "accuracy",
        "accuracy_top5",
    )
    SUMS = ("nats", "tokens", "chars", "bytes", "top1", "top5")

    def __init__(self) -> None:
        super().__init__()
        for name in self.SUMS:
            zero = torch.zeros((), dtype=torch.float64)
            self.add_state(name, zero, dist_reduce_fx="sum")
        self._lengths: tuple[Tensor, Tensor] | None = None

    def set_lengths(self, lengths: tuple[Tensor, Tensor] | None) -> None:
        """Characters and UTF-8 bytes of every token id, each (V,) float64."""
        if lengths is not None:
            lengths = (lengths[0].to(self.device), lengths[1].to(self.device))
        self._lengths = lengths

    def update(self, nll: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add one batch.

        Args:
            nll: loss of each target in nats, (B, T); 0 where the target is ignored.
            logits: (B, T, V).
            targets: (B, T), -100 where not counted.
        """
        counted = targets != IGNORED
        self.nats += nll.double().sum()
        self.tokens += counted.sum()
        best = logits.topk(min(5, logits.shape[-1]), dim=-1).indices  # (B, T, 5)
        hits = best == targets.unsqueeze(-1)
        self.top1 += hits[..., 0].sum()
        self.top5 += hits.sum()
        if self._lengths is not None:
            seen = targets[counted]
            self.chars += self._lengths[0][seen].sum()
            self.bytes += self._lengths[1][seen].sum()

    def compute(self) -> dict[str, float]:
        """Nll (nats per token), perplexity, bits per character and byte, accuracies."""
        tokens = float(self.tokens)
        nll = float(self.nats) / tokens if tokens else math.nan
        result = {"nll": nll, "perplexity": perplexity(nll)}
        if self._lengths is not None:
            result["bits_per_char"] = bits_per(float(self.nats), float(self.chars))
            result["bits_per_byte"] = bits_per(float(self.nats), float(self.bytes))
        result["accuracy"] = float(self.top1) / tokens if tokens else math.nan
        result["accuracy_top5"] = float(self.top5) / tokens if tokens else math.nan
        return result

    def counts(self) -> dict[str, int]:
        """How many targets, characters and bytes stand behind the figures."""
        return {name: round(float(getattr(self, name))) for name in self.SUMS[1:4]}

    def __getattr__(self, name: str) -> Any:  # the states, for the type checker
        return super().__getattr__(name)
