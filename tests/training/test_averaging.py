"""The average is measured and saved; training goes on with the weights."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lmzoo import runs
from lmzoo.errors import UsageError
from lmzoo.training.averaging import AveragedWeights
from tests.cli.runner import SMALL, lmzoo
from tests.training.tiny import Successors, Tiny, trainer

DECAY = 0.3  # reached within the steps of these runs


class Watch(Callback):
    """Weights after each step and in each validation."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.measured: dict[int, Any] = {}
        self.sampled: dict[int, Any] = {}

    def on_train_batch_end(self, trainer, pl_module, *more: Any) -> None:
        self.steps.append(copy.deepcopy(pl_module.state_dict()))

    def on_validation_batch_start(self, trainer, pl_module, *more: Any) -> None:
        self.measured[trainer.global_step] = copy.deepcopy(pl_module.state_dict())

    def on_validation_end(self, trainer, pl_module) -> None:
        self.sampled[trainer.global_step] = copy.deepcopy(pl_module.state_dict())


def average(states: list[Any], name: str) -> torch.Tensor:
    found = states[0][name].double()
    for taken, state in enumerate(states[1:], start=1):
        decay = min(DECAY, (1 + taken) / (10 + taken))
        found = decay * found + (1 - decay) * state[name].double()
    return found


def trained(path: Path, *callbacks: Callback) -> Tiny:
    torch.manual_seed(0)
    model = Tiny(5, 4)
    loaders = {"train_dataloaders": Successors(8), "val_dataloaders": Successors(1)}
    trainer(path, max_steps=6, callbacks=list(callbacks), num_sanity_val_steps=0).fit(
        model, **loaders
    )
    return model


def test_what_is_measured_sampled_and_left_is_the_average(tmp_path: Path) -> None:
    watch, plain = Watch(), Watch()
    model = trained(tmp_path, watch, AveragedWeights(DECAY))
    trained(tmp_path, plain)
    for mine, other in zip(watch.steps, plain.steps, strict=True):
        for name, tensor in mine.items():  # training does not feel it
            assert torch.equal(tensor, other[name])
    assert list(watch.measured) == [2, 4, 6]
    for seen in (watch.measured, watch.sampled):
        for step, state in seen.items():
            for name, tensor in state.items():
                expected = average(watch.steps[:step], name)
                torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=0)
    name = "head.weight"
    assert torch.equal(model.state_dict()[name], watch.measured[6][name])
    assert (watch.measured[6][name] - watch.steps[-1][name]).abs().max() > 1e-4


def test_a_checkpoint_holds_the_average_and_what_training_goes_on_with(
    story: Path, tmp_path: Path
) -> None:
    line = (
        f"fit --model gpt {SMALL} --data.path {story} --trainer.max_steps 8 "
        f"--trainer.val_check_interval 4 --samples.length 0 --trainer.default_root_dir"
    )
    for name, more in (("ema", "--ema.decay 0.9"), ("plain", "")):
        result = lmzoo(f"{line} {tmp_path / name} {more}")
        assert result.code == 0, result.err
    ema, plain = (
        runs.read_checkpoint(tmp_path / name / "checkpoints" / runs.checkpoint_name(8))
        for name in ("ema", "plain")
    )
    for name, tensor in plain["state_dict"].items():
        assert torch.equal(tensor, ema["current_model_state"][name])
    assert any(
        not torch.equal(tensor, plain["state_dict"][name])
        for name, tensor in ema["state_dict"].items()
    )
    assert ema["lmzoo"]["training"]["ema.decay"] == 0.9
    assert "ema.decay" not in plain["lmzoo"]["training"]
    longer = line.replace("max_steps 8", "max_steps 10")
    changed = lmzoo(f"{longer} {tmp_path / 'plain'} --ema.decay 0.5")
    assert changed.code == 2
    assert "ema.decay" in changed.err


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(UsageError, match="give a share"):
        AveragedWeights(decay)
