"""Cells as tasks of a Ray cluster, which queues, places and restarts them."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

SAVING = 120.0  # seconds that interrupted cells have to save


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
        require_counts(self, "num_gpus", "max_retries")
        self.ray = engine("ray", "ray")

    def run(self, jobs: Sequence[Job], done: Callable[[Outcome], None]) -> None:
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
        return task.remote(*parcel(job))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        if self.ray.is_initialized():  # the caller's own connection stays the caller's
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
        own = {"include_dashboard": False, "num_cpus": os.cpu_count()}
        before = signal.getsignal(signal.SIGTERM)
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
                f"no Ray cluster at {self.address!r}: {first_line(error)}; start one "
                f"with: ray start --head"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own aborts
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
        often = tried(self.max_retries)
        try:
            return self.ray.get(task)
        except Stopped as error:
            return Outcome(name, LOST, f"{_cause(error)}; {often}")
        except self.ray.exceptions.WorkerCrashedError:
            return Outcome(name, LOST, f"its Ray worker died; {often}")
        except self.ray.exceptions.RayError as error:
            return Outcome(name, LOST, first_line(_cause(error)))


def _require_listener(address: str) -> None:
    """OSError where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass


def _ray_task(job: Job, folder: str) -> Outcome:
    outcome = run_cell(job, folder)
    if was_stopped(outcome.code):
        raise Stopped(told_by(outcome.code))
    return outcome


def _cause(error: BaseException) -> BaseException:
    """What was raised on the other side, out of Ray's wrapping."""
    return getattr(error, "cause", None) or error
