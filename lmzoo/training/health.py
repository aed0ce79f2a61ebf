"""The training doctor: says in words why a run cannot learn, or did not.

Most broken trainings end without an error: a loss that no parameter feels, a layer
behind a step function, a rate of zero, a model that sees its own target. The report
looks at what can be seen cheaply (gradients in the first steps, sums at the ends) and
keeps one line per finding, for the summary and for ``summary.json``.
"""

import math
import sys
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.training.probes import (
    fingerprints,
    gradient_norms,
    is_nll,
    leak,
    refusal,
    some,
    trainable,
    woken_by_two,
)
from lmzoo.training.verdicts import verdicts
from lmzoo.training.watcher import Watcher

INITIAL_TOLERANCE = 0.15  # share by which the first loss may differ from the expected
LITTLE_TEXT = 0.25  # of one pass over the training text
EXPLODING = 1e5  # norm of one parameter's gradient, before clipping
RATE_EVERY = 50  # optimizer steps between looks at the learning rate


class HealthReport(Watcher):
    """Watch a fit and keep findings: before, in the first steps, at the end.

    A finding is ``{"code", "severity", "message"}`` with severity "error" (this cannot
    be right), "warning" or "note". An objective without any gradient is refused before
    the first step; everything else is only reported.

    Args:
        gradient_steps: optimizer steps in which every parameter must get a gradient.

    Attributes:
        findings: the rows, JSON-plain, one per code.
        fresh: False when the weights come from elsewhere (a warm start), so that the
            first loss has no expected value; set by the caller.

    Raises:
        ValueError: fewer than 1 step to look at gradients.
    """

    def __init__(self, gradient_steps: int = 5) -> None:
        super().__init__()
        if gradient_steps < 1:
            raise ValueError(
                f"gradient_steps must be 1 or more, given {gradient_steps}"
            )
        self.gradient_steps = gradient_steps
        self.findings: list[dict[str, str]] = []
        self.fresh = True
        self._steps = 0
        self._gradients: Tensor | None = None  # largest norm so far, per parameter
        self._no_gradient: list[str] = []
        self._waiting: set[str] = set()  # for a sequence of two tokens
        self._first_loss: Tensor | None = None
        self._start: Tensor | None = None  # fingerprints, per parameter
        self._sum: Tensor | None = None  # training losses since the last validation
        self._count = 0
        self._train_nll: float | None = None
        self._rates: list[float] = []
        self._validations = 0
        self._longest = 0  # tokens of a sequence in the first steps; 0: not known

    def add(self, code: str, severity: str, message: str) -> None:
        """Keep a finding; the same code again replaces the earlier line."""
        self.findings = [row for row in self.findings if row["code"] != code]
        row = {"code": code, "severity": severity, "message": message}
        self.findings.append(row)

    # ---- before the first step ------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a model that knows why it cannot be trained."""
        del trainer
        line = refusal(pl_module)
        if line:
            raise UsageError(line)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does a prediction see its own target? What do the weights look like?"""
        if trainer.global_step or getattr(pl_module, "pretrained", False):
            self.fresh = False
        if getattr(pl_module, "counting", False):
            return
        self._start = fingerprints(p for _, p in trainable(pl_module))
        if isinstance(pl_module, LanguageModel) and (seen := leak(pl_module)):
            self._alarm(trainer, "leak", "error", seen)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """A loss without a graph would end in a stack trace one line later."""
        del trainer
        if not loss.requires_grad:
            raise UsageError(
                refusal(pl_module)
                or f"nothing can be learned: the loss of {type(pl_module).__name__} "
                f"depends on no parameter through a differentiable path (argmax, "
                f"comparisons, .item() and .detach() cut it); use a loss such as "
                f"cross-entropy"
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """How long the sequences are from which the first gradients come."""
        del trainer, pl_module, batch_idx
        if self._steps >= self.gradient_steps:
            self.on_train_batch_start = None  # type: ignore[method-assign]
            return
        tokens = getattr(batch, "tokens", None)
        self._longest = max(self._longest, getattr(tokens, "shape", (0, 0))[-1])

    # ---- the first steps ------------------------------------------------------------

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Gradients in the first steps only; the rate now and then."""
        if self._steps < self.gradient_steps:
            norms = gradient_norms(p for _, p in trainable(pl_module))
            old = self._gradients
            if old is not None and old.shape == norms.shape:
                norms = torch.maximum(old, norms)
            self._gradients = norms  # anew where parts began to train
        if self._steps < self.gradient_steps or self._steps % RATE_EVERY == 0:
            self._rates += [float(group["lr"]) for group in optimizer.param_groups]
        self._steps += 1
        if self._steps == self.gradient_steps:
            self._judge_start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add up the loss where it is: no number leaves the device here."""
        del batch, batch_idx
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if not isinstance(loss, Tensor) or not is_nll(pl_module):
            return  # another objective's loss cannot be set beside validation's nats
        loss = loss.detach()
        if trainer.accumulate_grad_batches > 1:  # Lightning's share
            loss = loss * trainer.accumulate_grad_batches
        if pl_module.penalised:  # what validation has not
            loss = loss - sum(pl_module.penalised.values())
        if self._first_loss is None:
            self._first_loss = loss
        self._sum = loss.clone() if self._sum is None else self._sum.add_(loss)
        self._count += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close one interval of training losses."""
        del pl_module
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._validations += 1
        self._close_interval()

    # ---- the end --------------------------------------------------------------------

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What moved, at which rate, on how much text."""
        if not self._validations:
            self._close_interval()
        if getattr(pl_module, "counting", False) or not self._steps:
            return
        if self._steps < self.gradient_steps:
            self._judge_start(trainer, pl_module)
        self._judge_weights(pl_module)
        self._judge_rate(trainer)
        self._judge_amount(trainer, pl_module)

    def conclude(self, summary: dict[str, Any]) -> None:
        """Judge the figures of the finished run.

        Args:
            summary: what ``lmzoo.training.verdicts`` reads of ``summary.json``.
        """
        for finding in verdicts(summary, self._train_nll):
            self.add(*finding)

    # ---- judgements -----------------------------------------------------------------

    def _judge_start(self, trainer: Trainer, model: LightningModule) -> None:
        names = [name for name, _ in trainable(model)]
        norms = [] if self._gradients is None else self._gradients.tolist()
        steps = f"the first {self._steps} step{'s' if self._steps > 1 else ''}"
        dead = [name for name, norm in zip(names, norms, strict=True) if norm == 0]
        self._no_gradient = list(dead)
        if dead and len(dead) == len(names):
            self._alarm(
                trainer,
                "no-gradient",
                "error",
                f"no parameter got a gradient in {steps}: nothing is trained, every "
                f"figure is that of the untrained model. Is the loss computed from "
                f"detached values?",
            )
        elif dead:
            self._judge_dead(trainer, model, dead, names)
        if norms and max(norms) > EXPLODING:
            self.add(
                "exploding-gradient",
                "warning",
                f"the gradient of {names[norms.index(max(norms))]} reached a norm of "
                f"{max(norms):.1e} in {steps}: clipping hides it, no step means "
                f"anything. A slope as steep as a step function's?",
            )
        self._judge_initial_loss(model)

    def _judge_dead(
        self, trainer: Trainer, model: LightningModule, dead: list[str], of: list[str]
    ) -> None:
        """Some parameters of all had no gradient: by mistake, or for want of text."""
        steps = f"the first {self._steps} step{'s' if self._steps > 1 else ''}"
        waiting = woken_by_two(model, dead) if self._longest == 1 else []
        self._waiting = set(waiting)
        self._no_gradient = [name for name in dead if name not in self._waiting]
        if waiting:
            self.add(
                "one-token",
                "note",
                f"{some(waiting)} had no gradient in {steps}: every sequence had one "
                f"token, and two or more are what trains such a part",
            )
        if lost := self._no_gradient:
            alive = [name for name in of if name not in dead]
            self._alarm(
                trainer,
                "dead-parameters",
                "error",
                f"no gradient reached {some(lost)} in {steps}; only {some(alive)} "
                f"{'learn' if alive[1:] else 'learns'}. A step function, argmax or "
                f"detach() stands in between, or the part is not used",
            )

    def _judge_initial_loss(self, model: LightningModule) -> None:
        if not self.fresh or self._first_loss is None or not is_nll(model):
            return
        expected = model.expected_initial_nll()
        first = float(self._first_loss)
        if abs(first - expected) <= INITIAL_TOLERANCE * expected:
            return
        why = (
            "the start is confidently wrong, and the first steps only unlearn it: "
            "make the initial logits smaller"
            if first > expected
            else "fresh weights cannot know that much: are they fresh, and are the "
            "targets the next tokens?"
        )
        known = math.isclose(expected, math.log(model.vocab_size))
        source = f" (ln V for {model.vocab_size} symbols)" if known else ""
        self.add(
            "initial-loss",
            "warning",
            f"the first loss is {first:.3f} nats, expected about {expected:.3f}"
            f"{source}: {why}",
        )

    def _judge_weights(self, model: LightningModule) -> None:
        named = trainable(model)
        now = fingerprints(p for _, p in named)
        if self._start is None or now.shape != self._start.shape:
            return  # a strategy that re-shards the weights
        moved = (now != self._start).any(dim=1).tolist()
        still = [
            name
            for (name, _), changed in zip(named, moved, strict=True)
            if not changed and name not in self._waiting
        ]
        if still:
            everything = "no parameter" if len(still) == len(named) else ""
            self.add(
                "unchanged",
                "error" if everything else "warning",
                f"{everything or some(still) + ' never'} changed in {self._steps:,} "
                f"steps",
            )
        decayed = [name for name in self._no_gradient if name not in still]
        if decayed:
            self.add(
                "decay-only",
                "warning",
                f"{some(decayed)} had no gradient in the first steps and still "
                f"changed: weight decay may be all that moves it",
            )

    def _judge_rate(self, trainer: Trainer) -> None:
        if max(self._rates) == 0:
            line = "the learning rate was 0 at every step looked at: nothing can move"
            self.add("zero-rate", "error", line)
        elif (
            trainer.lr_scheduler_configs
            and self._steps >= 2 * RATE_EVERY
            and len(set(self._rates)) == 1
        ):
            self.add(
                "flat-schedule",
                "warning",
                f"a schedule is set, yet the learning rate stayed at "
                f"{self._rates[0]:g} for {self._steps} steps: is it stepped at all?",
            )

    def _judge_amount(self, trainer: Trainer, model: LightningModule) -> None:
        if not self._validations:
            self.add(
                "no-validation",
                "warning",
                "no validation ran during training: the last weights stand for the "
                "best, and nothing could stop the run early",
            )
        data = getattr(trainer, "datamodule", None)
        total = len(getattr(data, "train_tokens", ()))
        seen = getattr(data, "position", 0) * getattr(model, "context_length", 0)
        if total and 0 < seen < LITTLE_TEXT * total:
            self.add(
                "part-of-text",
                "note",
                f"training read {seen:,} tokens, {seen / total:.0%} of one pass over "
                f"the training text: more steps would see new text",
            )

    # ---- helpers --------------------------------------------------------------------

    def _close_interval(self) -> None:
        if self._sum is not None:
            self._train_nll = float(self._sum) / self._count
        self._sum, self._count = None, 0

    def _alarm(self, trainer: Trainer, code: str, severity: str, message: str) -> None:
        """Keep a finding and say it now: there is no need to wait for the end."""
        self.add(code, severity, message)
        if trainer.is_global_zero:
            print(f"{severity}: {message}", file=sys.stderr)
