"""Held on the device: nothing is updated from the bad step on, and it is named.

The flag that a GPU's fused optimizer heeds is heeded by the CPU's as well, so all but
the absence of waiting is shown here.
"""

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.models import divergence
from lmzoo.models.divergence import Watch, can_hold
from tests.training.tiny import Successors, Tiny, trainer

BAD = 7  # steps before the one whose gradient is spoilt


class Spoils(Callback):
    """Spoils one gradient, and keeps the weights that stood before every step."""

    def __init__(self, bad: int | None) -> None:
        self.bad, self.seen = bad, []

    def on_after_backward(self, trainer, pl_module) -> None:
        weight = pl_module.head.weight
        self.seen.append(weight.detach().clone())
        if trainer.global_step == self.bad:
            weight.grad[0, 0] = float("nan")


def run(tmp_path, bad: int | None, **options) -> tuple[Tiny, Spoils]:
    torch.manual_seed(0)
    model, spoils = Tiny(5), Spoils(bad)
    fit = trainer(tmp_path, callbacks=[spoils], gradient_clip_val=1.0, **options)
    try:
        fit.fit(model, Successors(20), Successors(2))
    except UsageError as error:
        spoils.error = str(error)
    else:
        spoils.error = ""
    return model, spoils


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "can_hold", lambda optimizer, norm: True)


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    ("every", "validated", "steps"),
    [(5, 20, 10), (50, 12, 12), (50, 50, 20)],
    ids=["at a row", "at a validation", "at the end"],
)
def test_the_weights_are_those_before_the_bad_step(
    tmp_path, every: int, validated: int, steps: int
) -> None:
    options = {"log_every_n_steps": every, "limit_val_batches": validated != 50}
    if validated != 50:
        options["val_check_interval"] = validated
    model, spoils = run(tmp_path, BAD, **options)
    assert f"not finite at step {BAD + 1};" in spoils.error
    assert len(spoils.seen) == steps  # it was told no sooner and no later
    assert torch.equal(model.head.weight, spoils.seen[BAD])
    assert not torch.equal(spoils.seen[BAD], spoils.seen[BAD - 1])  # the control
    optimizer = model.optimizers(use_pl_optimizer=False)
    states = optimizer.state.values()
    assert {int(state["step"]) for state in states} == {BAD}
    assert all(state["exp_avg"].isfinite().all() for state in states)


@pytest.mark.usefixtures("held")
def test_without_a_bad_step_it_trains_as_it_does_otherwise(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, spoils = run(tmp_path, None)
    assert not spoils.error
    monkeypatch.setattr(divergence, "can_hold", can_hold)
    other, _ = run(tmp_path, None)
    assert torch.equal(one.head.weight, other.head.weight)


def test_on_a_cpu_it_stops_at_once(tmp_path) -> None:
    model, spoils = run(tmp_path, BAD, log_every_n_steps=50)
    assert f"not finite at step {BAD + 1};" in spoils.error
    assert len(spoils.seen) == BAD + 1
    assert torch.equal(model.head.weight, spoils.seen[BAD])


def test_only_what_heeds_the_flag_is_held() -> None:
    weight = [torch.nn.Parameter(torch.ones(2))]
    fused, plain = (torch.optim.AdamW(weight, fused=fused) for fused in (True, False))
    norm = torch.ones(())
    assert not can_hold(fused, norm)  # a CPU's norm costs nothing to look at

    class OnGPU:
        is_cuda = True

    gpu: Tensor = OnGPU()  # type: ignore[assignment]
    assert can_hold(fused, gpu)
    assert not can_hold(plain, gpu)


def test_the_first_bad_step_is_named_once() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], fused=True)
    watch = Watch()
    assert watch.held_since() is None
    for step, norm in enumerate([1.0, float("inf"), 1.0, float("nan")]):
        watch.hold(optimizer, torch.tensor(norm), step)
    assert watch.held_since() == 1
    assert watch.held_since() is None
