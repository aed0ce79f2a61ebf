"""Cells on Ray and on submitit: the same numbers as here, killed or not."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmzoo.compare.elsewhere import LOST
from lmzoo.compare.jobs import Job, Launcher, Outcome
from lmzoo.compare.launchers import Ray, Slurm, launcher
from lmzoo.errors import UsageError
from tests.cli.runner import SMALL, lmzoo
from tests.processes import gone

STEPS = 30
MISTAKES = [
    ("ry", {}, "--launcher ry: choose local, ray, slurm; did you mean 'ray'?"),
    ("ray", {"adress": "auto"}, "--launcher.adress: the ray launcher reads address, "),
    ("ray", {"partition": "gpu"}, "reads address, num_gpus, max_retries"),
    ("ray", {"num_gpus": "half"}, "--launcher.num_gpus: expected float, given half"),
    ("ray", {"max_retries": -1}, "--launcher.max_retries -1: expected 0 or more"),
    ("slurm", {"tme": 5}, "did you mean 'time'?"),
    ("slurm", {"time": "soon"}, "--launcher.time: expected int, given soon"),
    ("ray", {"parallel": 2}, "--parallel 2: with --launcher ray, the machines that"),
    ("local", {"address": "auto"}, "--launcher.address: the local launcher reads no"),
    ("slurm", {"cluster": "pbs"}, "pbs: expected slurm, local or debug"),
]


def cells(story: Path, folder: Path) -> list[Job]:
    """Two cells of a comparison, the same but for the seed."""
    return [cell(story, folder / "cells", seed) for seed in (1, 2)]


def cell(story: Path, folder: Path, seed: int) -> Job:
    name = f"gpt-{seed}"
    line = (
        f"fit --model gpt {SMALL} --model.dropout 0.1 --data.path {story} "
        f"--seed_everything {seed} --trainer.max_steps {STEPS} "
        f"--trainer.val_check_interval 10 --checkpoints.every_n_steps 5 "
        f"--trainer.default_root_dir {folder / name}"
    )
    return Job(name, tuple(line.split()), folder / name, threads=1)


def run(engine: Launcher, jobs: Sequence[Job]) -> dict[str, Outcome]:
    """Run the jobs; their outcomes by name, each told once and from this thread."""
    told: dict[str, Outcome] = {}
    here = threading.get_ident()

    def done(outcome: Outcome) -> None:
        assert threading.get_ident() == here
        assert outcome.name not in told
        told[outcome.name] = outcome

    engine.run(jobs, done)
    assert set(told) == {job.name for job in jobs}
    return told


def numbers(job: Job) -> dict[str, Any]:
    """What a cell found out, without what the clock and the machine say."""
    summary = json.loads((job.folder / "summary.json").read_text())
    manifest = json.loads((job.folder / "manifest.json").read_text())
    curve = (job.folder / "metrics.csv").read_text().splitlines()
    assert manifest["identity"]["seed_everything"] == int(job.name[-1])
    return {
        "best": summary["best"]["metrics"]["nll"],
        "last": summary["last"]["metrics"]["nll"],
        "steps": summary["steps"],
        "rows": len(curve),
    }


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text of all cells."""
    lines = ("the quick brown fox jumps over the lazy dog", "pack my box with jugs")
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text("".join(f"{lines[n % 3 == 0]}\n" for n in range(200)))
    return path


@pytest.fixture(scope="module")
def expected(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers of each cell, run in this process."""
    jobs = cells(text, tmp_path_factory.mktemp("here"))
    for job in jobs:
        result = lmzoo(list(job.argv))
        assert result.code == 0, result.err
    found = {job.name: numbers(job) for job in jobs}
    assert found["gpt-1"]["best"] != found["gpt-2"]["best"]  # the control of equality
    return found


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray cluster of two CPUs on the loopback, with nothing running."""
    ray = pytest.importorskip("ray", reason="needs the ray extra")
    before = dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    yield ray
    ray.shutdown()
    os.environ.clear()
    os.environ |= before


MORTAL = """
import os
import signal
from pathlib import Path

from lmzoo.training.checkpoints import VerifiedCheckpointIO

save, died = VerifiedCheckpointIO.save_checkpoint, Path(__file__ + ".died")


def save_and_die(self, checkpoint, path, storage_options=None):
    save(self, checkpoint, path, storage_options)
    if not died.exists():
        died.touch()
        os.kill(os.{whom}(), signal.SIGKILL)
        signal.pause()  # until whoever looks after the cell ends it


VerifiedCheckpointIO.save_checkpoint = save_and_die
"""


def mortal(job: Job, folder: Path, whom: str = "getpid") -> Job:
    """The cell, which kills itself (or what runs it) at its first checkpoint, once."""
    plugin = folder / f"{job.name}_{whom}.py"
    plugin.write_text(MORTAL.format(whom=whom))
    return replace(job, argv=(*job.argv, "--plugin", str(plugin)))


def mortals(text: Path, folder: Path) -> list[Job]:
    """Two cells: the first is killed, of the second what runs it."""
    first, second = cells(text, folder)
    return [mortal(first, folder), mortal(second, folder, "getppid")]


def log(job: Job) -> str:
    return (job.folder / "log.txt").read_text()


def test_nobody_at_the_address_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the ray extra")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

    with pytest.raises(UsageError, match=f"no Ray cluster at '{address}'"):
        run(Ray(address=address), [Job("a", ("models",), tmp_path / "a")])


needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="ties a process to what started it"
)


