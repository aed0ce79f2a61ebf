"""What the figures of a finished run say: pure functions of the summary."""

import math
from collections.abc import Iterator
from typing import Any

FEW_TARGETS = 1000
UNKNOWN_SHARE = 0.001  # of the validation tokens
MEMORISED = 0.8  # a training loss below this share of validation is learned by heart

Finding = tuple[str, str, str]  # code, severity, message


def verdicts(summary: dict[str, Any], train_nll: float | None) -> Iterator[Finding]:
    """Findings on a run's figures.

    Args:
        summary: ``best`` and ``last`` with ``step`` and ``metrics``, ``floors`` as
            name -> metrics, ``counting``, ``data`` with the tokenizer's size; any of
            them may be missing or None.
        train_nll: mean training loss in nats before the last validation, if it is one.

    Yields:
        Code, severity and one line.
    """
    best, last = summary.get("best") or {}, summary.get("last") or {}
    low, end = best.get("metrics") or {}, last.get("metrics") or {}
    if low:
        yield from against_chance(low, summary)
    if low and summary.get("task", "language model") == "language model":
        yield from of_the_yardstick(summary)
        yield from against_counting(low, summary)
    if low and end and best["step"] < last["step"] and low["nll"] < end["nll"]:
        yield (
            "best-not-last",
            "note",
            f"the best validation loss, {low['nll']:.4f} nats, was at step "
            f"{best['step']:,}; the last is {end['nll']:.4f}. The best is kept",
        )
    if end and train_nll is not None and train_nll < MEMORISED * end["nll"]:
        yield (
            "memorising",
            "warning",
            f"the training loss, {train_nll:.3f} nats, is far below validation, "
            f"{end['nll']:.3f}: the model learns its text by heart. More text, dropout "
            f"or fewer steps",
        )


def against_chance(
    best: dict[str, float], summary: dict[str, Any]
) -> Iterator[Finding]:
    """Is the best loss any better than guessing?"""
    size = len(summary.get("labels") or ()) or (
        (summary.get("data") or {}).get("tokenizer") or {}
    ).get("vocab_size")
    start = ((summary.get("start") or {}).get("metrics") or {}).get("nll", -math.inf)
    if size and best["nll"] >= 0.99 * math.log(size):
        better = best["nll"] < start  # than weights from elsewhere, which were worse
        near = best["nll"] <= 1.01 * math.log(size)
        yield (
            "chance",
            "warning" if better else "error",
            f"the best validation loss, {best['nll']:.3f} nats, is "
            f"{'within 1 % of' if near else 'worse than'} guessing (ln {size} = "
            f"{math.log(size):.3f}): "
            + (
                f"its start was worse, {start:.3f}" if better else "nothing was learned"
            ),
        )


def of_the_yardstick(summary: dict[str, Any]) -> Iterator[Finding]:
    """Is the validation part long enough, and spelled out by the vocabulary?"""
    data = summary.get("data") or {}
    part = (data.get("splits") or {}).get("val") or {}
    if part.get("tokens", FEW_TARGETS) < FEW_TARGETS:
        yield (
            "few-targets",
            "warning",
            f"the validation part has {part['tokens']:,} tokens: its figures are "
            f"mostly chance; give more text or a larger --data.val_fraction",
        )
    if part.get("oov_share", 0.0) > UNKNOWN_SHARE:
        yield (
            "unknown-symbols",
            "warning",
            f"{part['oov_share']:.1%} of the validation tokens are not in the "
            f"vocabulary and cost no more than one <unk>: bits per character are too "
            f"low to stand beside a model or a compressor that spells them out",
        )


def against_counting(
    best: dict[str, float], summary: dict[str, Any]
) -> Iterator[Finding]:
    """Which n-gram models, counted in seconds, do as well?"""
    mine = best.get("bits_per_char", math.nan)
    above = {
        name: row["bits_per_char"]
        for name, row in (summary.get("floors") or {}).items()
        if "gram" in name and mine >= row["bits_per_char"]
    }
    if above and not summary.get("counting"):
        rows = ", ".join(f"{name} {bits:.3f}" for name, bits in above.items())
        yield (
            "above-floor",
            "warning",
            f"{mine:.3f} bits per character is no better than counting ({rows}): train "
            f"longer, or a larger model",
        )
