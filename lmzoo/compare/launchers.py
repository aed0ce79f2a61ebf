"""Cells on other machines: Ray, and SLURM job arrays through submitit.

Both engines queue, place and restart; here a cell is only handed over. The comparison's
folder must be the same folder on every machine: a cell that was stopped from outside
(its process or its worker killed, its node taken away) is run again, and ``fit`` goes
on from the newest checkpoint in that folder.
"""

import contextlib
import inspect
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from lmzoo.compare.jobs import Job, Launcher, Outcome, execute
from lmzoo.compare.local import Local
from lmzoo.compare.values import near
from lmzoo.errors import UsageError

Done = Callable[[Outcome], None]
SAVING = 120.0  # seconds that interrupted cells have to save
LOST = -1  # exit code of a cell whose engine does not know how it ended


class Stopped(Exception):
    """A cell was ended from outside; it may be run again."""


@dataclass(kw_only=True)
class Ray:
    """Cells as Ray tasks; a task takes as many CPUs as its cell has threads.

    Args:
        address: of a running cluster, "auto" for the one of this machine; "" starts one
            here, for as long as the comparison takes.
        num_gpus: for each cell; 0.25 lets four cells share one.
        max_retries: how often a cell that was stopped from outside is run again.

    Raises:
        UsageError: ray is not installed, a number below 0.
    """

    address: str = ""
    num_gpus: float = 0.0
    max_retries: int = 3

    def __post_init__(self) -> None:
        _require_counts(self, "num_gpus", "max_retries")
        self.ray = _engine("ray", "ray")

    def run(self, jobs: Sequence[Job], done: Done) -> None:
        """Run every job; ``done`` is called for each as it ends.

        Raises:
            UsageError: no cluster at the address, or a cell that no machine can hold.
        """
        with self._connected():
            self._require_room(jobs)
            waiting = {self._start(job): job.name for job in jobs}
            try:
                while waiting:
                    (ended,), _ = self.ray.wait(list(waiting))
                    done(self._outcome(waiting.pop(ended), ended))
            except BaseException:  # Ctrl-C: each cell saves before it ends
                for task in waiting:
                    self.ray.cancel(task)
                self.ray.wait(list(waiting), num_returns=len(waiting), timeout=SAVING)
                raise

    def _start(self, job: Job) -> Any:
        task = self.ray.remote(_ray_task).options(
            name=job.name,
            num_cpus=job.threads,
            num_gpus=self.num_gpus,
            max_retries=self.max_retries,
            retry_exceptions=[Stopped],
        )
        return task.remote(*_parcel(job))

    @contextlib.contextmanager
    def _connected(self):
        if self.ray.is_initialized():  # the caller's own connection stays the caller's
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
        own = {"include_dashboard": False, "num_cpus": os.cpu_count()}
        try:
            _require_listener(self.address)
            self.ray.init(
                address=self.address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if self.address else own),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"no Ray cluster at {self.address!r}: {_first_line(error)}; start one "
                f"with: ray start --head"
            ) from error
        try:
            yield
        finally:
            self.ray.shutdown()

    def _require_room(self, jobs: Sequence[Job]) -> None:
        """A task that fits nowhere would wait for ever."""
        most = max((job.threads for job in jobs), default=0)
        found = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        wanted = {"CPU": most, "GPU": self.num_gpus}
        if not any(all(n.get(k, 0) >= v for k, v in wanted.items()) for n in found):
            raise UsageError(
                f"no machine of the Ray cluster has {most} CPUs and {self.num_gpus:g} "
                f"GPUs for one cell; take fewer threads or fewer --launcher.num_gpus"
            )

    def _outcome(self, name: str, task: Any) -> Outcome:
        tried = _tried(self.max_retries)
        try:
            return self.ray.get(task)
        except Stopped as error:
            return Outcome(name, LOST, f"{_cause(error)}; {tried}")
        except self.ray.exceptions.WorkerCrashedError:
            return Outcome(name, LOST, f"its Ray worker died; {tried}")
        except self.ray.exceptions.RayError as error:
            return Outcome(name, LOST, _first_line(_cause(error)))