@needs_linux
def test_cells_killed_on_ray_are_retried_and_find_the_same_numbers(
    ray: Any, text: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    jobs = mortals(text, tmp_path)

    told = run(Ray(), jobs)

    assert all(outcome.code == 0 for outcome in told.values()), told
    for job in jobs:
        assert "resum" in log(job)
    assert {job.name: numbers(job) for job in jobs} == expected
    assert ray.is_initialized()  # a connection that was there is left there


@needs_linux
def test_without_retries_a_killed_cell_has_failed(
    ray: Any, text: Path, tmp_path: Path
) -> None:
    jobs = mortals(text, tmp_path)

    told = run(Ray(max_retries=0), jobs)

    reasons = {outcome.name: outcome.reason for outcome in told.values()}
    assert reasons == {
        "gpt-1": "stopped by SIGKILL; run 1 time",
        "gpt-2": "its Ray worker died; run 1 time",
    }
    for job in jobs:
        assert told[job.name].code == LOST
        assert not (job.folder / "summary.json").exists()
        assert "resum" not in log(job)


def test_a_mistake_is_not_retried(ray: Any, tmp_path: Path) -> None:
    job = Job("bad", ("fit", "--model", "gtp"), tmp_path / "bad")

    told = run(Ray(), [job])["bad"]

    assert told.code == 2
    assert "did you mean 'gpt'" in told.reason
    assert log(job).count("error: ") == 1


def test_a_cell_too_large_for_the_cluster_is_refused(ray: Any, tmp_path: Path) -> None:
    job = Job("wide", ("models",), tmp_path / "wide", threads=3)

    with pytest.raises(UsageError, match="no machine of the Ray cluster has 3 CPUs"):
        run(Ray(), [job])
    with pytest.raises(UsageError, match=r"0\.5 GPUs"):
        run(Ray(num_gpus=0.5), [Job("gpu", ("models",), tmp_path / "gpu")])


def test_submitit_finds_the_same_numbers(
    text: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    pytest.importorskip("submitit", reason="needs the slurm extra")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    first, second = cells(text, tmp_path)
    jobs = [mortal(first, tmp_path), second]

    told = run(Slurm(cluster="local"), jobs)

    assert all(outcome.code == 0 for outcome in told.values()), told
    assert "resum" in log(jobs[0])
    assert "resum" not in log(jobs[1])
    assert {job.name: numbers(job) for job in jobs} == expected


def test_without_slurm_one_line_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("submitit", reason="needs the slurm extra")
    monkeypatch.setenv("PATH", str(tmp_path))
    job = Job("a", ("models",), tmp_path / "cells" / "a")

    with pytest.raises(UsageError, match="no SLURM here"):
        run(Slurm(), [job])


@pytest.mark.parametrize(("name", "options", "said"), MISTAKES)
def test_mistakes_are_one_line(name: str, options: dict, said: str) -> None:
    pytest.importorskip({"slurm": "submitit"}.get(name, "ray"))
    with pytest.raises(UsageError) as caught:
        launcher(name, **options)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_typed_options_become_values() -> None:
    pytest.importorskip("ray")
    assert launcher("local", 2).parallel == 2  # type: ignore[attr-defined]
    made = launcher("ray", address="auto", num_gpus="0.25", max_retries="1")

    assert made == Ray(address="auto", num_gpus=0.25, max_retries=1)


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_engine_names_its_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(UsageError, match=rf"pip install 'lmzoo\[{name}\]'"):
        launcher(name)


@needs_linux
def test_a_tied_process_dies_with_what_started_it(tmp_path: Path) -> None:
    """The control, untied, goes on."""
    for tied in (True, False):
        folder = tmp_path / str(tied)
        line = (
            "from pathlib import Path; import os, sys;"
            "from lmzoo.compare import jobs;"
            "jobs.sys.executable = sys.argv[2];"
            f"jobs.execute(jobs.Job('a', (), Path(sys.argv[1])), tied={tied})"
        )
        sleeper = tmp_path / "sleeper"
        sleeper.write_text("#!/bin/sh\necho $$\nexec sleep 60\n")
        sleeper.chmod(0o755)
        words = [sys.executable, "-c", line, str(folder), str(sleeper)]
        with subprocess.Popen(words) as starter:
            child = first_number(folder / "log.txt")
            starter.kill()
        if tied:
            assert gone(child)
        else:
            os.kill(child, signal.SIGKILL)  # it was still there


def first_number(file: Path) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(file.read_text().splitlines()[-1])
        time.sleep(0.01)
    raise AssertionError(f"{file} stays empty")
