"""The yardstick against brute force and against torchmetrics."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.text import Perplexity

from lmzoo.metrics import (
    ClassificationMetrics,
    LanguageModelMetrics,
    bits_per,
    perplexity,
)


def batch(seed: int = 0, rows: int = 7, length: int = 13, vocab: int = 11):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, vocab, generator=generator) * 3
    targets = torch.randint(0, vocab, (rows, length), generator=generator)
    targets[0, :3] = -100
    return logits, targets


def nll_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    flat = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
    )
    return flat.view(targets.shape)


def measured(pieces: list, lengths=None) -> dict[str, float]:
    metric = LanguageModelMetrics()
    metric.set_lengths(lengths)
    for logits, targets in pieces:
        metric.update(nll_of(logits, targets), logits, targets)
    return metric.compute()


def test_it_equals_a_float64_sum() -> None:
    logits, targets = batch()
    keep = targets != -100
    log_probs = logits.double().log_softmax(-1)
    picked = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0][keep]
    result = measured([(logits, targets)])
    assert result["nll"] == pytest.approx(-picked.mean().item(), abs=1e-6)
    top = logits.argmax(-1)[keep] == targets[keep]
    assert result["accuracy"] == pytest.approx(top.double().mean().item())


@pytest.mark.parametrize("size", [1, 2, 7])
def test_it_does_not_depend_on_the_batch_size(size: int) -> None:
    logits, targets = batch()
    whole = measured([(logits, targets)])
    parts = zip(logits.split(size), targets.split(size), strict=True)
    cut = measured(list(parts))
    for name, value in whole.items():
        assert cut[name] == pytest.approx(value, abs=1e-6)


def test_it_equals_torchmetrics_on_ordinary_input() -> None:
    logits, targets = batch()
    theirs = Perplexity(ignore_index=-100)
    theirs.update(logits, targets)
    ours = measured([(logits, targets)])["perplexity"]
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_it_stays_finite_where_torchmetrics_does_not() -> None:
    logits = torch.zeros(1, 1, 3)
    logits[..., 0] = 200.0
    targets = torch.tensor([[1]])
    theirs = Perplexity()
    theirs.update(logits, targets)
    assert math.isinf(float(theirs.compute()))
    assert measured([(logits, targets)])["nll"] == pytest.approx(200.0)


def test_bits_use_the_length_of_every_target() -> None:
    logits, targets = batch(vocab=3)
    chars = torch.tensor([1.0, 2.0, 0.0]).double()
    sizes = torch.tensor([1.0, 4.0, 0.0]).double()
    result = measured([(logits, targets)], (chars, sizes))
    keep = targets[targets != -100]
    nats = nll_of(logits, targets).double().sum().item()
    expected = nats / math.log(2) / chars[keep].sum().item()
    assert result["bits_per_char"] == pytest.approx(expected, rel=1e-6)
    assert result["bits_per_byte"] == pytest.approx(
        nats / math.log(2) / sizes[keep].sum().item(), rel=1e-6
    )


def test_overflow_is_infinity_not_an_exception() -> None:
    assert perplexity(1e6) == math.inf
    assert math.isnan(bits_per(1.0, 0))


# ---- labels --------------------------------------------------------------------------


def test_figures_of_labels_by_hand() -> None:
    chances = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    targets = torch.tensor([0, 1, 1, 0])
    metrics = ClassificationMetrics()
    for begin in (0, 3):  # the result does not depend on how the pass was cut
        end = begin + 3
        metrics.update(chances[begin:end].log(), targets[begin:end])

    found = metrics.compute()

    wanted = -(math.log(0.9) + math.log(0.4) + math.log(0.7) + math.log(0.2)) / 4
    assert found["nll"] == pytest.approx(wanted, rel=1e-6)
    assert found["accuracy"] == 0.5
    assert found["f1"] == 0.5
    assert found["auroc"] == 0.5  # of 4 pairs, 2 stand in the right order
    # bins of one text each: |1 - 0.9|, |0 - 0.6|, |1 - 0.7|, |0 - 0.8|
    assert found["calibration_error"] == pytest.approx(1.8 / 4, abs=1e-6)
    assert metrics.confusion() == [[1, 1], [1, 1]]


def test_rows_that_fill_up_do_not_count_and_a_missing_class_has_no_auroc() -> None:
    metrics = ClassificationMetrics()
    metrics.update(torch.tensor([[2.0, 0.0], [0.0, 9.0]]), torch.tensor([0, -100]))

    found = metrics.compute()

    assert found["accuracy"] == 1.0
    assert math.isnan(found["auroc"])
