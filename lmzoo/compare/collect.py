"""A finished run folder becomes the record of a cell.

What the run wrote down is read; what it did not is measured by one more pass of its
best weights over the validation part, through the machinery that measured it before.
"""

import csv
import itertools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lmzoo import files, runs
from lmzoo.analysis.anatomy.parameters import count
from lmzoo.compare.recipes import recipe
from lmzoo.errors import UsageError, first_line
from lmzoo.metrics import IGNORED, LanguageModelMetrics
from lmzoo.models.base import LanguageModel
from lmzoo.registry import data_modules
from lmzoo.text.loader import EvalLoader

BLOCKS = 64  # stretches of the validation part, for paired tests
POSITIONS = 64  # of a fresh window of a model that sees less
LIBRARIES = ("torch", "lightning")  # another version may give other sums
EMBEDDINGS = ("token embedding", "position embedding")


def collect(folder: Path) -> dict[str, Any]:
    """Everything of a cell's record that its run folder knows.

    Args:
        folder: of a finished run.

    Raises:
        UsageError: the run is not finished, or its text changed since.
    """
    summary = _json(folder / "summary.json")
    manifest = runs.read_manifest(folder)
    if manifest.get("status") != "finished":
        raise UsageError(f"{folder}: the run is not finished")
    if not summary["best"]:
        raise UsageError(f"{folder}: no validation gave a finite loss")
    run, identity = runs.load(folder), manifest["identity"]
    costs = _costs(run.model, summary)
    rows, other = _rows(folder / "metrics.csv"), summary["other_protocol"]
    tokens_per_step = summary["tokens"] / max(1, summary["steps"])
    record = {
        **costs,
        "context_length": run.model.context_length,
        "protocol": summary["context"],
        "best": {"step": summary["best"]["step"], **summary["best"]["metrics"]},
        "last": {"step": summary["last"]["step"], **summary["last"]["metrics"]},
        "test": summary["test"],
        "other": {"protocol": other["context"], **other["metrics"]} if other else None,
        "curve": _curve(rows, tokens_per_step, costs["flops_per_token"]),
        "train_curve": [
            {"step": int(row["step"]), "nll": float(row["train/nll"])}
            for row in rows
            if row.get("train/nll")
        ],
        "sample": _sample(folder, summary["best"]["step"]),
        "stopped": summary["stopped"],
        "versions": {key: summary["versions"].get(key) for key in LIBRARIES},
        "recipe": recipe(identity, run.model.context_length),
        **measured(run.model, _data(folder, identity, manifest, run), identity),
    }
    return files.finite(record)


def _costs(model: LanguageModel, summary: dict[str, Any]) -> dict[str, Any]:
    """Size, arithmetic, time and memory; what a counting model has none of is None."""
    table = count(model)
    embedded = sum(row.parameters for row in table.rows if row.name in EMBEDDINGS)
    flops = None if summary["counting"] else table.training_flops
    return {
        "parameters": summary["parameters"],
        "parameters_without_embeddings": summary["parameters"] - embedded,
        "state_bytes": table.state.bytes() if table.state else None,
        "flops_per_token": flops,
        "training_flops": flops * summary["tokens"] if flops else None,
        "tokens": summary["tokens"],
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "tokens_per_second": summary["tokens_per_second"],
        "mfu": (summary.get("utilisation") or {}).get("mfu"),
        "hfu": (summary.get("utilisation") or {}).get("hfu"),
        "peak_memory": summary.get("peak_memory"),
    }


# ---- one more pass -------------------------------------------------------------------


