"""Signals are noted, ignored ones stay ignored, a SLURM job goes back to its queue."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from lmzoo.training.interruption import Interrupted, Interruption


@pytest.fixture
def interruption():
    made = Interruption()
    yield made
    made.restore()


def trainer(cluster) -> SimpleNamespace:
    connector = SimpleNamespace(cluster_environment=cluster)
    return SimpleNamespace(
        world_size=1, is_global_zero=True, _accelerator_connector=connector
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_the_first_is_noted_the_second_stops(name: str, interruption, capfd) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    interruption.install()
    assert not interruption.pending(trainer(LightningEnvironment()))
    os.kill(os.getpid(), number)
    assert interruption.pending(trainer(LightningEnvironment()))
    assert "finishing this step" in capfd.readouterr().err
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == before


def test_a_closed_terminal_that_is_ignored_stays_ignored(interruption) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        interruption.install()
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.received
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("array", [False, True])
def test_a_slurm_job_goes_back_into_the_queue(
    array: bool, interruption, tmp_path: Path, monkeypatch, capsys
) -> None:
    said = tmp_path / "said"
    script = tmp_path / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" > {said}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    if array:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    slurm = trainer(SLURMEnvironment())

    interruption.received = signal.SIGTERM  # the control: no announced end
    with pytest.raises(Interrupted):
        interruption.stop(slurm)
    assert not said.exists()

    interruption.received = signal.SIGUSR1
    with pytest.raises(Interrupted) as ended:
        interruption.stop(slurm)
    assert ended.value.code == 128 + signal.SIGUSR1
    assert said.read_text().split() == ["requeue", "70_3" if array else "77"]
    assert "in the queue again" in capsys.readouterr().err

    script.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Interrupted):
        interruption.stop(slurm)
    assert "could not be put back" in capsys.readouterr().err
