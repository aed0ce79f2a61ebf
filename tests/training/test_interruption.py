"""Signals are noted, ignored ones stay ignored, a SLURM job goes back to its queue.

Several processes stop after the same step, and do not ask at every one.
"""

import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from lmzoo import runs
from lmzoo.training.checkpoints import Checkpoints
from lmzoo.training.interruption import EVERY, SAME, Interrupted, Interruption
from tests.cli.runner import SMALL
from tests.processes import together

STEPS, TOLD, VALIDATED = 20, 3, 10


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def interruption(clock: list[float]):
    made = Interruption(lambda: clock[0])
    yield made
    made.restore()


def trainer(cluster, world_size: int = 1) -> SimpleNamespace:
    connector = SimpleNamespace(cluster_environment=cluster)
    return SimpleNamespace(
        world_size=world_size,
        is_global_zero=True,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace()),
        _signal_connector=SimpleNamespace(),
        _accelerator_connector=connector,
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_the_first_is_noted_the_second_stops(
    name: str, interruption, clock: list[float], capfd
) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # nohup may have had one ignored
    interruption.install(trainer(LightningEnvironment()))
    interruption.saves = True
    assert not interruption.pending(trainer(LightningEnvironment()))
    os.kill(os.getpid(), number)
    assert interruption.pending(trainer(LightningEnvironment()))
    assert "finishing this step" in capfd.readouterr().err
    clock[0] = SAME / 2
    os.kill(os.getpid(), number)  # two tell the same: no second request
    clock[0], second = SAME, number
    if name == "SIGHUP":  # a terminal is closed once
        os.kill(os.getpid(), number)
        second = signal.SIGTERM
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), second)
    assert ended.value.code == 128 + second
    assert signal.getsignal(number) == signal.SIG_DFL
    signal.signal(number, before)


def test_another_signal_is_another_request(interruption) -> None:
    interruption.install(trainer(LightningEnvironment()))
    interruption.saves = True
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143


def test_where_nothing_is_to_be_saved_the_first_stops(interruption, capfd) -> None:
    interruption.install(trainer(LightningEnvironment()))
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert capfd.readouterr().err == ""


def test_of_several_processes_none_leaves_a_pass(interruption, capfd) -> None:
    interruption.install(trainer(LightningEnvironment(), world_size=2))
    os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.received == signal.SIGTERM
    assert "finishing this pass" in capfd.readouterr().err


def test_lightning_takes_no_signal_away(interruption, tmp_path: Path) -> None:
    options = {"accelerator": "cpu", "logger": False, "default_root_dir": tmp_path}
    plain, mine = Trainer(**options), Trainer(**options)
    interruption.install(mine)
    mine._signal_connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) == interruption._note
    plain._signal_connector.register_signal_handlers()  # the control
    assert signal.getsignal(signal.SIGTERM) != interruption._note
    plain._signal_connector.teardown()


def test_a_closed_terminal_that_is_ignored_stays_ignored(interruption) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        interruption.install(trainer(LightningEnvironment()))
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


def asked() -> None:
    """Have a process say after which steps it asked the others."""
    ask, broadcast = DDPStrategy.reduce_boolean_decision, torch.distributed.broadcast

    def spy(self: DDPStrategy, decision: bool, all: bool = True) -> bool:
        print(f"\nasked {self.lightning_module.trainer.global_step}")
        return ask(self, decision, all)

    def told(*args: object, **more: object) -> object:
        print("\nbroadcast")
        return broadcast(*args, **more)  # type: ignore[arg-type]

    DDPStrategy.reduce_boolean_decision = spy  # type: ignore[method-assign]
    torch.distributed.broadcast = told  # type: ignore[assignment]


def killed() -> None:
    """Have the second of two processes told to stop during a step between."""
    asked()
    end = Checkpoints.on_train_batch_end

    def spy(self: Checkpoints, trainer, *rest) -> None:  # type: ignore[no-untyped-def]
        if trainer.global_rank and trainer.global_step == TOLD:
            os.kill(os.getpid(), signal.SIGTERM)
        end(self, trainer, *rest)

    Checkpoints.on_train_batch_end = spy  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> str:
    text = tmp_path_factory.mktemp("text") / "story.txt"
    text.write_text("".join(f"{n} foxes jump over {n * n} dogs\n" for n in range(150)))
    return (
        f"fit --model gpt {SMALL} --data.path {text} --trainer.max_steps {STEPS} "
        f"--trainer.val_check_interval {VALIDATED} --trainer.accelerator cpu "
        "--trainer.devices 2 --trainer.strategy ddp --trainer.default_root_dir "
    )


def numbers(log: Path) -> list[int]:
    return [int(step) for step in re.findall(r"asked (\d+)", log.read_text())]


def test_they_stop_together_save_and_go_on_exactly(
    command: str, tmp_path: Path
) -> None:
    whole, told = tmp_path / "whole", tmp_path / "told"
    assert together(command + str(whole), 2, tmp_path / "a", asked) == [0, 0]
    # beside the questions of this file, those that end a run
    questions = [step for step in numbers(tmp_path / "a.0") if step < STEPS]
    assert sorted(set(questions)) == sorted([EVERY, VALIDATED, 2 * EVERY])
    assert (tmp_path / "a.0").read_text().count("broadcast") < STEPS / 2

    assert together(command + str(told), 2, tmp_path / "b", killed) == [143, 143]
    newest = runs.newest_first(told)[0]
    assert int(newest.stem[5:]) == EVERY
    assert f"goes on after step {EVERY}" in (tmp_path / "b.0").read_text()
    assert set(numbers(tmp_path / "b.0")) == {EVERY}

    assert together(command + str(told), 2, tmp_path / "c") == [0, 0]
    mine, other = (
        runs.read_checkpoint(folder / "checkpoints" / runs.checkpoint_name(STEPS))
        for folder in (told, whole)
    )
    for name, tensor in other["state_dict"].items():
        assert torch.equal(mine["state_dict"][name], tensor)
