"""Which folder a run lives in, and whether it begins, continues or is done.

The default name is a function of the configuration, so the same command finds its own
unfinished run. What may differ between two sittings of one run is listed here.
"""

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
from lightning.fabric.utilities.rank_zero import _get_rank

from lmzoo import files, hub, runs
from lmzoo.cli import prelude, teachers
from lmzoo.cli.origins import Origin, origins
from lmzoo.cli.prelude import Plan
from lmzoo.cli.settings import launched
from lmzoo.errors import UsageError
from lmzoo.registry import data_modules
from lmzoo.text.datamodule import TextDataModule
from lmzoo.training.budget import KINDS
from lmzoo.training.checkpoints import versions

TRAINER_KEYS = tuple(key for key in prelude.TRAINER_KEYS if key != "max_steps")
FIXED = (
    "data.",
    "optimizer.",
    "lr_scheduler.",
    "trainer.",
    "freeze.",
    "ema.",
    "distill.",
    "spike_guard.",
    "seed_everything",
)
# in an identity only if given
LATER = ("freeze.", "ema.", "spike_guard.", "data.batch_size_schedule")
FREE = (
    "trainer.max_steps",
    "trainer.val_check_interval",
    "data.tokenizer_state",
    "data.extend_tokenizer",  # once, at the start of a run
    "data.labels",  # as the checkpoint has them
)
WRITTEN = ("checkpoints", "config.yaml", "metrics.csv", "summary.json")  # by a run
APART = ("model", "data.", "init_from", "body_from")  # no training options
# What rank 0 tells the processes that it starts, and who it is: a shell or a notebook
# may hold what another run told its own.
FOLDER, CHECKPOINT = "LMZOO_RUN_FOLDER", "LMZOO_RUN_CHECKPOINT"
TELLER = "LMZOO_RUN_PROCESS"


@dataclass
class RunFolder:
    """Where one run is kept, and where it goes on from."""

    path: Path
    identity: dict[str, Any]  # the configuration, flat
    max_steps: int
    model: str
    manifest: dict[str, Any] = field(default_factory=dict)
    resume_from: Path | None = None
    resumed_step: int = 0  # optimizer steps already taken
    budget: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)  # what it starts from
    seen: list[str] = field(default_factory=list)  # of a run, when it was chosen

    @property
    def finished(self) -> bool:
        """Whether the run reached its end, and no longer one is asked for."""
        done = self.manifest.get("status") == "finished"
        budget = any(key.startswith("budget.") for key in self.identity)
        asked = 0 if budget else self.max_steps
        return done and (not asked or asked <= self.manifest.get("max_steps", 0))

    def look(self) -> None:
        """Read what the folder says of a run, and keep in mind that it did.

        Raises:
            UsageError: it says nothing, and holds what a run would write over.
        """
        there = [name for name in WRITTEN if (self.path / name).exists()]
        self.manifest = runs.read_manifest(self.path)  # written before the others
        named = self.resume_from  # a checkpoint that was typed says itself whose it is
        at_home = named and named.parent.parent.resolve() == self.path.resolve()
        if there and not self.manifest and not at_home:
            raise UsageError(
                f"{self.path} holds {' and '.join(there)}, and no manifest.json that "
                f"says of which run; choose another --trainer.default_root_dir, or "
                f"start anew with --fresh"
            )
        self.seen = _state(self.path, self.manifest)

    def _require_unchanged(self) -> None:
        """Nobody trained this run between the choice and the lock.

        Raises:
            UsageError: somebody did.
        """
        if _state(self.path, runs.read_manifest(self.path)) != self.seen:
            raise UsageError(
                f"{self.path}: another process trained this run meanwhile; the same "
                f"command again goes on from what it left"
            )

    def require_same_text(self, data: Any) -> None:
        """A run goes on with the text that it began with.

        Raises:
            UsageError: the text, or what is made of it, changed in between.
        """
        before = self.manifest.get("data", {}).get("tokens_sha256")
        now = data.describe().get("tokens_sha256")
        if self.resume_from is not None and before not in (None, now):
            raise UsageError(
                f"the text of {self.path} changed since the run began; --fresh starts "
                f"anew, --init_from starts from its weights"
            )

    def stored(self, data: Any) -> dict[str, Any]:
        """What every checkpoint carries of the configuration."""
        arguments = {
            key.removeprefix("data."): value
            for key, value in self.identity.items()
            if key.startswith("data.") and key != "data.name"
        }
        arguments.pop("tokenizer_state", None)
        return {
            "origins": [origin._asdict() for origin in self.origins],
            "data": {
                "name": self.identity["data.name"],
                "arguments": arguments,
                "described": data.describe(),
            },
            "training": {
                key: value
                for key, value in {
                    **self.identity,
                    "trainer.max_steps": self.max_steps,
                }.items()
                if not key.startswith(APART)
            },
        }

    def begin(self, cli: Any) -> None:
        """Write what is known before the first step; only the first process writes."""
        if not first_process():
            return
        data, budget = cli.datamodule, self.budget or self.manifest.get("budget")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the run folder {self.path} cannot be made: "
                f"{error.strerror or error}; choose another --trainer.default_root_dir"
            ) from error
        cli.plan.held.callback(_locked(self.path).release)
        self._require_unchanged()
        for stale in (self.path / "checkpoints").glob(".*.tmp"):
            stale.unlink(missing_ok=True)
        manifest = {
            **self.manifest,
            "format": runs.FORMAT,
            "status": "running",
            "command": ["lmzoo", *sys.argv[1:]],
            "started_in": str(Path.cwd()),
            "model": self.model,
            "identity": self.identity,
            "max_steps": self.max_steps,
            "data": data.describe(),
            "versions": versions(),
        }
        if budget:
            manifest["budget"] = budget
        for key in ("init_from", "body_from", teachers.PATH):
            if fetched := hub.origin(str(self.identity.get(key, ""))):
                manifest.setdefault("hub", {})[key] = fetched
        files.write_json(self.path / "manifest.json", manifest)  # before all others
        parser, config = cli._parser("fit"), cli.config["fit"].clone()
        config["data"]["init_args"]["tokenizer_state"] = None
        text = parser.dump(config, skip_link_targets=False, format="yaml")
        files.write_atomically(self.path / "config.yaml", text.encode())
        files.write_json(self.path / "tokenizer.json", data.tokenizer.state())
        kept = self.path / runs.SPANS
        if isinstance(data, TextDataModule) and not (
            self.resume_from and kept.exists()
        ):
            files.write_atomically(kept, data.spans().to_bytes())


