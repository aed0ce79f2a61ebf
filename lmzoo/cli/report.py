"""What a person reads before and after a run, and what is written down of it."""

import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from lmzoo import files, runs
from lmzoo.cli import terminal
from lmzoo.cli.card import model_card
from lmzoo.errors import UsageError
from lmzoo.report.words import plural
from lmzoo.training.baselines import MISSING, baselines, has_library
from lmzoo.training.budget import missed, training_flops
from lmzoo.training.checkpoints import versions
from lmzoo.training.floors import floors
from lmzoo.training.utilisation import plain, utilisation

LEAST = 5e-4  # difference that is said: half of what the table's last digit shows


def announce(cli: Any) -> None:
    """Model, text and folder, before the first step."""
    if not cli.trainer.is_global_zero:
        return
    model, data, folder = cli.model, cli.datamodule, cli.run_folder
    described = data.describe()
    splits = described["splits"]
    terminal.say(*cli.notes, *folder.notes)
    terminal.say(
        f"model      {folder.model}, {count(model):,} parameters, "
        f"context {model.context_length}",
        f"text       {described['name']}, "
        f"{sum(s['characters'] for s in splits.values()):,} characters; "
        f"{_amounts(splits)}; {described['tokenizer']['kind']} vocabulary of "
        f"{data.vocab_size}",
        f"run        {folder.path}",
    )
    if folder.resume_from is not None:
        terminal.say(f"resuming   after step {folder.resumed_step:,}")
        before = folder.manifest.get("max_steps", folder.max_steps)
        if before != folder.max_steps:
            terminal.say(
                f"note: the steps so far followed a schedule of {before:,} steps, the "
                f"rest one of {folder.max_steps:,}; --fresh trains in one piece"
            )


def _amounts(splits: dict[str, Any]) -> str:
    """Tokens of each part; of labelled data its texts, and how many for each label."""
    if all("texts" not in part for part in splits.values()):
        return "tokens " + ", ".join(
            f"{name} {part['tokens']:,}" for name, part in splits.items()
        )
    labels = ", ".join(f"{k} {v:,}" for k, v in splits["train"]["labels"].items())
    told = [f"{name} {part['texts']:,}" for name, part in splits.items()]
    return f"texts {told[0]} ({labels}), {', '.join(told[1:])}"


def finish(cli: Any) -> None:
    """Measure last and best, restore the best, write and print everything."""
    trainer, folder, checkpoints = cli.trainer, cli.run_folder, cli.checkpoints
    counting, memory = cli.model.counting, peak_memory()  # before the closing passes
    if has(cli.datamodule, "val"):
        _final_validation(cli)
    _restore_best(cli)
    summary = {
        "model": folder.model,
        "task": cli.model.task,
        "parameters": count(cli.model),
        "trainable": trainable(cli.model),
        "lora_rank": cli.model.arguments.get("lora_rank") or None,
        "origins": [origin._asdict() for origin in folder.origins],
        "run": str(folder.path),
        "counting": counting,
        "steps": checkpoints.last["step"] if checkpoints.last else 0,
        "stopped": stopped(cli),
        "seconds": checkpoints.seconds,
        "tokens": cli.telemetry.tokens,
        "training_flops": training_flops(cli.model, cli.telemetry.tokens),
        "tokens_per_second": cli.telemetry.tokens / max(cli.telemetry.seconds, 1e-9),
        "peak_memory": memory,
        "context": context_rule(cli),
        "start": checkpoints.start,
        "best": checkpoints.best,
        "last": checkpoints.last,
        "other_protocol": _other_protocol(cli),
        "test": _pass(cli, "test") if has(cli.datamodule, "test") else None,
        **_of_labels(cli),
    }
    if not trainer.is_global_zero:
        return
    summary["utilisation"] = _utilisation(cli)
    summary["data"] = cli.datamodule.describe()
    summary["floors"] = _floors(cli)
    summary["verdict"] = verdict(summary)
    cli.health.conclude(summary)
    summary["health"] = cli.health.findings
    summary["budget"] = given = folder.budget or {}
    done = summary["steps"] == cli.trainer.max_steps
    if line := missed(given, summary["seconds"], done):
        cli.notes.append(line)
        terminal.say(f"note: {line}")
    cli.notes += cli.guard.notes
    summary["notes"] = list(cli.notes)
    summary["versions"] = versions()
    _log_best(cli, summary)
    files.write_json(folder.path / "summary.json", summary)
    card = model_card(cli, summary)
    files.write_atomically(folder.path / "MODEL_CARD.md", card.encode())
    whole = summary["stopped"].startswith("by the Trainer")
    status = "running" if whole else "finished"
    checkpoints.write_index(status=status, stopped=summary["stopped"])
    own_text = bool(folder.identity.get("data.path"))
    terminal.show(summary, cli.plan.request.plugins, own_text)


