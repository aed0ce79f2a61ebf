"""The yardstick: nats per token, perplexity, bits per character and per byte.

Quality is a sum over a whole pass divided once at the end, in float64, so it does not
depend on how the pass was cut into batches. torchmetrics' own Perplexity takes softmax
and then log, which is infinite for a confident model; this one is fed the losses.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import classification as measures
from torchmetrics.utilities import dim_zero_cat

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


class ClassificationMetrics(Metric):
    """Logits and labels of a full pass, measured at its end by torchmetrics.

    ``nll`` is in nats a text; ``accuracy`` counts texts; ``f1`` and ``auroc`` (one
    class against the rest) are means over the classes; ``calibration_error`` is the
    expected one, over 15 bins of the winning probability (Guo et al. 2017,
    arXiv:1706.04599).
    """

    full_state_update = False
    NAMES = ("nll", "accuracy", "f1", "auroc", "calibration_error")
    BINS = 15

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add one batch.

        Args:
            logits: (B, K).
            targets: (B,) int64, -100 where not counted.
        """
        counted = targets != IGNORED
        self.logits.append(logits.detach()[counted].float())
        self.targets.append(targets[counted])

    def compute(self) -> dict[str, float]:
        """One number for each of ``NAMES``; AUROC is NaN where a class is missing."""
        logits, targets = dim_zero_cat(self.logits), dim_zero_cat(self.targets)
        if not len(targets):
            return dict.fromkeys(self.NAMES, math.nan)
        classes = logits.shape[-1]
        chances = logits.double().softmax(-1)
        every = len(targets.unique()) == classes
        single = {"num_classes": classes, "validate_args": False}
        found = {
            "nll": F.cross_entropy(logits.double(), targets),
            "accuracy": measures.multiclass_accuracy(
                chances, targets, average="micro", **single
            ),
            "f1": measures.multiclass_f1_score(
                chances, targets, average="macro", **single
            ),
            "auroc": measures.multiclass_auroc(chances, targets, **single)
            if every
            else math.nan,
            "calibration_error": measures.multiclass_calibration_error(
                chances, targets, n_bins=self.BINS, **single
            ),
        }
        return {name: float(value) for name, value in found.items()}

    def confusion(self) -> list[list[int]]:
        """Counts, (K, K): row the true label, column the predicted one."""
        logits, targets = dim_zero_cat(self.logits), dim_zero_cat(self.targets)
        table = measures.multiclass_confusion_matrix(
            logits, targets, num_classes=logits.shape[-1]
        )
        return table.tolist()

    def __getattr__(self, name: str) -> Any:  # the states, for the type checker
        return super().__getattr__(name)
