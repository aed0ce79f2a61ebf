"""``lmzoo fit | validate | test``: LightningCLI with names, a run folder and a report.

The order of things: what was typed is made plain (arguments.py), the model's tuned
recipe and what a checkpoint stored are put below it as configurations, LightningCLI
parses, the run folder is chosen, the classes are built, the Trainer runs, and the
report (report.py) is written from the best checkpoint.
"""

from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from lmzoo.cli import (
    bodies,
    configurations,
    folders,
    messages,
    origins,
    prelude,
    refusals,
    report,
    room,
    settings,
)
from lmzoo.cli.arguments import Request
from lmzoo.cli.failures import AlreadyFinished, one_line_errors, quiet
from lmzoo.cli.refusals import model_class
from lmzoo.cli.sections import Parser, add_classes, add_sections
from lmzoo.errors import UsageError
from lmzoo.models.member import Member
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training import budget, optimizers, restoring
from lmzoo.training.activation_checkpointing import recompute_blocks
from lmzoo.training.averaging import AveragedWeights
from lmzoo.training.checkpoints import VerifiedCheckpointIO
from lmzoo.training.distillation import teach
from lmzoo.training.frozen_features import FrozenFeatures
from lmzoo.training.health import HealthReport
from lmzoo.training.probes import misshapen, refusal
from lmzoo.training.progress import TrainingProgress
from lmzoo.training.telemetry import MetricsFile, Telemetry
from lmzoo.training.warm_start import keeps_vocabulary, warm_start
from lmzoo.training.watcher import Unprofiled


def train(request: Request) -> None:
    """Run what was asked for.

    Raises:
        UsageError: anything that the caller can mend, in one line.
    """
    quiet()
    plan = prelude.plan(request)
    args = [request.command]
    for config in [*plan.configs, *request.configs]:
        args += ["--config", configurations.as_json(config)]
    with plan.held, one_line_errors():
        TrainCLI(plan, [*args, *request.options])