def _restore_best(cli: Any) -> None:
    """Put the best weights into the model; the last ones where they are damaged."""
    checkpoints = cli.checkpoints
    if checkpoints.best is None:
        return
    file = cli.run_folder.path / "checkpoints" / checkpoints.best["file"]
    try:
        state = runs.read_checkpoint(file)["state_dict"]
    except UsageError as error:
        cli.notes.append(f"the best weights are lost, the last are kept: {error}")
        terminal.say(f"note: {cli.notes[-1]}")
        checkpoints.best = checkpoints.last
    else:
        cli.model.load_state_dict(state)


def measured(cli: Any, split: str) -> None:
    """The figures of ``lmzoo validate`` or ``lmzoo test``."""
    if not cli.trainer.is_global_zero:
        return
    if not has(cli.datamodule, split):
        raise UsageError(f"this text has no {split} part; --data.{split}_fraction 0.1")
    figures = _figures(cli.trainer, split)
    described = cli.datamodule.describe()
    part = described["splits"][split]
    task = cli.model.task
    table = terminal.table(task)
    table.add_row(f"{split}", *terminal.cells(figures, task))
    console = Console(highlight=False)
    console.print(table)
    if task == "classifier":
        counts = {"split": split, "counts": cli.model.metrics.confusion()}
        console.print(terminal.confusion(cli.model.labels, counts))
    terminal.say(
        f"text       {described['name']}, {part['characters']:,} characters, "
        f"{part['tokens']:,} tokens, {part['oov_share']:.3%} unknown",
        f"protocol   {context_rule(cli)}",
        *(note for note in cli.notes if _concerns(note, split)),
        *_changed_text(cli, described),
        file=sys.stdout,
    )


def _concerns(note: str, split: str) -> bool:
    """Not what was cut from another part of the text."""
    part = note.partition(":")[0]
    return part == split or part not in ("train", "val", "test")


def _changed_text(cli: Any, described: dict[str, Any]) -> list[str]:
    """A warning where the run's own text is no longer the one it was trained on."""
    stored = (cli.plan.run.stored.get("data") or {}).get("described") or {}
    before, now = stored.get("tokens_sha256"), described.get("tokens_sha256")
    if cli.plan.request.typed("data.") or before in (None, now):
        return []
    return [
        "warning    this is not the text that the run was trained on, although it is "
        "found under the same name: what was trained on may be in any part of it"
    ]


# ---- figures ------------------------------------------------------------------------


def count(model: Any) -> int:
    """Parameters, shared ones once; entries of its tables for a counting model."""
    if model.counting:
        return sum(b.numel() for b in model.buffers())
    return sum(p.numel() for p in model.parameters())


def trainable(model: Any) -> int:
    """Parameters that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def peak_memory() -> int | None:
    """Most bytes of memory this process has held; None where nothing tells.

    Linux's own high-water mark is asked first: getrusage's also counts what the parent
    held when it forked.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
        return int(found[1]) * 1024
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def has(data: Any, split: str) -> bool:
    """Whether a split holds anything to predict."""
    return bool(data.has(split))


def stopped(cli: Any) -> str:
    """Why training ended, in words."""
    reason = getattr(cli.early_stopping, "reason", "")
    if reason:
        return reason
    if cli.model.counting:
        return "counted once"
    if cli.checkpoints.last and cli.checkpoints.last["step"] < cli.trainer.max_steps:
        return f"by the Trainer after {cli.checkpoints.last['step']:,} steps"
    return f"all {cli.trainer.max_steps:,} steps done"


def context_rule(cli: Any) -> str:
    """Under which context the figures were taken."""
    data, model = cli.datamodule, cli.model
    if model.task == "classifier":
        return data.context_rule
    if model.task == "encoder":
        return (
            f"tokens hidden in windows of {model.context_length}: figures of those "
            f"alone, comparable with no other model's"
        )
    if data.protocol == "carried":
        return f"state carried along {data.streams} streams of the text"
    if model.window is not None:
        return f"every target sees its full window of {plural(model.window, 'token')}"
    if data.stride is not None:
        return (
            f"windows of {model.context_length} tokens, {data.stride} apart: every "
            f"target sees at least {model.context_length - data.stride + 1} tokens"
        )
    return (
        f"fresh windows of {model.context_length} tokens, each target once "
        f"(on average {(model.context_length + 1) / 2:.0f} tokens seen)"
    )


def _floors(cli: Any) -> dict[str, Any]:
    """What the run is measured against; nothing measures hidden tokens."""
    if cli.model.task == "encoder" or not has(cli.datamodule, "val"):
        return {}
    if cli.model.task == "classifier":
        return baselines(cli.datamodule)
    return floors(cli.datamodule)


def _of_labels(cli: Any) -> dict[str, Any]:
    """What a classifier's summary says besides: labels, and the last confusions."""
    if cli.model.task != "classifier":
        return {}
    split = "test" if has(cli.datamodule, "test") else "val"
    if not has_library():
        cli.notes.append(MISSING)
    counts = cli.model.metrics.confusion() if has(cli.datamodule, split) else None
    return {
        "labels": cli.model.labels,
        "confusion": counts and {"split": split, "counts": counts},
    }


