"""Defaults of the Trainer, and the checks that need no model and no data."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from lmzoo.cli.arguments import Request
from lmzoo.cli.report import has
from lmzoo.errors import UsageError
from lmzoo.models.layers import emulated
from lmzoo.text.sizes import BatchSizes
from lmzoo.training.budget import KINDS
from lmzoo.training.early_stopping import EarlyStopping
from lmzoo.training.optimizers import needs_whole_matrices
from lmzoo.training.utilisation import product_type

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_steps": 2000,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 20,
    "gradient_clip_val": 1.0,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}
WHOLE_PASSES = {  # what changes nothing; Lightning's 1 is one batch, its 1.0 all
    "limit_train_batches": ("None", "1.0"),
    "limit_val_batches": ("None", "1.0", "0", "0.0"),  # 0: settle_validation answers
    "limit_test_batches": ("None", "1.0"),
    "overfit_batches": ("None", "0.0"),
}
SHARDED = "fsdp2"
STRATEGIES = (  # whose runs every other command reads
    "auto",
    "single_device",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
    SHARDED,
)
SPARSE = 100  # optimizer steps between validations, at least, unless typed


def settle(config: Namespace, command: str, figures: Sequence[str]) -> None:
    """Fill in what depends on the machine, refuse what cannot be meant.

    Args:
        config: of the command.
        command: fit, validate or test.
        figures: what a validation of this model measures.

    Raises:
        UsageError: a run without steps, or epochs where the data has no end.
    """
    rate = (plain(config.optimizer).get("init_args") or {}).get("lr")
    if isinstance(rate, int | float) and not 0 < rate < float("inf"):
        raise UsageError(f"--optimizer.lr {rate}: give a rate above 0")
    _settle_machine(config)
    watched = config.early_stopping.monitor
    if watched.removeprefix("val/") not in figures:
        raise UsageError(
            f"--early_stopping.monitor {watched}: validation gives "
            + ", ".join(f"val/{name}" for name in figures)
        )
    if command == "fit":
        _settle_length(config)


def _settle_machine(config: Namespace) -> None:
    trainer = config.trainer
    if trainer.precision is None:
        trainer.precision = default_precision(trainer.accelerator)
    if str(trainer.precision).startswith("16") and config.optimizer:
        arguments = config.optimizer.init_args
        if arguments.get("fused"):  # would be clipped before the scaler has unscaled
            arguments["fused"] = False
    if trainer.logger is not None:
        raise UsageError(
            "--trainer.logger: a run writes TensorBoard events and metrics.csv into "
            "its folder; leave it out"
        )
    for key, whole in WHOLE_PASSES.items():
        if str(trainer[key]) not in whole:
            raise UsageError(
                f"--trainer.{key} {trainer[key]}: every figure is of a full pass; "
                f"--data.max_train_tokens and --data.max_val_tokens shorten the text"
            )
    if trainer.check_val_every_n_epoch is not None:
        raise UsageError(
            "--trainer.check_val_every_n_epoch: windows are drawn without end, so "
            "validations are counted in steps: --trainer.val_check_interval"
        )
    if trainer.fast_dev_run:
        raise UsageError(
            "--trainer.fast_dev_run: a run folder is no place for a rehearsal; "
            "--trainer.max_steps 2 does as little"
        )
    _settle_strategy(trainer.strategy)
    if trainer.accelerator == "cpu" or not torch.accelerator.is_available():
        _require_cores(str(plain(trainer.devices)).strip())


def _require_cores(devices: str) -> None:
    """On a CPU a device is a process: as many as cores, or as a launcher started."""
    cores = os.cpu_count() or 1
    number = int(devices) if devices.isdecimal() else 0
    known = launched() or number <= cores
    if devices != "auto" and not (number >= 1 and known):
        raise UsageError(f"--trainer.devices {devices}: this machine has 1 to {cores}")


def _settle_strategy(strategy: Any) -> None:
    """Strategies that start no processes of their own kind, and save one whole file."""
    given = plain(strategy)
    given = given["class_path"] if isinstance(given, dict) else str(given)
    if given in STRATEGIES or given.endswith(".DDPStrategy"):
        return
    hint = f"{SHARDED} shards the weights" if "fsdp" in given else "give ddp"
    raise UsageError(
        f"--trainer.strategy {given}: its processes or its files are none that a run "
        f"folder could be kept of; {hint} (one of {', '.join(STRATEGIES)})"
    )


def launched() -> bool:
    """Whether torchrun started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _settle_length(config: Namespace) -> None:
    trainer, budget = config.trainer, config.budget
    given = [kind for kind in KINDS if budget[kind] is not None]
    for kind in given:
        if not 0 < budget[kind] < float("inf"):
            raise UsageError(f"--budget.{kind} {budget[kind]}: give a number above 0")
    if len(given) > 1:
        raise UsageError(
            " and ".join(f"--budget.{kind}" for kind in given) + ": give one of them"
        )
    if trainer.accumulate_grad_batches < 1:
        raise UsageError(
            f"--trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: "
            f"give 1 or more"
        )
    if trainer.max_steps is None or trainer.max_steps < 1:
        raise UsageError(
            f"--trainer.max_steps {trainer.max_steps}: give a number of optimizer "
            f"steps, 1 or more"
        )
    if trainer.gradient_clip_val is not None and not trainer.gradient_clip_val >= 0:
        raise UsageError(
            f"--trainer.gradient_clip_val {trainer.gradient_clip_val}: give a norm "
            f"above 0, or 0 for no clipping"
        )
    if trainer.max_epochs not in (None, -1):
        raise UsageError(
            "--trainer.max_epochs: windows are drawn without end, so lengths are "
            "given in steps: --trainer.max_steps"
        )
    trainer.max_epochs = -1