def _require_listener(address: str) -> None:
    """OSError where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass


@dataclass(kw_only=True)
class Slurm:
    """Cells as a SLURM job array, made by submitit; logs in ``slurm`` beside them.

    A job that SLURM preempts or that reaches its time is put back by submitit, and its
    cell goes on from the newest checkpoint.

    Args:
        partition: where the jobs go; "" is the cluster's default.
        time: minutes that one job may take.
        cpus: of a job; 0 takes as many as its cell has threads.
        gpus: of a job.
        array_parallelism: most jobs at a time.
        max_retries: how often a cell that was stopped from outside is run again.
        cluster: "slurm"; submitit's "local" runs each job as a process here, all at
            once, "debug" one after another in this process.

    Raises:
        UsageError: submitit is not installed, or a number below 0.
    """

    partition: str = ""
    time: int = 60
    cpus: int = 0
    gpus: int = 0
    array_parallelism: int = 256
    max_retries: int = 3
    cluster: str = "slurm"

    def __post_init__(self) -> None:
        _require_counts(
            self, "time", "cpus", "gpus", "array_parallelism", "max_retries"
        )
        if self.cluster not in ("slurm", "local", "debug"):
            raise UsageError(
                f"--launcher.cluster {self.cluster}: expected slurm, local or debug"
            )
        self.submitit = _engine("submitit", "slurm")

    def run(self, jobs: Sequence[Job], done: Done) -> None:
        """Run every job; ``done`` is called for each as it ends.

        Raises:
            UsageError: SLURM is not here, or refuses the array.
        """
        waiting = list(jobs)
        for left in reversed(range(self.max_retries + 1)):
            stopped = []
            for job, outcome in self._array(waiting):
                if left and (outcome.code == LOST or _stopped(outcome.code)):
                    stopped.append(job)
                else:
                    done(outcome)
            waiting = stopped
            if not waiting:
                return

    def _array(self, jobs: list[Job]):
        """Submit the jobs together; each with its outcome, as they end."""
        executor = self._executor(jobs)
        try:
            handed = executor.map_array(_cell, *zip(*map(_parcel, jobs), strict=True))
        except (
            RuntimeError,
            OSError,
            self.submitit.core.utils.FailedJobError,
        ) as error:
            raise UsageError(f"SLURM takes no jobs: {_first_line(error)}") from error
        job_of = {id(task): job for task, job in zip(handed, jobs, strict=True)}
        often = 10 if self.cluster == "slurm" else 0.2  # seconds between two looks
        ended = self.submitit.helpers.as_completed(handed, poll_frequency=often)
        left = set(job_of)
        try:
            for task in ended:
                left.discard(id(task))
                job = job_of[id(task)]
                yield job, self._outcome(job.name, task)
        finally:  # none unless something went wrong here
            for task in handed:
                if id(task) in left:
                    task.cancel()

    def _executor(self, jobs: list[Job]) -> Any:
        logs = jobs[0].folder.parent.absolute() / "slurm"
        try:
            executor = self.submitit.AutoExecutor(logs, cluster=self.cluster)
        except RuntimeError as error:  # no sbatch on this machine
            raise UsageError(f"no SLURM here: {_first_line(error)}") from error
        executor.update_parameters(
            name="lmzoo",
            timeout_min=self.time,
            cpus_per_task=self.cpus or max(job.threads for job in jobs),
            slurm_array_parallelism=self.array_parallelism,
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            **({"slurm_partition": self.partition} if self.partition else {}),
        )
        return executor

    def _outcome(self, name: str, task: Any) -> Outcome:
        errors = self.submitit.core.utils
        try:
            outcome = task.result()
        except errors.FailedJobError as error:  # raised in the cell's own process
            return Outcome(name, 1, _last_line(error))
        except errors.UncompletedJobError as error:  # ended without a word
            return Outcome(name, LOST, f"its job died: {_first_line(error)}")
        if _stopped(outcome.code):
            why = f"{_signal(outcome.code)}; {_tried(self.max_retries)}"
            return replace(outcome, reason=why)
        return outcome


LAUNCHERS: dict[str, Callable[..., Launcher]] = {
    "local": Local,
    "ray": Ray,
    "slurm": Slurm,
}


def launcher(name: str, parallel: int = 1, **options: Any) -> Launcher:
    """The launcher called ``name``.

    Args:
        name: local, ray or slurm.
        parallel: cells at a time, of a launcher that does not decide that by itself.
        options: its own, as values or as typed text.

    Raises:
        UsageError: no such launcher or option (the nearest is said), a value of another
            kind, or the engine is not installed.
    """
    if name not in LAUNCHERS:
        known = ", ".join(LAUNCHERS)
        raise UsageError(f"--launcher {name}: choose {known}{near(name, LAUNCHERS)}")
    signature = inspect.signature(LAUNCHERS[name]).parameters
    known = [key for key in signature if key != "parallel"]
    for key in options:
        if key not in known:
            raise UsageError(
                f"--launcher.{key}: the {name} launcher reads "
                f"{', '.join(known) or 'no options'}{near(key, known)}"
            )
    given = {key: _typed(key, signature[key], options[key]) for key in options}
    if "parallel" in signature:
        given["parallel"] = parallel
    elif parallel != 1:
        raise UsageError(
            f"--parallel {parallel}: with --launcher {name}, the machines that it has "
            f"decide how many cells run at a time; leave it out"
        )
    return LAUNCHERS[name](**given)


# ---- what runs on the other side -----------------------------------------------------


def _parcel(job: Job) -> tuple[Job, str]:
    """A job that runs alike elsewhere: whole paths, this process's own settings."""
    mine = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("LMZOO_") and not key.startswith("LMZOO_RUN_")
    }
    environment = {**mine, **job.environment}
    job = replace(job, folder=job.folder.absolute(), environment=environment)
    return job, str(Path.cwd())