class Recorder(LanguageModelMetrics):
    """The metrics of a pass, with the loss of every target kept."""

    def __init__(self) -> None:
        super().__init__()
        self.nll_of: list[Tensor] = []  # (B, T) each
        self.targets_of: list[Tensor] = []

    def update(self, nll: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add one batch, and keep it."""
        super().update(nll, logits, targets)
        self.nll_of.append(nll.detach().double().cpu())
        self.targets_of.append(targets.detach().cpu())

    def in_order(self, carried: bool) -> tuple[np.ndarray, np.ndarray]:
        """Loss and id of each target in the order of the text, each (n,).

        Windows follow one another. Carried rows are stretches of the text that are read
        side by side, so row by row is the text's order.
        """
        if carried:
            nll = torch.cat(self.nll_of, dim=1).flatten()  # (S, all chunks)
            targets = torch.cat(self.targets_of, dim=1).flatten()
        else:
            nll = torch.cat([part.flatten() for part in self.nll_of])
            targets = torch.cat([part.flatten() for part in self.targets_of])
        counted = targets != IGNORED
        return nll[counted].numpy(), targets[counted].numpy()

    def by_position(self) -> list[float]:
        """Mean loss at each position of the window, nats, (T,)."""
        nats = sum(part.sum(dim=0) for part in self.nll_of)
        counted = sum((part != IGNORED).sum(dim=0) for part in self.targets_of)
        return (nats / counted).tolist()  # type: ignore[operator]


def measured(
    model: LanguageModel, data: Any, identity: dict[str, Any]
) -> dict[str, Any]:
    """Losses by block of the validation part, and by position in a fresh window.

    Args:
        model: with its best weights.
        data: the run's data module.
        identity: the run's configuration, for its precision.

    Returns:
        ``blocks`` (nats), ``block_targets``, ``block_chars``, ``block_bytes``: sums
        over about 64 consecutive stretches; ``position_nll``: nats at 1..T.
    """
    if model.carry_state:
        data.protocol = "carried"
    trainer = _trainer(identity)
    recorder = _pass(trainer, model, datamodule=data)
    nll, targets = recorder.in_order(data.protocol == "carried")
    chars, sizes = (table.numpy() for table in data.lengths("val"))
    edges = np.linspace(0, len(nll), min(BLOCKS, len(nll)) + 1).astype(int)
    parts = [slice(a, b) for a, b in itertools.pairwise(edges.tolist())]
    if data.protocol == "carried" or model.window is not None:
        length = model.context_length
        if (
            model.window is not None
        ):  # nothing changes beyond it, and short ones are many
            length = min(length, max(POSITIONS, 2 * model.window))
        fresh = EvalLoader(data.val_tokens, length, data.eval_batch_size)
        recorder = _pass(_trainer(identity), model, dataloaders=fresh)
    return {
        "blocks": [float(nll[part].sum()) for part in parts],
        "block_targets": np.diff(edges).tolist(),
        "block_chars": [float(chars[targets[part]].sum()) for part in parts],
        "block_bytes": [float(sizes[targets[part]].sum()) for part in parts],
        "position_nll": recorder.by_position(),
    }


def _pass(trainer: Trainer, model: LanguageModel, **given: Any) -> Recorder:
    model.metrics = recorder = Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning on workers, as in every run
        try:
            trainer.validate(model, verbose=False, **given)
        except SystemExit as ended:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from ended
    return recorder


def _trainer(identity: dict[str, Any]) -> Trainer:
    """Measures as the run did: same precision, full passes, one device."""
    return Trainer(
        precision=identity.get("trainer.precision"),
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _data(
    folder: Path, identity: dict[str, Any], manifest: dict[str, Any], run: runs.Run
) -> Any:
    """The run's data module, from its configuration; the tokens are in the cache."""
    arguments = {
        key.removeprefix("data."): value
        for key, value in identity.items()
        if key.startswith("data.") and key != "data.name"
    }
    if "tokenizer_state" in arguments:  # it came with the weights; here is its digest
        arguments |= {"tokenizer_state": run.stored["tokenizer"]}
        arguments["extend_tokenizer"] = False  # it was, if it was to be
    data: Any = data_modules.load(identity["data.name"])(**arguments)
    now, before = data.describe()["tokens_sha256"], manifest["data"]["tokens_sha256"]
    if now != before:
        raise UsageError(f"{folder}: the text changed since the run was trained on it")
    return data


# ---- what the run wrote --------------------------------------------------------------


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {first_line(error)}") from error


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _curve(
    rows: list[dict[str, str]], tokens: float, flops: int | None
) -> list[dict[str, Any]]:
    """Every validation: step, and what was spent up to it.

    Seconds are summed from the speed of each stretch of steps; a validation inside a
    stretch takes its share of it.
    """
    ends, clock = [0], [0.0]
    for row in rows:
        if speed := float(row.get("tokens_per_second") or 0):
            step = int(row["step"])
            clock.append(clock[-1] + (step - ends[-1]) * tokens / speed)
            ends.append(step)
    points = {}
    for row in rows:
        if not row.get("val/nll"):
            continue
        step = int(row["step"])
        points[step] = {
            "step": step,
            "tokens": round(step * tokens),
            "seconds": float(np.interp(step, ends, clock)),
            "flops": flops * round(step * tokens) if flops else None,
            "nll": float(row["val/nll"]),
            **{
                name: float(row.get(f"val/{name}") or math.nan)
                for name in ("bits_per_char", "bits_per_byte", "accuracy")
            },
        }
    return list(points.values())


def _sample(folder: Path, step: int) -> str:
    """The text sampled with the best weights, or the last one there is."""
    files = sorted((folder / "samples").glob("step-*.txt"))
    best = [file for file in files if file.stem == f"step-{step:09d}"]
    chosen = (best or files)[-1:]
    return chosen[0].read_text("utf-8", "replace") if chosen else ""
