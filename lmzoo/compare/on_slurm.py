"""Cells as a SLURM job array, made and watched by submitit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmzoo.compare.elsewhere import (
    LOST,
    engine,
    first_line,
    parcel,
    require_counts,
    run_cell,
    told_by,
    tried,
    was_stopped,
)
from lmzoo.compare.jobs import Job, Outcome
from lmzoo.errors import UsageError


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
        require_counts(self, "time", "cpus", "gpus", "array_parallelism", "max_retries")
        if self.cluster not in ("slurm", "local", "debug"):
            raise UsageError(
                f"--launcher.cluster {self.cluster}: expected slurm, local or debug"
            )
        self.submitit = engine("submitit", "slurm")

    def run(self, jobs: Sequence[Job], done: Callable[[Outcome], None]) -> None:
        """Run every job; ``done`` is called for each as it ends.

        Raises:
            UsageError: SLURM is not here, or refuses the array.
        """
        waiting = list(jobs)
        for left in reversed(range(self.max_retries + 1)):
            stopped = []
            for job, outcome in self._array(waiting):
                if left and (outcome.code == LOST or was_stopped(outcome.code)):
                    stopped.append(job)
                else:
                    done(outcome)
            waiting = stopped
            if not waiting:
                return

    def _array(self, jobs: list[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Submit the jobs together; each with its outcome, as they end."""
        executor = self._executor(jobs)
        try:
            handed = executor.map_array(run_cell, *zip(*map(parcel, jobs), strict=True))
        except (
            RuntimeError,
            OSError,
            self.submitit.core.utils.FailedJobError,
        ) as error:
            raise UsageError(f"SLURM takes no jobs: {first_line(error)}") from error
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
            raise UsageError(f"no SLURM here: {first_line(error)}") from error
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
            return Outcome(name, LOST, f"its job died: {first_line(error)}")
        if was_stopped(outcome.code):
            why = f"{told_by(outcome.code)}; {tried(self.max_retries)}"
            return replace(outcome, reason=why)
        return outcome


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