def _state(path: Path, manifest: dict[str, Any]) -> list[str]:
    """What decides how a run goes on: its manifest, and which checkpoints it has."""
    return [digest(manifest), *(file.name for file in runs.newest_first(path))]


def _locked(path: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path / ".lock")
    try:
        return lock.acquire(timeout=0).lock
    except filelock.Timeout as error:
        raise UsageError(
            f"{path}: another process is training this run; wait for it, or choose "
            f"another --trainer.default_root_dir"
        ) from error


def choose(config: Any, plan: Plan) -> RunFolder:
    """The folder of this fit; rank 0 decides, the other processes are told.

    Raises:
        UsageError: the folder that was typed holds a run of another configuration.
    """
    identity = identify(config, plan)
    folder = RunFolder(Path(), identity, config.trainer.max_steps, plan.model)
    folder.origins = origins(plan)
    told_by_parent = os.environ.get(TELLER) == str(os.getppid())
    if told_by_parent and not first_process():
        folder.path = Path(os.environ[FOLDER])
        folder.manifest = runs.read_manifest(folder.path)
        folder.manifest.pop("status", None)
        told = os.environ.get(CHECKPOINT)
        folder.resume_from = Path(told) if told else None
        return folder
    typed = config.trainer.default_root_dir
    folder.path = Path(typed) if typed else _default(identity, plan)
    try:
        str(folder.path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"--trainer.default_root_dir {folder.path}: its name is no UTF-8, which "
            f"TensorBoard asks for; choose another"
        ) from error
    if plan.checkpoint is not None:
        _resume_at(folder, plan, typed)
    elif plan.request.fresh:
        if launched() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError(
                "--fresh: torchrun's processes each look for the folder; name a new "
                "one with --trainer.default_root_dir"
            )
        folder.path = _free(folder.path)
        folder.look()
    else:
        _resume_own(folder)
    os.environ[FOLDER] = str(folder.path)
    os.environ[CHECKPOINT] = str(folder.resume_from or "")
    os.environ[TELLER] = str(os.getpid())
    return folder


def identify(config: Any, plan: Plan) -> dict[str, Any]:
    """The configuration without what may differ: steps, logging, devices, places."""
    flat: dict[str, Any] = {"model": plan.model}
    for section in ("model", "data", "optimizer", "lr_scheduler"):
        spec = config.get(section)
        spec = spec.as_dict() if hasattr(spec, "as_dict") else spec
        if not spec:
            continue
        if section in ("optimizer", "lr_scheduler"):
            flat[f"{section}.class_path"] = spec["class_path"]
        for key, value in (spec.get("init_args") or {}).items():
            flat[f"{section}.{key}"] = value
    flat["data.name"] = data_modules.name_of_path(config.data.class_path)
    if not flat.get("data.batch_size_schedule"):
        flat.pop("data.batch_size_schedule", None)
    state = flat.pop("data.tokenizer_state", None)
    if state:
        flat["data.tokenizer_state"] = digest(state)
    for key in ("vocab_size", "labels"):  # the data's to say
        flat.pop(f"model.{key}", None)
    for section in ("early_stopping", "checkpoints", "samples"):
        for key, value in config[section].as_dict().items():
            flat[f"{section}.{key}"] = value
    for key, value in config.freeze.as_dict().items():
        if value:  # a run that freezes nothing is called what it always was
            flat[f"freeze.{key}"] = value
    if config.ema.decay is not None:
        flat["ema.decay"] = config.ema.decay
    if config.spike_guard.enabled:
        for key, value in config.spike_guard.as_dict().items():
            flat[f"spike_guard.{key}"] = value
    for key in TRAINER_KEYS:
        flat[f"trainer.{key}"] = config.trainer[key]
    flat["seed_everything"] = config.seed_everything
    for key in KINDS:
        if config.budget[key]:
            flat[f"budget.{key}"] = config.budget[key]
    if plan.weights is not None:
        flat["init_from"] = str(plan.weights.path)
    if plan.body is not None:
        flat["body_from"] = str(plan.body.path)
    if plan.teacher is not None:
        flat[teachers.PATH] = str(plan.teacher.path)
        flat[teachers.DIGEST] = plan.teacher.sha256
        for key, value in config.distill.as_dict().items():
            flat[f"distill.{key}"] = value
    return json.loads(json.dumps(flat, default=str))