class TrainCLI(LightningCLI):
    """fit, validate and test, with the vocabulary before the model.

    Args:
        plan: what the command line and the checkpoint amount to.
        args: the arguments that LightningCLI parses.
    """

    def __init__(self, plan: prelude.Plan, args: list[str]) -> None:
        self.plan, self.command = plan, args[0]  # fit, validate or test
        self.run_folder: folders.RunFolder | None = None
        exact = {"allow_abbrev": False}
        super().__init__(
            model_class=Member,
            datamodule_class=TextDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            seed_everything_default=1337,
            trainer_defaults=settings.TRAINER_DEFAULTS,
            parser_kwargs={**exact, self.command: exact},
            args=args,
        )

    # ---- options --------------------------------------------------------------------

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The Trainer, the model and the data."""
        add_classes(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Lmzoo's own sections."""
        optimizer = self.plan.configs[0]["optimizer"]["class_path"]
        add_sections(parser, model_class(self.plan.model), optimizer)

    def subcommands(self) -> dict[str, set[str]]:
        """The one that was typed: a parser takes long to be made."""
        skip = {"model", "datamodule", "ckpt_path", "weights_only", "verbose"}
        skip |= {"dataloaders", "train_dataloaders", "val_dataloaders"}
        return {self.command: skip}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what run() made of the command line."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Nothing: the checkpoint stands below the typed options already."""

    # ---- building -------------------------------------------------------------------

    def _set_seed(self) -> None:
        seed = self.config[self.command].seed_everything
        if not 0 <= seed < 2**32:
            raise UsageError(f"--seed_everything {seed}: give 0 to {2**32 - 1}")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Choose the folder; refuse what cannot work, before anything is built."""
        config = self.config[self.command]
        model = model_class(self.plan.model)
        settings.settle(config, self.command, model.metric_names)
        if self.subcommand == "fit":
            if not model.pretrained and self.plan.weights is None:
                given = config.model.init_args.as_dict()
                room.require_memory(self.plan.model, model, given)
            self.run_folder = folders.choose(config, self.plan)
            if self.run_folder.finished:
                raise AlreadyFinished(self.run_folder.path)
            config.trainer.default_root_dir = str(self.run_folder.path)

    def instantiate_classes(self) -> None:
        """Data first, then the model with the vocabulary's size, then the Trainer."""
        try:
            super().instantiate_classes()
        except UsageError:  # one line already
            raise
        except ValueError as error:  # a constructor refuses what was given
            line = messages.shorten(str(error))
            cls = model_class(self.plan.model)
            raise UsageError(refusals.under_option(line, cls)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with lmzoo's way of saving and its own callbacks."""
        self._prepare_model()
        stride = getattr(self.datamodule, "stride", None)
        refusals.check_stride(stride, self.model.context_length)
        init = self.config_init[self.command]
        trainer = dict(init["trainer"])
        self.checkpoints, self.samples = init["checkpoints"], init["samples"]
        self.early_stopping = init["early_stopping"]
        self.telemetry, self.health = Telemetry(), HealthReport()
        self.health.fresh = self.plan.weights is None
        callbacks = [self.early_stopping, self.telemetry, self.samples, self.health]
        self.guard = init["spike_guard"]
        callbacks += [self.freezing, FrozenFeatures(), self.guard]
        if self.command == "fit":
            trainer["max_steps"] = self._steps(trainer)
            self.notes += settings.settle_validation(
                trainer, self.datamodule, self.early_stopping
            )
            if self._has_start():
                trainer["num_sanity_val_steps"] = -1  # a whole pass before training
            trainer["logger"] = self._attach_folder()
            callbacks += self._averaging()  # after what looks at the average
            if trainer["enable_progress_bar"] is not False:
                callbacks.append(TrainingProgress(self.telemetry, self.samples))
        else:
            trainer.update(logger=False, enable_progress_bar=False)
        trainer["profiler"] = trainer["profiler"] or Unprofiled()
        plugins = trainer["plugins"] or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        trainer["plugins"] = [*plugins, VerifiedCheckpointIO()]
        if trainer["strategy"] == settings.SHARDED:
            settings.require_shardable(self.model, self.config[self.command])
            # torch.distributed.fsdp is heavy
            from lmzoo.training.sharded import FullySharded

            trainer["strategy"] = FullySharded()
        built = self._instantiate_trainer(trainer, [*callbacks, self.checkpoints])
        self.notes += settings.precision_notes(built)
        seconds = self.config[self.command].get("budget.seconds")
        settings.require_devices(self.model, self.datamodule, built.world_size, seconds)
        return built

    def _prepare_model(self) -> None:
        config = self.config[self.command]
        self.model.seed = int(config.seed_everything)
        if self.model.carry_state:
            self.datamodule.order = "stream"
            self.datamodule.protocol = "carried"
        optimizers.use(
            self.model,
            settings.plain(config.optimizer),
            settings.plain(config.get("lr_scheduler")),
        )
        self.notes = [*self.plan.notes, *self.datamodule.notes]
        if self.plan.weights is not None:
            weights = self.plan.weights
            self.notes += warm_start(self.model, self.datamodule, weights)
        if self.plan.body is not None:
            self.notes.append(bodies.load(self.model, self.plan.body))
        if self.plan.teacher is not None:
            given = config.distill
            self.notes.append(
                teach(
                    self.model,
                    self.datamodule,
                    self.plan.teacher,
                    given.weight,
                    given.temperature,
                )
            )
        self.freezing = self.config_init[self.command]["freeze"]
        if self.command == "fit":
            self.notes += self.freezing.apply(self.model)
        if config.activation_checkpointing:
            recompute_blocks(self.model)
        if config.compile:
            self.model.compile()

    def _averaging(self) -> list[Callback]:
        decay = self.config["fit"].ema.decay
        return [] if decay is None or self.model.counting else [AveragedWeights(decay)]

    def _has_start(self) -> bool:
        """Whether others' weights are to be measured before the first step."""
        weights, folder = self.plan.weights, self.run_folder
        if weights is None or folder is None or folder.resume_from is not None:
            return False
        if self.model.counting or not keeps_vocabulary(self.datamodule, weights):
            return False
        self.checkpoints.start_of = origins.name_of(weights)
        return True

    def _steps(self, trainer: dict[str, Any]) -> int:
        """Optimizer steps of the run: as typed, or what a budget amounts to."""
        folder, limit = self.run_folder, self.config[self.command].budget
        assert folder is not None
        kind = next((kind for kind in budget.KINDS if limit[kind]), None)
        if self.model.counting:  # once, however long the others train
            trainer.update(val_check_interval=1, accumulate_grad_batches=1)
            if kind:
                name = folder.model
                self.notes.append(f"{name} counts the text once: no budget limits it")
            return 1
        if kind is None:
            return int(trainer["max_steps"])
        frozen = folder.manifest.get("budget", {})
        if frozen.get(kind) == limit[kind]:
            folder.max_steps = int(frozen["max_steps"])
        else:
            taken = self._per_step(kind, limit[kind], trainer)
            folder.max_steps = budget.steps_within(kind, limit[kind], taken)
        folder.budget = {kind: limit[kind], "max_steps": folder.max_steps}
        return folder.max_steps

    def _per_step(self, kind: str, amount: float, trainer: dict[str, Any]) -> float:
        """What one optimizer step takes of a budget."""
        if getattr(self.datamodule, "batch_size_schedule", None):
            raise UsageError(
                f"--budget.{kind}: steps under --data.batch_size_schedule are of "
                f"several sizes; give --trainer.max_steps"
            )
        windows = self.datamodule.batch_size * trainer["accumulate_grad_batches"]
        tokens = windows * self.model.context_length
        if kind == "tokens":
            return tokens
        if kind == "flops":
            return budget.flops_per_step(self.model, tokens)
        if line := refusal(self.model):
            raise UsageError(line)
        data, more = self.datamodule, self._averaging()
        return budget.seconds_per_step(self.model, data, trainer, amount, more)

    def _attach_folder(self) -> list[Logger]:
        """Point everything that writes at the run folder."""
        folder = self.run_folder
        assert folder is not None
        self.checkpoints.folder = self.samples.folder = folder.path
        self.guard.folder = folder.path
        self.checkpoints.stored = folder.stored(self.datamodule)
        step = folder.resumed_step
        events = TensorBoardLogger(
            str(folder.path), name="", version="", purge_step=step + 1 if step else None
        )
        if not folders.first_process():
            return [events]
        return [events, MetricsFile(folder.path / "metrics.csv", step)]

    # ---- running --------------------------------------------------------------------

    def _run_subcommand(self, subcommand: str) -> None:
        trainer, checkpoints = self.trainer, self.checkpoints

        def resumed() -> Any:
            return None if checkpoints.begun else trainer.ckpt_path

        with checkpoints.heeding(trainer), restoring.taking_up(resumed):
            super()._run_subcommand(subcommand)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["ckpt_path"] = self.plan.checkpoint
        if self.run_folder is not None:
            kwargs["ckpt_path"] = self.run_folder.resume_from
        if subcommand != "fit":
            kwargs["verbose"] = False
        return kwargs

    def before_fit(self) -> None:
        """Refuse what can be refused, open the folder, say what will happen."""
        assert self.run_folder is not None
        self.datamodule.setup("fit")
        self.run_folder.require_same_text(self.datamodule)
        if line := refusal(self.model) or misshapen(self.model):
            raise UsageError(line)
        config = self.config[self.command]
        averaged = config.ema.decay is not None
        self.guard.require(self.model, self.datamodule, averaged)
        if not self.model.counting:
            settings.require_warmup(config, self.plan.request, self.trainer.max_steps)
        optimizers.rehearse(self.model)
        if self.run_folder.resume_from is None:  # one that goes on has what it needs
            room.require(self.run_folder.path, self.model)
        self.run_folder.begin(self)
        report.announce(self)

    def after_fit(self) -> None:
        """Measure the last and the best weights, write and print the summary."""
        report.finish(self)

    def after_validate(self) -> None:
        """Print the figures."""
        report.measured(self, "val")

    def after_test(self) -> None:
        """Print the figures."""
        report.measured(self, "test")
