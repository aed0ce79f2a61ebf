"""What every member of the zoo shares, whatever its task: how it is made and trained.

A member is a LightningModule whose constructor takes ``vocab_size``,
``context_length`` and plain keywords, and keeps them. ``LanguageModel`` (base.py)
predicts the next token, ``Classifier`` (classifier.py) a label, ``Encoder``
(encoder.py) the tokens that were hidden from it.
"""

import inspect
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from lmzoo.errors import UsageError
from lmzoo.models.divergence import Watch


class Sample(Protocol):
    """What every batch of a data module says of itself."""

    @property
    def tokens(self) -> Tensor:
        """Token ids (B, T)."""
        ...

    @property
    def position(self) -> int:
        """Global index of the first sample."""
        ...


# no part of a model; Lightning notes some forty times a step which hook it is in
OFTEN = frozenset({"_current_fx_name", "penalised", "grad_norm"})


class Member(LightningModule):
    """Constructor, presets, optimizer, clipping, and the frame of a full pass.

    A subclass says what a batch costs (``training_step``), what a pass measures
    (``validation_step``), and sets ``self.metrics``, which has ``reset``, ``compute``
    and ``NAMES``.

    Class attributes say what is special about a family:

    Attributes:
        task: what it is trained for; commands refuse members of another task.
        data: the data module that feeds it.
        linked: attributes of the data module -> constructor arguments they decide.
        counting: sizes come from counting data, there are no gradients.
        pretrained: the tokenizer comes from the source of the weights.
        requires: packages that it needs beyond the core -> the extra that brings them.
        exhibit: the law that this model breaks on purpose, if it is an exhibit.
        recipe: tuned defaults as dotted command-line keys ("optimizer.lr"); they rank
            below anything that is typed or stands in a configuration file.
        presets: named sets of constructor arguments.
        metric_names: what a full pass measures, logged as ``val/...``.
    """

    task: ClassVar[str] = "language model"
    data: ClassVar[str] = "text"
    linked: ClassVar[dict[str, str]] = {"vocab_size": "vocab_size"}
    unbounded: ClassVar[bool] = False
    counting: ClassVar[bool] = False
    pretrained: ClassVar[bool] = False
    requires: ClassVar[dict[str, str]] = {}
    exhibit: ClassVar[str | None] = None
    recipe: ClassVar[dict[str, Any]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    metric_names: ClassVar[tuple[str, ...]] = ()

    vocab_size: int
    context_length: int
    window: int | None = None  # tokens that one prediction sees; None: context_length
    carry_state: bool = False  # train on contiguous rows, state kept between batches
    arguments: dict[str, Any]
    metrics: Any
    asleep: frozenset[str] = frozenset()  # parameters that are trained later on
    rates: Mapping[str, float] = MappingProxyType({})  # pattern -> share of the rate
    sharded: bool = False  # each process holds a share of every weight
    recomputing: bool = False  # the backward pass runs the blocks again

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Note the constructor's arguments before it runs."""
        self = super().__new__(cls)
        if args or kwargs:  # copying calls __new__ bare, and brings the arguments along
            bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
            bound.apply_defaults()
            given = dict(list(bound.arguments.items())[1:])
            object.__setattr__(self, "_captured", given)
        return self

    def __init__(self) -> None:
        super().__init__()
        self.arguments = getattr(self, "_captured", {})
        for name in ("vocab_size", "context_length"):
            value = self.arguments.get(name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, given {value!r}")
            setattr(self, name, value)
        self.save_hyperparameters(self.arguments)
        self.seed = 0
        self.optimizer_factory: Callable[[list[dict[str, Any]]], Optimizer] | None = (
            None
        )
        self.scheduler_factory: Callable[[Optimizer, int], Any] | None = None
        self.grad_norm: Tensor | None = None
        self.penalised: dict[str, Tensor] = {}  # of the last step, beside its loss
        self.watch = Watch()

    def __setattr__(self, name: str, value: Any) -> None:
        """As torch does it, which looks whether it is a part, or quicker."""
        if name in OFTEN:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @classmethod
    def from_preset(cls, preset: str, **arguments: Any) -> Any:
        """The model under a published name; ``arguments`` override the preset's."""
        return cls(**{**cls.preset_arguments(preset), **arguments})

    @classmethod
    def preset_arguments(cls, preset: str) -> dict[str, Any]:
        """Constructor arguments of a preset, as numbers."""
        if preset not in cls.presets:
            names = ", ".join(cls.presets) or "none"
            raise UsageError(
                f"{cls.__name__} has no preset {preset!r}; its presets: {names}"
            )
        return dict(cls.presets[preset])

    # ---- as the body of a classifier ----------------------------------------------

    def take_head(self) -> int:
        """Give up the head, so that ``features`` are all that is left; their size D.

        By default the head is ``output_head()``; where there is none, the last linear
        map, in the order in which they were made, that gives ``vocab_size`` numbers or
        more. The identity takes its place.

        Raises:
            UsageError: there is none; the model then overrides this and ``features``.
        """
        maps = {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear) and module.out_features >= self.vocab_size
        }
        stated = self.output_head()
        if stated is not None:
            maps = {name: head for name, head in maps.items() if head is stated}
        if not maps:
            raise UsageError(
                f"{type(self).__name__} has no linear head to take away, so it is no "
                f"body for a classifier; it may define take_head and features itself"
            )
        name, head = maps.popitem()
        self.set_submodule(name, nn.Identity())
        return head.in_features

    def features(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """One vector for each token, (B, T) -> (B, T, D), once the head is taken.

        Args:
            tokens: ids (B, T), padded at the right.
            mask: True where a token is text, (B, T); a causal model needs none.
        """
        del mask
        return self(tokens)

    def blocks(self) -> dict[str, nn.Module]:
        """Named parts in the order data flows: every module of the first list."""
        for name, module in self.named_modules():
            if isinstance(module, nn.ModuleList):
                return {f"{name}.{i}": block for i, block in enumerate(module)}
        return {n: m for n, m in self.named_children() if n != "metrics"}

    def stack(self) -> list[nn.Module]:
        """Its blocks where they stand one on another in a list; else none."""
        lists = [m for m in self.modules() if isinstance(m, nn.ModuleList)]
        listed, blocks = {block for one in lists for block in one}, self.blocks()
        return list(blocks.values()) if listed.issuperset(blocks.values()) else []

    @property
    def family(self) -> type:
        """The class as it was written: sharding puts one of its own on top of it."""
        return type(self).__mro__[2] if self.sharded else type(self)

    def output_head(self) -> nn.Module | None:
        """The last layer, from features to logits: what is called ``head``, if any."""
        found = getattr(self, "head", None)
        return found if isinstance(found, nn.Module) else None

    def stacked(self) -> dict[str, list[int]]:
        """Parameters that are several on top of one another -> the rows of each.

        For optimizers that look at a parameter as a whole. Known are the gates of
        PyTorch's recurrent layers and every linear map with a dict ``parts``, from the
        use of its outputs to their number, as ``JointLinear`` has; biases too.
        """
        found: dict[str, list[int]] = {}
        for path, module in self.named_modules():
            if isinstance(uses := getattr(module, "parts", None), dict):
                for name, _ in module.named_parameters(path, recurse=False):
                    found[name] = list(uses.values())
            elif isinstance(module, nn.RNNBase):
                for name, parameter in module.named_parameters(path):
                    rows = module.proj_size or module.hidden_size
                    rows = module.hidden_size if "weight_hr" not in name else rows
                    found[name] = [rows] * (len(parameter) // rows)
        return found

    def received(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a model to start from, under the names that they have here."""
        return state

    def flops_per_token(self, length: int) -> int | None:
        """Training FLOPs per token at ``length``, in closed form; None: not known."""
        del length
        return None

    # ---- full passes --------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Begin a full pass: fresh sums, fresh state."""
        self._start_pass(self.trainer.val_dataloaders)

    def on_validation_epoch_end(self) -> None:
        """Divide the sums and log them as ``val/...``."""
        self._end_pass("val")

    def on_test_epoch_start(self) -> None:
        """Begin a full pass over the test part."""
        self._start_pass(self.trainer.test_dataloaders)

    def on_test_epoch_end(self) -> None:
        """Divide the sums and log them as ``test/...``."""
        self._end_pass("test")

    def _start_pass(self, loader: Any) -> None:
        del loader
        self.metrics.reset()

    def _end_pass(self, split: str) -> None:
        results = self.metrics.compute()
        self.log("step", float(self.global_step))  # Lightning's own is one behind
        for name, value in results.items():
            self.log(f"{split}/{name}", torch.tensor(value, dtype=torch.float64))

    # ---- optimizer ----------------------------------------------------------------

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Named groups for an optimizer: weight decay on matrices only.

        Frozen parameters are in none. Those that are still ``asleep`` are in theirs
        already, so that waking them changes no group; they have no gradient and thus no
        optimizer state until then. ``rate`` is a group's share of the learning rate.
        """
        found: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad or name in self.asleep:
                key = rate_of(name, self.rates), is_matrix(parameter)
                found.setdefault(key, []).append(parameter)
        groups: list[dict[str, Any]] = []
        for (share, decays), parameters in sorted(found.items(), key=_first_the_whole):
            group = {"params": parameters, "name": "matrices" if decays else "others"}
            group |= {} if decays else {"weight_decay": 0.0}
            if share != 1:
                group |= {"name": f"{group['name']} x {share:g}", "rate": share}
            groups.append(group)
        return [group for group in groups if group["params"]]

    def configure_optimizers(self) -> Any:
        """What the factories make, or AdamW at the recipe's constant rate."""
        groups = self.parameter_groups()
        if not groups:
            return None
        if self.optimizer_factory is None:
            lr = self.recipe.get("optimizer.lr", 1e-3)
            return share_rates(torch.optim.AdamW(groups, lr=lr, fused=True))
        optimizer = share_rates(self.optimizer_factory(groups))
        if self.scheduler_factory is None:
            return optimizer
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = self.scheduler_factory(optimizer, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_before_backward(self, loss: Tensor) -> None:
        """The loss is watched where it is."""
        several = getattr(self._trainer, "world_size", 1) > 1
        self.watch.add(loss, several)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm; stop before the step if loss or gradient is not finite.

        Lightning's own clipping refuses fused optimizers under mixed precision.

        Raises:
            Diverged: see ``Watch.may_step``.
        """
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        grads = [p.grad for p in parameters if p.grad is not None]
        if gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        norm = nn.utils.get_total_norm(grads)
        self.grad_norm = whole(norm)
        if not self.watch.may_step(
            self._trainer, optimizer, self.grad_norm, sharded=self.sharded
        ):
            return  # the gradient scaler leaves this step out
        if gradient_clip_val and gradient_clip_algorithm != "value":
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def on_validation_start(self) -> None:
        """No figure of weights that were held."""
        self.watch.require_finite(self._trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """No file of a run that went wrong before it."""
        del checkpoint
        self.watch.require_finite(self._trainer)

    def on_train_end(self) -> None:
        """The last steps may be none that a row was written of."""
        self.watch.require_finite(self._trainer)


def is_matrix(parameter: Tensor) -> bool:
    """Whether it maps several entries to one: a depthwise kernel (D, 1, K) does not.

    Such a kernel is D filters side by side, each of them of one channel.
    """
    return parameter.ndim == 2 or (parameter.ndim > 2 and parameter.shape[1] > 1)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process holds a share; every process must ask."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def rate_of(name: str, rates: Mapping[str, float]) -> float:
    """The share of the learning rate by the first pattern that fits ``name``."""
    fits = (share for pattern, share in rates.items() if fnmatchcase(name, pattern))
    return next(fits, 1.0)


def share_rates(optimizer: Optimizer) -> Optimizer:
    """Give each group its ``rate`` of what the optimizer was built with."""
    for group in optimizer.param_groups:
        group["lr"] *= group.get("rate", 1.0)
    return optimizer


def _first_the_whole(item: tuple[tuple[float, bool], Any]) -> tuple[bool, float, bool]:
    """Sorts the groups of the whole rate first, matrices before the others."""
    (share, decays), _ = item
    return share != 1, -share, not decays


def seed_for(seed: int, position: int, rank: int) -> None:
    """Seed torch from (seed, position, rank), so no generator state need be saved.

    Not by ``torch.manual_seed``: for every kind of device that is not in use it keeps a
    printed stack of calls, 0.4 ms a step.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + rank) % 2**63
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(mixed)
    if torch.xpu.is_initialized():
        torch.xpu.manual_seed_all(mixed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(mixed)
