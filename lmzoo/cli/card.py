"""MODEL_CARD.md: data, results, intended use, limits, bias, device-hours and energy."""

import math
import platform
from typing import Any

import torch

from lmzoo.cli.origins import title

WATTS_PER_CORE = 10.0  # of a busy CPU core, for the estimate in the card
WATTS_PER_GPU = 400.0


STUDY = {
    "language model": "For study: comparing architectures, looking inside, teaching.",
    "encoder": "For study: comparing architectures, looking inside, teaching.",
    "classifier": "For study: comparing ways to classify, looking inside, teaching.",
}
DOES = {
    "language model": "It continues text in the manner of its training text.",
    "encoder": (
        "It guesses hidden tokens and gives each token a vector; it continues no text. "
        "Its use is as the body of a classifier."
    ),
    "classifier": (
        "It gives one of its labels to any text, however far from what it was trained "
        "on; the score says how sure it is, not whether it is right."
    ),
}
UNMEASURED = (
    "Text that it was not trained on, other languages above all, is outside of what "
    "was measured."
)
OF_TEXT = (
    "A model repeats what its text says, its views of people included. The text was "
    "not filtered by lmzoo: read what the model gives as a sample of it."
)
OF_LABELS = (
    "It repeats the judgements of whoever labelled its texts, and what those texts say "
    "of people: a name or a dialect can move a score."
)
BIAS = {"language model": OF_TEXT, "encoder": OF_TEXT, "classifier": OF_LABELS}


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
    return f"""# {_title(summary)}

A {summary["task"]} of {summary["parameters"]:,} parameters, trained by lmzoo \
{summary["versions"]["lmzoo"]} for {summary["steps"]:,} steps. Stopped: \
{" ".join([summary["stopped"] + ".", *_parts(summary)])}

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

{_use(summary)}

## Bias

{_bias(summary)}

## Compute

{hours:.3f} hours on {units} {kind}(s) of {platform.machine()}; energy estimate \
{hours * watts / 1000:.4f} kWh = hours x {units} x \
{WATTS_PER_GPU if gpu else WATTS_PER_CORE:.0f} W / 1000, an assumed draw of a busy \
{kind}, not a measurement.
"""


def _title(summary: dict[str, Any]) -> str:
    uses = {row["use"] for row in summary["origins"]}
    how = "fine-tuned" if "weights" in uses else "trained"
    return f"{title({**summary, 'lora_rank': None})} {how} on {summary['data']['name']}"


def _parts(summary: dict[str, Any]) -> list[str]:
    """What it started from, what was trained of it, and what stayed."""
    said = [_started(row) for row in summary["origins"]]
    total, trained = summary["parameters"], summary["trainable"]
    if rank := summary["lora_rank"]:
        said.append(f"Low-rank adapters (LoRA) of rank {rank} were trained.")
    if not summary["counting"] and trained < total:
        said.append(
            f"Of its parameters {trained:,} ({trained / total:.1%}) were trained; the "
            f"others stayed as they were."
        )
    return said


def _started(origin: dict[str, Any]) -> str:
    name, text = origin["name"], origin["text"]
    known = f", which was trained on {text}" if text else ""
    if origin["use"] == "teacher":
        return f"It learned from the answers of {name} as well{known}."
    what = "its body" if origin["use"] == "body" else "it"
    return f"The weights that {what} started from are those of {name}{known}."


def _use(summary: dict[str, Any]) -> str:
    """Intended use, and what the model is not to be trusted with."""
    task, rows = summary["task"], summary["origins"]
    said = [STUDY[task], DOES[task]]
    if not rows and task == "language model":
        said.append("It knows nothing else.")
    said += [
        f"What it has from {row['name']} goes beyond that text, and is not measured "
        f"here."
        for row in rows
    ]
    said.append("It must not be used to state facts or to decide about people.")
    return " ".join([*said, UNMEASURED])


def _bias(summary: dict[str, Any]) -> str:
    """What it repeats, and of whose text and treatment nothing is known."""
    said = [BIAS[summary["task"]]]
    if not summary["origins"] and summary["task"] == "language model":
        said.append("The model was not aligned.")
    for row in summary["origins"]:
        if row["text"]:
            said.append(
                f"It may repeat what {row['name']} had from {row['text']}, too."
            )
        else:
            said.append(
                f"Which text {row['name']} was trained on, how that was filtered and "
                f"whether the model was aligned is not known here; what it learned "
                f"there, its views of people included, may show."
            )
    return " ".join(said)


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