def first_process() -> bool:
    """Whether this process writes: every launcher says its rank in its own way."""
    return not (_get_rank() or 0)


def digest(identity: dict[str, Any]) -> str:
    """Eight hexadecimal digits of a configuration."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _default(identity: dict[str, Any], plan: Plan) -> Path:
    path = identity.get("data.path")
    first = str(path[0] if isinstance(path, list) and path else path)
    named = Path(first).stem
    named = Path(first).resolve().parent.name if named == "train" else named
    corpus = identity.get("data.corpus") or (named if path else "kjv")
    corpus = re.sub(r"[^a-z0-9_-]+", "-", str(corpus).lower()).strip("-") or "text"
    name = re.sub(r"[^a-z0-9_-]+", "-", plan.model.rpartition(".")[2].lower())
    return Path("runs") / f"{name}-{corpus}-{digest(identity)}"


def _free(path: Path) -> Path:
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate


def _resume_at(folder: RunFolder, plan: Plan, typed: str | None) -> None:
    """An explicit checkpoint: in its own run folder unless another one was typed."""
    assert plan.checkpoint is not None
    assert plan.run is not None
    home = plan.checkpoint.parent.parent
    folder.resume_from, folder.resumed_step = plan.checkpoint, plan.run.step
    if folder.max_steps <= plan.run.step:
        raise UsageError(
            f"{plan.checkpoint} has taken {plan.run.step:,} steps, and "
            f"--trainer.max_steps is {folder.max_steps:,}: nothing is left to train"
        )
    stored = dict(plan.run.stored.get("training") or {})
    arguments = (plan.run.stored.get("data") or {}).get("arguments") or {}
    stored.update({f"data.{key}": value for key, value in arguments.items()})
    now = {key: None for key in folder.identity if key.startswith(LATER)}
    for key, value in {**now, **stored}.items():
        free = key.removeprefix("data.") in prelude.SOURCES or key in FREE
        if key.startswith(FIXED) and not free and folder.identity.get(key) != value:
            raise UsageError(
                f"{plan.checkpoint} was trained with {key} = {value!r}, and "
                f"{folder.identity.get(key)!r} is asked for: an exact resume changes "
                f"nothing; --init_from starts a new run"
            )
    if typed is None and (home / "manifest.json").is_file():
        folder.path = home
    folder.look()
    if folder.manifest and folder.path.resolve() != home.resolve():
        _require_same(folder)  # what is there already is another run's
    folder.manifest.pop("status", None)
    folder.identity = folder.manifest.get("identity", folder.identity)


def _require_same(folder: RunFolder) -> None:
    """What a folder holds is a run of this configuration.

    Raises:
        UsageError: naming the first key that differs.
    """
    before = folder.manifest.get("identity", {})
    for key in sorted({*before, *folder.identity}):
        if before.get(key) != folder.identity.get(key):
            raise UsageError(
                f"{folder.path} holds a run with {key} = {before.get(key)!r}, this "
                f"one has {folder.identity.get(key)!r}; choose another "
                f"--trainer.default_root_dir, leave it out, or start anew with --fresh"
            )


def _resume_own(folder: RunFolder) -> None:
    """The same configuration goes on from its newest sound checkpoint.

    Raises:
        UsageError: the folder holds another run, or a finished one of which no
            checkpoint is sound.
    """
    folder.look()
    if not folder.manifest:
        return
    _require_same(folder)
    for file in runs.newest_first(folder.path):
        try:
            runs.verified_bytes(file)
        except UsageError as error:
            folder.notes.append(f"skipped: {error}")
            continue
        folder.resume_from = file
        folder.resumed_step = runs.step_of(file)
        return
    if folder.finished:
        raise UsageError(
            f"{folder.path} is finished, but none of its checkpoints is sound"
            + "".join(f"; {note}" for note in folder.notes[:1])
            + "; --fresh starts anew"
        )
    if folder.notes:
        folder.notes.append("no checkpoint is sound, so the run starts anew")
