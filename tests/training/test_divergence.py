"""Weights that are not finite are not saved; a spike is taken back."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lmzoo import runs
from lmzoo.errors import Diverged, UsageError
from lmzoo.training.divergence import SpikeGuard, require_finite
from tests.cli.runner import SMALL, fit, lmzoo


def holder(value: float) -> SimpleNamespace:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = value
    return SimpleNamespace(lightning_module=model, world_size=1, global_step=7)


def test_weights_that_are_not_finite_are_refused() -> None:
    require_finite(holder(1e30))
    for value in (float("nan"), float("inf")):
        with pytest.raises(Diverged, match="after step 7; they were not saved"):
            require_finite(holder(value))


@pytest.mark.parametrize(
    "wrong",
    [{"deviations": 0.0}, {"window": 0}, {"back": 0}, {"skip": 0}, {"most": -1}],
)
def test_numbers_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SpikeGuard(**wrong)


def test_a_spike_is_far_above_what_was_before() -> None:
    guard = SpikeGuard(enabled=True, window=30)
    guard._losses = [3.0 - 0.01 * n for n in range(19)]
    assert not guard._is_spike(100.0)  # too few to tell
    guard._losses.append(2.8)
    assert guard._is_spike(100.0)
    assert guard._is_spike(3.5)
    assert not guard._is_spike(3.1)
    guard._losses = [2.0] * 30  # no deviation at all: 2 % of the mean is one
    assert not guard._is_spike(2.2)
    assert guard._is_spike(2.3)


LINE = (
    "--trainer.max_steps 20 --trainer.val_check_interval 10 "
    "--trainer.log_every_n_steps 20 --checkpoints.every_n_steps 15 "
)
GUARD = "--spike_guard.enabled true --spike_guard.window 8 --spike_guard.back 5 "


def poison(monkeypatch, positions: set[int]) -> list[int]:
    """Batches at ``positions`` cost fifty times as much; what is trained on."""
    from lmzoo.models.steps import TrainingSteps

    plain, seen = TrainingSteps.training_step, []

    def stepped(self, batch, index):
        seen.append(batch.position)
        loss = plain(self, batch, index)
        return loss * 50 if batch.position in positions else loss

    monkeypatch.setattr(TrainingSteps, "training_step", stepped)
    return seen


def test_a_spike_is_rolled_back_and_the_text_after_it_left_out(
    story: Path, tmp_path: Path, monkeypatch
) -> None:
    seen = poison(monkeypatch, {4 * 14})  # the batch of step 15
    folder = tmp_path / "r"
    told = fit(f"{LINE}{GUARD}--spike_guard.skip 3 --data.path {story} "
               f"--trainer.default_root_dir {folder}").err  # fmt: skip
    assert "the loss of step 15, " in told
    assert "back to the weights of step 10" in told
    after = runs.read_checkpoint(folder / "checkpoints" / runs.checkpoint_name(15))
    before = runs.read_tensors(folder / "rollback" / runs.checkpoint_name(10))
    for name, tensor in before["state_dict"].items():
        assert torch.equal(tensor, after["state_dict"][name])
    # one batch was fetched before the spike was seen, the three after it are left out
    assert seen == [4 * n for n in [*range(16), *range(19, 23)]]


def test_what_is_gone_back_to_is_looked_at_first(
    story: Path, tmp_path: Path, monkeypatch
) -> None:
    """A fused optimizer would write past the end of an average that is too short."""
    folder = tmp_path / "r"
    line = f"{LINE}{GUARD}--data.path {story} --trainer.default_root_dir {folder}"
    fit(line.replace("max_steps 20", "max_steps 12"))
    kept = folder / "rollback" / runs.checkpoint_name(10)
    content = runs.read_tensors(kept)
    for state in content["optimizer_states"][0]["state"].values():
        state["exp_avg"] = state["exp_avg"].flatten()[:1].clone()
    runs.write_checkpoint(content, kept)
    poison(monkeypatch, {4 * 14})

    result = lmzoo(f"fit --model gpt {SMALL} {line}")

    assert result.code == 2
    assert f"{kept}: its state of training cannot be taken up (exp_avg" in result.err


def test_without_the_guard_it_is_trained_on(
    story: Path, tmp_path: Path, monkeypatch
) -> None:
    seen = poison(monkeypatch, {4 * 14})
    folder = tmp_path / "r"
    fit(f"{LINE}--data.path {story} --trainer.default_root_dir {folder}")
    assert seen == [4 * n for n in range(20)]
    assert not (folder / "rollback").exists()


def test_too_many_spikes_end_the_run(story: Path, tmp_path: Path, monkeypatch) -> None:
    poison(monkeypatch, {4 * n for n in range(14, 99)})
    result = lmzoo(
        f"fit --model ff --samples.length 4 --model.context_length 16 "
        f"--data.batch_size 4 {LINE}{GUARD}--spike_guard.skip 1 --spike_guard.most 2 "
        f"--data.path {story} --trainer.default_root_dir {tmp_path / 'r'}"
    )
    assert result.code == 2
    assert "--spike_guard.most 2 were rolled back before it" in result.err
    assert "kept: the last checkpoint" in result.err


def test_a_carried_state_is_refused(story: Path, tmp_path: Path) -> None:
    result = lmzoo(
        f"fit --model lstm --model.carry_state true {GUARD}--data.path {story} "
        f"--trainer.default_root_dir {tmp_path / 'r'}"
    )
    assert result.code == 2
    assert "--spike_guard.enabled" in result.err
    assert not (tmp_path / "r").exists()


def test_data_that_cannot_be_left_out_is_refused() -> None:
    guard, model = SpikeGuard(enabled=True), SimpleNamespace(carry_state=False)
    with pytest.raises(UsageError, match="labelled texts"):
        guard.require(model, object())
    SpikeGuard().require(model, object())  # the control: switched off


def test_what_does_not_roll_back_is_refused() -> None:
    model = SimpleNamespace(carry_state=False)
    plain = SimpleNamespace(leave_out=None, batch_size_schedule=None)
    grows = SimpleNamespace(leave_out=None, batch_size_schedule={2: 8})
    guard = SpikeGuard(enabled=True)
    for data, averaged in ((plain, True), (grows, False)):
        with pytest.raises(UsageError, match="rolled back"):
            guard.require(model, data, averaged)
    guard.require(model, plain)  # the control: neither
