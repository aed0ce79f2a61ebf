"""Each variant is parsed and built before anything trains, and its model checked.

Fit's own machinery is used as far as the model and the text: so what no constructor
reads is refused here, in fit's words, and the tokens are in the cache that all share.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer

from lmzoo.cli import arguments, configurations, folders, prelude, settings
from lmzoo.cli.failures import one_line_errors, quiet
from lmzoo.cli.refusals import model_class
from lmzoo.cli.trainer import TrainCLI
from lmzoo.compare.plan import Comparison, Variant
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel, require_language_model
from lmzoo.runs import first_line
from lmzoo.testing import check_model
from lmzoo.training.floors import floors
from lmzoo.training.probes import refusal

LAWS = ("shapes", "causality", "batch")  # what would make a figure mean nothing


@dataclass
class Rehearsed:
    """What is known of a variant before it trains.

    Attributes:
        identity: the flat configuration that fit gives its run.
        text: the data module's description, and the hash of the validation part.
        floors: what counting and compression reach on its text.
        mark: "counting", "exhibit" or nothing.
        excluded: why it will not train; "" if it will.
    """

    identity: dict[str, Any]
    text: dict[str, Any]
    floors: dict[str, Any]
    mark: str
    excluded: str


class _Built(Exception):
    """The model and the text are there; no Trainer is wanted."""

    def __init__(self, identity: dict[str, Any], model: Any, data: Any) -> None:
        super().__init__("built")
        self.identity, self.model, self.data = identity, model, data


class _Rehearsal(TrainCLI):
    """fit, up to the Trainer; no folder is made."""

    def before_instantiate_classes(self) -> None:
        """Refuse what cannot work; say what run it would be."""
        config = self.config[self.command]
        cls = model_class(self.plan.model)
        require_language_model(cls, self.plan.model)
        settings.settle(config, self.command, cls.metric_names)
        self.identity = folders.identify(config, self.plan)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Check what depends on the text and the length, and stop."""
        config, init = self.config[self.command], self.config_init[self.command]
        self.datamodule.setup("fit")
        if len(self.datamodule.val_tokens) < 2:
            raise UsageError(
                "without a validation part there is nothing to compare; "
                "--data.val_fraction 0.05"
            )
        if self.plan.request.typed("trainer.max_steps") and not self.model.counting:
            steps = int(config.trainer.max_steps)
            settings.require_warmup(config, self.plan.request, steps)
            settings.settle_validation(
                dict(init["trainer"]), self.datamodule, init["early_stopping"]
            )
        raise _Built(self.identity, self.model, self.datamodule)


def rehearse(comparison: Comparison, variant: Variant) -> Rehearsed:
    """Build a variant once, and prove that its model sees no future.

    Raises:
        UsageError: an option that nothing reads, or values that cannot be built.
    """
    quiet()
    try:
        built = _build(comparison, variant)
    except UsageError as error:
        raise UsageError(f"{variant.label}: {error}") from error
    model: LanguageModel = built.model
    mark = "counting" if model.counting else "exhibit" if model.exhibit else ""
    return Rehearsed(
        built.identity,
        {**built.data.describe(), "val_text_sha256": _hashed(built.data)},
        floors(built.data),  # in the cache from now on: no cell pays for them
        mark,
        _exclusion(model) or "",
    )


def _hashed(data: Any) -> str:
    """Of the characters of the validation part, whatever tokenizer cuts them."""
    digest = hashlib.sha256()
    for piece in data.prepared.pieces("val"):
        digest.update(piece.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _build(comparison: Comparison, variant: Variant) -> _Built:
    words = [f"--plugin={path}" for path in comparison.plugins]
    words += variant.arguments(comparison.seeds[0])
    plan = prelude.plan(arguments.read("fit", words))
    configs = [*plan.configs, *plan.request.configs]
    given = [w for c in configs for w in ("--config", configurations.as_json(c))]
    try:
        with plan.held, one_line_errors():
            _Rehearsal(plan, ["fit", *given, *plan.request.options])
    except _Built as built:
        return built
    except (UsageError, OSError, SystemExit):
        raise
    except Exception as error:  # a plugin's constructor may fail in any way
        said = f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(f"cannot be built: {said}") from error
    raise AssertionError("the rehearsal always ends in _Built")


def _exclusion(model: LanguageModel) -> str | None:
    """Why a model must not stand among the others, or None."""
    sizes = {k: v for k, v in model.arguments.items() if k != "vocab_size"}
    report = check_model(type(model), laws=LAWS, **sizes)
    for row in report.rows:
        if row.verdict == "broken":
            return f"breaks {row.law}: {row.detail}"
    return refusal(model)
