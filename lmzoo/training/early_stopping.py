"""Stop when validation no longer improves: by share or by amount, counted in checks.

Lightning's own callback has an absolute threshold only. On a loss that falls by 1 % a
check, an absolute threshold that is right at the start never stops at the end.
"""

import math
import sys
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lmzoo.errors import UsageError
from lmzoo.training.watcher import Watcher

HIGHER = ("accuracy", "accuracy_top5", "f1", "auroc")  # metrics that should rise


class EarlyStopping(Watcher):
    """Stop after ``patience`` validation checks in a row without an improvement.

    A check improves when its value beats the reference by *more* than the threshold;
    only then does the reference move. So slow progress adds up: 3 % a check against a
    threshold of 5 % improves at every second check and never stops with a patience of
    2 or more. The reference is therefore not the best value (that is the best
    checkpoint's), it is the value at the last improvement that counted.

    The defaults stop only a run that got nowhere: five checks without any new minimum.
    ``min_relative_improvement=0.05`` with ``patience=5`` stops a run that needs more
    than five checks for its next 5 %. A value that is not finite stops at once.

    Args:
        monitor: logged metric that is looked at after every full validation pass.
        patience: checks in a row without improvement after which training stops.
        min_relative_improvement: share of the reference by which a check must beat it
            (0.05 is 5 %); 0 means any new minimum.
        min_delta: the same as an amount in the metric's own unit; excludes the share.
        mode: "min" where lower is better, "max" for accuracies.
        enabled: False switches the whole callback off.

    Attributes:
        reason: why training was stopped, for the summary; "" while it was not.

    Raises:
        ValueError: a threshold or patience out of range, or both thresholds given.
    """

    def __init__(
        self,
        monitor: str = "val/nll",
        patience: int = 5,
        min_relative_improvement: float = 0.0,
        min_delta: float | None = None,
        mode: Literal["min", "max"] = "min",
        enabled: bool = True,
    ) -> None:
        super().__init__()
        if patience < 1:
            raise ValueError(f"patience must be at least 1 check, given {patience}")
        if not 0 <= min_relative_improvement < 1:
            raise ValueError(
                f"min_relative_improvement must be a share in [0, 1), given "
                f"{min_relative_improvement} (5 % is 0.05)"
            )
        if min_delta is not None and not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta must be 0 or more, given {min_delta}")
        if min_delta is not None and min_relative_improvement:
            raise ValueError(
                f"give either min_relative_improvement or min_delta, not both: given "
                f"{min_relative_improvement} and {min_delta}"
            )
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', given {mode!r}")
        better = "max" if monitor.endswith(HIGHER) else "min"
        if mode != better and monitor.startswith("val/"):
            raise ValueError(
                f"--early_stopping.monitor {monitor} with mode {mode!r} would stop at "
                f"the wrong end; give mode {better!r}"
            )
        self.monitor = monitor
        self.patience = patience
        self.min_relative_improvement = min_relative_improvement
        self.min_delta = min_delta
        self.mode = mode
        self.enabled = enabled
        self.reason = ""
        self.reference: float | None = None
        self.reference_step = 0
        self.wait_count = 0
        self.failed = ""  # the reason, where no patience helps
        self._checked_step: int | None = None

    # ---- the rule ---------------------------------------------------------------

    def check(self, value: float, step: int) -> bool:
        """Take one validation result; True when training should stop."""
        if not math.isfinite(value):
            self.failed = self.reason = f"{self.monitor} is {value} at step {step}"
            return True
        if self._improves(value):
            self.reference, self.reference_step, self.wait_count = value, step, 0
            return False
        self.wait_count += 1
        return self._exhausted()

    def _improves(self, value: float) -> bool:
        if self.reference is None:
            return True
        drop = self.reference - value if self.mode == "min" else value - self.reference
        share = self.min_relative_improvement * abs(self.reference)
        return drop > (share if self.min_delta is None else self.min_delta)

    def _exhausted(self) -> bool:
        if self.failed:
            self.reason = self.failed
            return True
        if self.wait_count < self.patience or self.reference is None:
            return False
        by = f" by more than {self.min_relative_improvement:.3g} of it"
        if self.min_delta is not None:
            by = f" by more than {self.min_delta:g}"
        elif not self.min_relative_improvement:
            by = ""
        checks = "check" if self.wait_count == 1 else "checks in a row"
        self.reason = (
            f"{self.monitor} did not beat {self.reference:.4f} of step "
            f"{self.reference_step}{by} in {self.wait_count} {checks}"
        )
        return True

    # ---- where Lightning calls it -------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was cut off right after its last check stops where it stood."""
        del pl_module
        if self.enabled and self._exhausted():
            trainer.should_stop = True
            if trainer.is_global_zero:
                hint = "a higher --early_stopping.patience"
                hint = "--early_stopping.enabled false" if self.failed else hint
                print(f"{self.reason}; {hint} trains on", file=sys.stderr)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check once per step; every process takes the same decision."""
        del pl_module
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not self.enabled or not fitting or getattr(trainer, "fast_dev_run", False):
            return
        if trainer.global_step == self._checked_step:
            return
        self._checked_step = trainer.global_step
        stop = self.check(self._value(trainer), trainer.global_step)
        stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        trainer.should_stop = trainer.should_stop or stop

    def _value(self, trainer: Trainer) -> float:
        logged = trainer.callback_metrics
        if self.monitor not in logged:
            names = ", ".join(sorted(logged)) or "none"
            raise UsageError(
                f"early_stopping.monitor {self.monitor!r} is not logged by validation; "
                f"logged are: {names}"
            )
        return float(torch.as_tensor(logged[self.monitor]).squeeze())

    # ---- resume: progress is stored, settings are the caller's ----------------------

    @property
    def state_key(self) -> str:
        """Progress belongs to one metric; another metric starts afresh."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def state_dict(self) -> dict[str, Any]:
        """Progress as plain values; patience and thresholds are not part of it."""
        return {
            "reference": self.reference,
            "reference_step": self.reference_step,
            "wait_count": self.wait_count,
            "checked_step": self._checked_step,
            "failed": self.failed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting where the stored run stood, under this run's settings.

        Raises:
            UsageError: what is stored are no numbers.
        """
        for key in ("reference", "reference_step", "wait_count", "checked_step"):
            if not isinstance(state_dict[key], int | float | None):
                raise UsageError(
                    f"the checkpoint's {key} of early stopping is {state_dict[key]!r}, "
                    f"which lmzoo never wrote; it was changed, or is damaged"
                )
        self.reference = state_dict["reference"]
        self.reference_step = state_dict["reference_step"]
        self.wait_count = state_dict["wait_count"]
        self._checked_step = state_dict["checked_step"]
        self.failed = str(state_dict.get("failed", ""))  # earlier versions: none
        if self.enabled:
            self._exhausted()  # the reason, where no step is left to be stopped at
