"""MODEL_CARD.md: data, results, intended use, limits, bias, device-hours and energy."""

import math
import platform
from typing import Any

import torch

from lmzoo import hub

WATTS_PER_CORE = 10.0  # of a busy CPU core, for the estimate in the card
WATTS_PER_GPU = 400.0


OF_TEXT = """\
For study: comparing architectures, looking inside, teaching. It continues text in the
manner of its training text and knows nothing else; it must not be used to state facts
or to decide about people. Text that it was not trained on, other languages above all,
is outside of what was measured.

## Bias

A model repeats what its text says, its views of people included. The text was not
filtered and the model was not aligned: read what it writes as a sample of the text."""
OF_LABELS = """\
For study: comparing ways to classify, looking inside, teaching. It gives one of its
labels to any text, however far from what it was trained on; the score says how sure it
is, not whether it is right. It must not be used to decide about people.

## Bias

It repeats the judgements of whoever labelled its texts, and what those texts say of
people: a name or a dialect can move a score."""
USE = {"language model": OF_TEXT, "encoder": OF_TEXT, "classifier": OF_LABELS}


def model_card(cli: Any, summary: dict[str, Any]) -> str:
    """MODEL_CARD.md: data, intended use, limits, bias, device-hours and energy."""
    data, best = summary["data"], summary["best"] or {"metrics": {}, "step": 0}
    metrics = best["metrics"]
    hours = summary["seconds"] / 3600
    gpu = cli.trainer.accelerator.__class__.__name__ == "CUDAAccelerator"
    units = cli.trainer.world_size if gpu else torch.get_num_threads()
    watts = (WATTS_PER_GPU if gpu else WATTS_PER_CORE) * units
    kind = "GPU" if gpu else "CPU thread"
    rows = "\n".join(
        f"| {name} | {split['characters']:,} | {split['tokens']:,} | "
        f"{split['oov_share']:.3%} |"
        for name, split in data["splits"].items()
    )
    return f"""# {summary["model"]} trained on {data["name"]}

A {summary["task"]} of {summary["parameters"]:,} parameters, trained by lmzoo \
{summary["versions"]["lmzoo"]} for {summary["steps"]:,} steps{_origin(cli)}. Stopped: \
{summary["stopped"]}.

## Data

{data["name"]}, SHA-256 `{data["sha256"]}`, {data["tokenizer"]["kind"]} tokenizer with \
{data["tokenizer"]["vocab_size"]} symbols.

| part | characters | tokens | unknown |
|---|---|---|---|
{rows}

## Results

Validation, best checkpoint (step {best["step"]:,}): \
{_figures(metrics, summary["task"])}; {summary["context"]}. It \
{summary["verdict"]}. {_test(summary)}

## Intended use and limits

{USE[summary["task"]]}
## Compute

{hours:.3f} hours on {units} {kind}(s) of {platform.machine()}; energy estimate \
{hours * watts / 1000:.4f} kWh = hours x {units} x \
{WATTS_PER_GPU if gpu else WATTS_PER_CORE:.0f} W / 1000, an assumed draw of a busy \
{kind}, not a measurement.
"""


def _origin(cli: Any) -> str:
    """What it started from, and whom it learnt from, if anything or anybody."""
    identity = cli.run_folder.identity
    said = (
        ("init_from", "starting from the weights of"),
        ("body_from", "its body starting from that of"),
        ("distill_from", "distilled from"),
    )
    return "".join(
        f", {words} {hub.named(identity[key])}"
        for key, words in said
        if key in identity
    )


def _test(summary: dict[str, Any]) -> str:
    test = summary["test"]
    if not test:
        return "There is no test part."
    return f"Test: {_figures(test, summary['task'])}."


def _figures(metrics: dict[str, float], task: str) -> str:
    if task == "classifier":
        return (
            f"accuracy {metrics.get('accuracy', math.nan):.4f}, F1 "
            f"{metrics.get('f1', math.nan):.4f}, AUROC "
            f"{metrics.get('auroc', math.nan):.4f}, "
            f"{metrics.get('nll', math.nan):.4f} nats per text, calibration error "
            f"{metrics.get('calibration_error', math.nan):.4f}"
        )
    return (
        f"{metrics.get('bits_per_char', math.nan):.4f} bits per character, "
        f"{metrics.get('nll', math.nan):.4f} nats per token, perplexity "
        f"{metrics.get('perplexity', math.nan):.3f}"
    )