def verdict(summary: dict[str, Any]) -> str:
    """In words: which floors does the run beat, which not, and what of its start?"""
    start, best, said = summary.get("start"), summary["best"], []
    if start and best:
        said.append(_beside_start(start, best, summary.get("task")))
    return "; ".join([*said, _beside_floors(summary)])


def _yardstick(task: str | None) -> tuple[str, str, int]:
    """The figure that is compared, its unit, and -1 where more is better."""
    if task == "classifier":
        return "accuracy", "of accuracy", -1
    return "bits_per_char", "bits per character", 1


def _beside_floors(summary: dict[str, Any]) -> str:
    figure, unit, sign = _yardstick(summary.get("task"))
    rows = {name: sign * row[figure] for name, row in summary["floors"].items()}
    if summary.get("task") == "encoder":
        return "is measured on hidden tokens, for which there is no floor"
    if not rows:
        return "no validation part, so nothing to compare with the floors"
    if not summary["best"]:
        return "no validation gave a finite loss, so there is nothing to compare"
    mine = sign * summary["best"]["metrics"][figure]
    beaten = {name: bits - mine for name, bits in rows.items() if bits - mine > LEAST}
    above = {name: mine - bits for name, bits in rows.items() if mine - bits > LEAST}
    said = []
    if beaten:
        best = min(beaten, key=lambda name: beaten[name])
        said.append(f"beats {best} by {beaten[best]:.3f} {unit}")
    if above:
        names = ", ".join(f"{name} ({gap:.3f} above)" for name, gap in above.items())
        said.append(f"does NOT beat {names}")
    return "; ".join(said) or "equals its floors"


def _beside_start(start: dict[str, Any], best: dict[str, Any], task: str | None) -> str:
    """What training made of the weights that it was given."""
    figure, unit, sign = _yardstick(task)
    gap = start["metrics"][figure] - best["metrics"][figure]
    if sign * gap > LEAST:
        return f"is {abs(gap):.3f} {unit} {'below' if sign > 0 else 'above'} its start"
    if sign * gap < -LEAST:
        return f"is WORSE than its start, by {abs(gap):.3f} {unit}"
    return "equals its start"


def _final_validation(cli: Any) -> None:
    """The last weights are always measured, also when no validation fell on them."""
    checkpoints, step = cli.checkpoints, cli.checkpoints.last["step"]
    if checkpoints.history and checkpoints.history[-1]["step"] == step:
        checkpoints.last["metrics"] = _without_step(checkpoints.history[-1])
        return
    figures = _pass(cli, "val")
    for logger in cli.trainer.loggers:
        logger.log_metrics({f"val/{k}": v for k, v in figures.items()}, step=step)
    checkpoints.last["metrics"] = figures
    checkpoints.history.append({"step": step, **figures})
    best = checkpoints.best
    if best is None or figures["nll"] < best["metrics"]["nll"]:
        checkpoints.best = checkpoints.last


def _other_protocol(cli: Any) -> dict[str, Any] | None:
    """A recurrent model is measured both with fresh and with carried state."""
    if not cli.model.unbounded or not has(cli.datamodule, "val"):
        return None
    data, mine = cli.datamodule, cli.datamodule.protocol
    data.protocol = "windows" if mine == "carried" else "carried"
    result = {"context": context_rule(cli), "metrics": _pass(cli, "val")}
    data.protocol = mine
    return result


def _pass(cli: Any, split: str) -> dict[str, float]:
    """A closing pass; it is no point of the curve, so no logger hears of it."""
    run = cli.trainer.validate if split == "val" else cli.trainer.test
    loggers, cli.trainer.loggers = cli.trainer.loggers, []
    run(cli.model, datamodule=cli.datamodule, verbose=False)
    cli.trainer.loggers = loggers
    return _figures(cli.trainer, split)


def _figures(trainer: Any, split: str) -> dict[str, float]:
    return {
        name.removeprefix(f"{split}/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(f"{split}/")
    }


def _without_step(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "step"}


def _utilisation(cli: Any) -> dict[str, Any] | None:
    """MFU and HFU of the whole run, evaluation excluded."""
    if cli.model.counting:
        return None
    found = utilisation(
        cli.model,
        cli.telemetry.tokens / max(cli.telemetry.seconds, 1e-9),
        precision=str(cli.trainer.precision),
        devices=cli.trainer.world_size,
        seconds=cli.telemetry.seconds,
    )
    return found and {**found}


def _log_best(cli: Any, summary: dict[str, Any]) -> None:
    """Hyper-parameters with the best value and MFU, for TensorBoard's table."""
    best = (summary["best"] or {}).get("metrics", {})
    values = {
        f"best/{k}": v
        for k, v in best.items()
        if k in terminal.FIGURES[summary["task"]]
    } | plain(summary["utilisation"])
    for logger in cli.trainer.loggers:
        logger.log_hyperparams(
            {k: v for k, v in cli.run_folder.identity.items() if v is not None}, values
        )
        logger.finalize("success")
