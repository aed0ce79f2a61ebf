"""What fit, validate and test can be told: the sections of LightningCLI's parser."""

from typing import NoReturn

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer

from lmzoo.cli import messages, settings
from lmzoo.errors import UsageError
from lmzoo.models.member import Member
from lmzoo.training.checkpoints import Checkpoints
from lmzoo.training.divergence import SpikeGuard
from lmzoo.training.early_stopping import EarlyStopping
from lmzoo.training.freezing import Freezing
from lmzoo.training.optimizers import of_model
from lmzoo.training.telemetry import Samples


class Parser(LightningArgumentParser):
    """LightningCLI's parser, whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        """Raise instead of printing the usage."""
        raise UsageError(messages.shorten(message, self._option_string_actions)) from ex


def add_classes(parser: LightningArgumentParser) -> None:
    """The Trainer, a model by name, and any data module; text is the default."""
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults(
        {f"trainer.{k}": v for k, v in settings.TRAINER_DEFAULTS.items()}
    )
    parser.add_lightning_class_args(Member, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)


def add_sections(parser: LightningArgumentParser, model: type, optimizer: str) -> None:
    """Lmzoo's own sections, and where the towers meet: what data decides of a model.

    Args:
        parser: of one of the commands.
        model: the class of the model.
        optimizer: class path; what the model fills in is no option.
    """
    skip = {"params", "optimizer", "total_steps", *of_model(optimizer)}
    for key, base in (
        ("optimizer", Optimizer),
        ("lr_scheduler", torch.optim.lr_scheduler.LRScheduler),
    ):
        parser.add_subclass_arguments(
            (base,),
            key,
            instantiate=False,
            fail_untyped=False,
            required=False,
            skip=skip,
        )
    parser.add_lightning_class_args(EarlyStopping, "early_stopping")
    parser.add_lightning_class_args(Checkpoints, "checkpoints")
    parser.add_lightning_class_args(Samples, "samples")
    parser.add_lightning_class_args(Freezing, "freeze")
    parser.add_lightning_class_args(SpikeGuard, "spike_guard")
    parser.add_argument(
        "--distill.weight",
        type=float,
        default=0.5,
        help="Share of the loss that the classifier of --distill_from has.",
    )
    parser.add_argument(
        "--distill.temperature",
        type=float,
        default=2.0,
        help="By which both classifiers' logits are divided before they are compared.",
    )
    parser.add_argument(
        "--budget.seconds",
        type=float | None,
        default=None,
        help="Train for this long, evaluation excluded: a short rehearsal, "
        "which is not counted, says how many steps that is.",
    )
    parser.add_argument(
        "--budget.tokens",
        type=int | None,
        default=None,
        help="Train on this many tokens, whatever the batch size.",
    )
    parser.add_argument(
        "--budget.flops",
        type=float | None,
        default=None,
        help="Train for this many FLOPs, forward and backward, by the model's own "
        "closed form; it counts no embeddings, norms or optimizer.",
    )
    parser.add_argument(
        "--ema.decay",
        type=float | None,
        default=None,
        help="Average the weights exponentially, with this share of the average kept "
        "at every step; the average is measured, kept as the best, and saved.",
    )
    parser.add_argument(
        "--compile", type=bool, default=False, help="torch.compile the model."
    )
    parser.add_argument(
        "--activation_checkpointing",
        type=bool,
        default=False,
        help="Keep the input of each block alone, and run it again in the backward "
        "pass: less memory, one more forward pass, the same figures.",
    )
    for source, target in getattr(model, "linked", Member.linked).items():
        parser.link_arguments(
            f"data.{source}", f"model.init_args.{target}", apply_on="instantiate"
        )
    parser.link_arguments(
        "model.init_args.context_length", "data.init_args.context_length"
    )
    parser.link_arguments("seed_everything", "data.init_args.seed")