def require_warmup(config: Namespace, request: Request, steps: int) -> None:
    """Refuse a typed warm-up that the run would never get through.

    A recipe's own warm-up is shortened instead.
    """
    warmup = (plain(config.get("lr_scheduler")) or {}).get("init_args", {})
    warmup = warmup.get("warmup_steps", 0)
    if request.typed("lr_scheduler.warmup_steps") and warmup >= steps:
        raise UsageError(
            f"--lr_scheduler.warmup_steps {warmup}: the run has {steps} steps; give "
            f"fewer than that"
        )


def require_devices(
    model: Any, data: Any, processes: int, seconds: float | None = None
) -> None:
    """Refuse what several processes cannot do, before there are several.

    Args:
        model: a member.
        data: its data module.
        processes: of the run.
        seconds: a budget of time.

    Raises:
        UsageError: a counting model, a batch that does not divide, or a budget that
            each process would measure for itself.
    """
    if processes == 1:
        return
    if seconds is not None:
        raise UsageError(
            f"--budget.seconds {seconds:g}: each of {processes} processes would come "
            f"to another number of steps; give --budget.tokens or --trainer.max_steps"
        )
    if model.counting:
        raise UsageError(
            f"{type(model).__name__} counts in one process, and {processes} were "
            f"asked for; give --trainer.devices 1"
        )
    if size := getattr(data, "batch_size", None):
        schedule = getattr(data, "batch_size_schedule", None)
        BatchSizes(size, schedule).require_multiples(processes)


def require_shardable(model: Any, config: Namespace) -> None:
    """Refuse what cannot work on sharded weights.

    Raises:
        UsageError: no stack of blocks, an optimizer that looks at whole matrices, or an
            average of weights.
    """
    given = f"--trainer.strategy {SHARDED}"
    if not model.stack():
        raise UsageError(
            f"{given}: {type(model).__name__} is no stack of blocks to shard one by "
            f"one; give --trainer.strategy ddp"
        )
    optimizer = (plain(config.optimizer) or {}).get("class_path")
    if optimizer and needs_whole_matrices(optimizer):
        raise UsageError(
            f"{given}: {optimizer} looks at whole matrices, of which each process has "
            f"a shard; give --optimizer adamw"
        )
    if config.get("ema.decay") is not None:
        raise UsageError(f"{given}: --ema.decay averages whole weights; leave it out")


def default_precision(accelerator: str) -> str:
    """bf16-mixed on a GPU that has it, else 16-mixed; 32-true on the CPU."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
    return "32-true"


def precision_notes(trainer: Trainer) -> list[str]:
    """A line for the user where the machine has no arithmetic of the precision."""
    precision, device = str(trainer.precision), trainer.strategy.root_device
    if not emulated(device, product_type(precision)):
        return []
    return [
        f"--trainer.precision {precision}: this processor has no arithmetic "
        f"for bfloat16, so a step takes many times as long as in 32-true"
    ]


def settle_validation(
    trainer: dict[str, Any], data: Any, early_stopping: EarlyStopping
) -> list[str]:
    """Count the validation interval in optimizer steps, ten to a run by default.

    Returns:
        A line for the user where there is nothing to validate on.

    Raises:
        UsageError: an interval under which validation would never run.
    """
    if not has(data, "val"):
        early_stopping.enabled = False
        trainer["limit_val_batches"] = 0
        return ["no validation part: early stopping is off, the last weights are kept"]
    if trainer["limit_val_batches"] == 0:
        raise UsageError(
            "--trainer.limit_val_batches 0: validation would never run; "
            "--data.val_fraction 0 trains without a validation part"
        )
    every, total = trainer["val_check_interval"], trainer["max_steps"]
    if every is None:
        every = min(total, max(SPARSE, total // 10))
    if not isinstance(every, int):
        raise UsageError(
            f"--trainer.val_check_interval {every}: give a number of optimizer steps"
        )
    if not 1 <= every <= total:
        raise UsageError(
            f"--trainer.val_check_interval {every}: validation would never run in "
            f"{total} steps; give 1 to {total}"
        )
    trainer["val_check_interval"] = every * (trainer["accumulate_grad_batches"] or 1)
    return []


def plain(spec: Any) -> Any:
    """A namespace as nested dictionaries."""
    return spec.as_dict() if isinstance(spec, Namespace) else spec