def _cell(job: Job, folder: str) -> Outcome:
    """Run the job from ``folder``, where its relative paths mean what they meant."""
    with contextlib.chdir(folder):
        return execute(job, tied=True)


def _ray_task(job: Job, folder: str) -> Outcome:
    outcome = _cell(job, folder)
    if _stopped(outcome.code):
        raise Stopped(_signal(outcome.code))
    return outcome


def _stopped(code: int) -> bool:
    """Whether a signal ended the process; ``fit`` saves first and tells by 128 + it."""
    return code < 0 or code in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def _signal(code: int) -> str:
    number = -code if code < 0 else code - 128
    with contextlib.suppress(ValueError):
        return f"stopped by {signal.Signals(number).name}"
    return f"stopped by signal {number}"


# ---- words ---------------------------------------------------------------------------


def _engine(module: str, extra: str) -> ModuleType:
    try:
        if module == "ray":
            # optional: the ray extra
            import ray as engine
        else:
            # optional: the slurm extra
            import submitit as engine
    except ImportError as error:
        raise UsageError(
            f"--launcher {extra} needs the package {module}, which is not installed: "
            f"pip install 'lmzoo[{extra}]'"
        ) from error
    return engine


def _require_counts(owner: object, *names: str) -> None:
    for name in names:
        if getattr(owner, name) < 0:
            value = getattr(owner, name)
            raise UsageError(f"--launcher.{name} {value}: expected 0 or more")


def _typed(key: str, option: inspect.Parameter, value: Any) -> Any:
    """``value`` as the option's kind, from text if need be."""
    kind = option.annotation
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"--launcher.{key}: expected {kind.__name__}, given {value}"
        ) from error


def _tried(retries: int) -> str:
    return f"run {retries + 1} time{'s' if retries else ''}"


def _cause(error: BaseException) -> BaseException:
    """What was raised on the other side, out of Ray's wrapping."""
    return getattr(error, "cause", None) or error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
