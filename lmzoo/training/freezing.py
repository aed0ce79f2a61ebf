"""Which parts of a model stay as they are, which begin to train later, at what rate.

Frozen parameters are in no group of the optimizer, so it keeps no state for them and
decays none of them; modules of which nothing is trained stay in evaluation mode. All of
it is a function of the model, the options and the step, so a resumed run is exact.
"""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from torch import nn
from torch.optim import Optimizer

from lmzoo.errors import UsageError
from lmzoo.training.parts import Parts, fitting


class Freezing(BaseFinetuning):
    """Freeze parts of any model, and wake them by degrees if asked.

    Args:
        patterns: names of parameters, with * and ?, that stay as they are for good.
        blocks: the first so many blocks are frozen; -2 freezes all but the last two.
        embeddings: every embedding is frozen.
        all_but_head: everything but the last layer, which gives the logits, is frozen.
        unfreeze_every: every so many optimizer steps the uppermost part that is still
            frozen begins to train, embeddings at the end; 0 for never. What
            ``patterns`` name is never woken (Howard & Ruder 2018, arXiv 1801.06146).
        rates: pattern -> share of the learning rate, as {"*embedding*": 0.1}; the first
            that fits a name counts.

    Raises:
        UsageError: a share that is not above 0, a negative interval.
    """

    def __init__(
        self,
        patterns: str | list[str] | None = None,
        blocks: int = 0,
        embeddings: bool = False,
        all_but_head: bool = False,
        unfreeze_every: int = 0,
        rates: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        if unfreeze_every < 0:
            raise UsageError(
                f"--freeze.unfreeze_every {unfreeze_every}: give optimizer steps, or 0"
            )
        for pattern, share in (rates or {}).items():
            if not 0 < share < float("inf"):
                raise UsageError(
                    f"--freeze.rates {pattern}: {share}: give a share above 0; "
                    f"--freeze.patterns freezes"
                )
        patterns = [patterns] if isinstance(patterns, str) else list(patterns or [])
        self.policy: dict[str, Any] = {
            "patterns": patterns,
            "blocks": blocks,
            "embeddings": embeddings,
            "all_but_head": all_but_head,
            "unfreeze_every": unfreeze_every,
            "rates": dict(rates or {}),
        }
        self._units: list[list[nn.Parameter]] = []  # to be woken, the uppermost first
        self._awake = 0  # of them
        self._still: list[nn.Module] = []
        self._applied = False

    def apply(self, model: LightningModule) -> list[str]:
        """Freeze now, before there is an optimizer.

        Returns:
            Lines that say what is frozen; none if nothing is.

        Raises:
            UsageError: a pattern or a block that is not there, nothing left to train,
                or an interval with nothing to wake.
        """
        policy, parts = self.policy, Parts.of(model)
        for_good = set(fitting(policy["patterns"], parts.named, "--freeze.patterns"))
        fitting(policy["rates"], parts.named, "--freeze.rates")
        resting = {
            name
            for name in _resting(policy, parts) - for_good
            if parts.named[name].requires_grad  # adapters' own network sleeps for good
        }
        left = [
            name
            for name, parameter in parts.named.items()
            if parameter.requires_grad and name not in resting | for_good
        ]
        if not left and not getattr(model, "counting", False):
            raise UsageError("--freeze: nothing is left to train; freeze less")
        for name in resting | for_good:
            parts.named[name].requires_grad = False
        every = policy["unfreeze_every"]
        if every and not resting:
            raise UsageError(
                f"--freeze.unfreeze_every {every}: nothing is frozen that could begin "
                f"to train; give --freeze.blocks, embeddings or all_but_head"
            )
        model.asleep = frozenset(resting if every else ())  # type: ignore[assignment]
        model.rates = policy["rates"]
        units = parts.units(resting) if every else []
        self._units = [[parts.named[name] for name in unit] for unit in units]
        self._applied = True
        self._settle(model)
        return _said(parts, len(units), every)

    # ---- Lightning's hooks ----------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze before training; measuring needs none of it."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Apply the policy, unless it was applied already."""
        if not self._applied:
            self.apply(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what several processes would get wrong."""
        if self._units and trainer.world_size > 1:
            raise UsageError(
                "--freeze.unfreeze_every: what begins to train later would not be "
                "averaged over processes; give --trainer.devices 1"
            )

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Nothing: parts wake by the step, not by the epoch."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Wake what is due; keep frozen parts in evaluation mode, whoever ran before.

        Sampling and measuring leave the whole model in training mode.
        """
        for optimizer in trainer.optimizers:
            self.finetune_function(pl_module, trainer.global_step, optimizer)
        for module in self._still:
            module.training = False

    def finetune_function(
        self, pl_module: LightningModule, epoch: int, optimizer: Optimizer
    ) -> None:
        """Wake the parts that are due after ``epoch`` optimizer steps."""
        every = self.policy["unfreeze_every"]
        due = min(len(self._units), epoch // every) if every else 0
        if due == self._awake:
            return
        for parameter in (p for unit in self._units[:due] for p in unit):
            parameter.requires_grad = True
        self._awake = due
        pl_module.train()
        self._settle(pl_module)
        if pl_module.trainer.is_global_zero:
            share = _share(pl_module)
            print(f"unfrozen   after step {epoch:,}: {share} train", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        """The policy; where it stands follows from the step."""
        return {"policy": self.policy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on only under the same policy; measuring goes on with nothing.

        Raises:
            UsageError: the run was trained under another one.
        """
        for key, value in state_dict["policy"].items() if self._applied else ():
            if self.policy.get(key) != value:
                raise UsageError(
                    f"--freeze.{key} {self.policy.get(key)}: the run was trained with "
                    f"{value}; an exact resume changes nothing"
                )

    def _settle(self, model: nn.Module) -> None:
        """Note which modules hold parameters and train none of them.

        A recurrent network without dropout computes the same in both modes, and cuDNN
        takes gradients through it in training mode only: it is left as it is.
        """
        self._still = [
            module
            for above in model.modules()
            if _frozen(above)
            for module in above.modules()
            if not (isinstance(module, nn.RNNBase) and not module.dropout)
        ]
        for module in self._still:
            module.training = False


def _resting(policy: dict[str, Any], parts: Parts) -> set[str]:
    """What the options freeze, but for what patterns name."""
    count, number = policy["blocks"], len(parts.blocks)
    if abs(count) > number:
        raise UsageError(
            f"--freeze.blocks {count}: the model has {number} blocks; give up to "
            f"{number}, or down to -{number}"
        )
    last = count if count >= 0 else number + count
    frozen = set().union(*parts.blocks[:last])
    if policy["embeddings"]:
        frozen |= parts.embeddings
    if policy["all_but_head"]:
        if not parts.head:
            raise UsageError(
                "--freeze.all_but_head: this model does not say which layer is its "
                "head; name what to freeze with --freeze.patterns"
            )
        frozen |= set(parts.named) - parts.head
    return frozen


def _frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, and none that is trained."""
    required = [parameter.requires_grad for parameter in module.parameters()]
    return bool(required) and not any(required)


def _share(model: nn.Module) -> str:
    """``1,024 of 2,048 parameters (50.0 %)``."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    total = sum(size for size, _ in sizes)
    trained = sum(size for size, trains in sizes if trains)
    return f"{trained:,} of {total:,} parameters ({trained / max(1, total):.1%})"


def _said(parts: Parts, units: int, every: int) -> list[str]:
    """One line for a person; none where everything trains."""
    trained = [p.numel() for p in parts.named.values() if p.requires_grad]
    total = sum(p.numel() for p in parts.named.values())
    if not trained or sum(trained) == total:
        return []
    line = (
        f"{sum(trained):,} of {total:,} parameters are trained "
        f"({sum(trained) / total:.1%}), the others are frozen"
    )
    if every:
        line += f"; one more part of {units} begins to train every {every:,} steps"
    tied = parts.embeddings & parts.head
    if any(parts.named[name].requires_grad for name in tied):
        line += "; the head is the embedding's own matrix, which is trained"
    return [line]
