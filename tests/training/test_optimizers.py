"""The schedule as a function of the step, and optimizers by class path."""

import copy

import pytest
import torch
from torch import nn

from lmzoo.errors import UsageError
from lmzoo.models.gpt import GPT
from lmzoo.models.recurrent import LSTM
from lmzoo.registry import models
from lmzoo.training.freezing import Freezing
from lmzoo.training.optimizers import WarmupCosine, hidden_matrices, use

MUON = {
    "class_path": "lmzoo.training.muon.Muon",
    "init_args": {"lr": 0.01, "adamw_lr": 0.002},
}


def rates(steps: int, **arguments) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = WarmupCosine(optimizer, total_steps=steps, **arguments)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_it_warms_up_then_falls_to_the_final_ratio() -> None:
    seen = rates(100, warmup_steps=10, final_ratio=0.1)
    assert seen[:10] == sorted(seen[:10])
    assert seen[10] == pytest.approx(2.0)
    assert seen[10:] == sorted(seen[10:], reverse=True)
    assert seen[-1] == pytest.approx(0.2, abs=0.01)
    assert seen[55] == pytest.approx(2.0 * (0.1 + 0.9 / 2))  # halfway down


def test_a_short_run_still_warms_up_and_cools_down() -> None:
    seen = rates(10, warmup_steps=60)
    assert max(seen) == pytest.approx(2.0)
    assert seen[-1] < seen[2]


def test_state_takes_the_position_and_keeps_the_new_length() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    first = WarmupCosine(optimizer, total_steps=100, warmup_steps=0)
    for _ in range(50):
        optimizer.step()
        first.step()
    longer = WarmupCosine(optimizer, total_steps=200, warmup_steps=0)
    longer.load_state_dict(first.state_dict())
    assert longer.last_epoch == 50
    assert optimizer.param_groups[0]["lr"] == pytest.approx(longer.factor(50))


def test_decay_falls_on_matrices_only() -> None:
    model = LSTM(vocab_size=7, context_length=8, d_model=4, d_hidden=4)
    use(model, {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}, None)
    optimizer = model.configure_optimizers()
    decay = {
        id(p): group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        assert (decay[id(parameter)] > 0) == (parameter.ndim >= 2), name


def test_an_optimizers_refusal_is_one_line() -> None:
    model = LSTM(vocab_size=7, context_length=8, d_model=4, d_hidden=4)
    use(model, {"class_path": "torch.optim.AdamW", "init_args": {"lr": -1.0}}, None)
    with pytest.raises(UsageError, match="learning rate"):
        model.configure_optimizers()


def test_matrices_of_the_blocks_go_to_muon_and_all_else_to_adamw() -> None:
    model = GPT(7, 8, d_model=8, num_layers=2, num_heads=2)
    use(model, MUON, None)
    optimizer = model.configure_optimizers()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [
        ({names[id(p)] for p in group["params"]}, group)
        for group in optimizer.param_groups
    ]
    hidden = set().union(*(mine for mine, group in groups if group["muon"]))
    assert hidden == {
        name
        for name, p in model.named_parameters()
        if name.startswith("layers") and p.ndim == 2
    }
    assert set().union(*(mine for mine, _ in groups)) == set(names.values())
    assert {group["lr"] for _, group in groups if group["muon"]} == {0.01}
    assert {group["lr"] for _, group in groups if not group["muon"]} == {0.002}


def test_a_copy_of_a_model_gets_an_optimizer_of_its_own() -> None:
    model = GPT(7, 8, d_model=8, num_layers=1, num_heads=2)
    use(model, MUON, None)
    other = copy.deepcopy(model)  # as a rehearsal of a budget makes one
    groups = other.configure_optimizers().param_groups
    assert any(group["muon"] for group in groups)
    own = {id(p) for p in other.parameters()}
    assert {id(p) for group in groups for p in group["params"]} == own


def test_a_share_of_the_rate_and_frozen_parts_hold_for_muon_too() -> None:
    model = GPT(7, 8, d_model=8, num_layers=2, num_heads=2)
    Freezing(blocks=1, rates={"*mlp*": 0.1}).apply(model)
    use(model, MUON, None)
    optimizer = model.configure_optimizers()
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {
        names[id(p)]: group["lr"] for group in optimizer.param_groups
        for p in group["params"]
    }  # fmt: skip
    assert not any(name.startswith("layers.0") for name in rates)
    assert rates["layers.1.mlp.expand.weight"] == pytest.approx(0.001)
    assert rates["layers.1.mlp.expand.bias"] == pytest.approx(0.0002)
    assert rates["layers.1.attention.qkv.weight"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("name", "arguments", "stacks"),
    [("gpt", {"num_heads": 2}, 3), ("lstm", {}, 4), ("gru", {}, 3), ("rnn", {}, 1)],
)
def test_fused_matrices_say_their_parts(
    name: str, arguments: dict, stacks: int
) -> None:
    model = models.load(name)(7, 8, d_model=8, num_layers=1, **arguments)
    rows = hidden_matrices(model)
    names = {id(p): key for key, p in model.named_parameters()}
    fused = [
        r for p, r in rows.items() if "qkv" in names[id(p)] or "l0" in names[id(p)]
    ]
    assert fused
    assert all(len(r) == stacks for r in fused)
    assert all(sum(r) == len(p) for p, r in rows.items())


def test_muon_without_a_matrix_to_orthogonalise_is_refused_in_one_line() -> None:
    model = GPT(7, 8, d_model=8, num_layers=1, num_heads=2)
    Freezing(all_but_head=True).apply(model)
    use(model, MUON, None)
    with pytest.raises(UsageError, match="nothing to orthogonalise"):
        model.configure_optimizers()


@pytest.mark.parametrize(
    "arguments",
    [{"total_steps": 0}, {"warmup_steps": -1}, {"final_ratio": 2.0}],
)
def test_ranges(arguments: dict) -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(ValueError, match="given"):
        WarmupCosine(optimizer, **arguments)
