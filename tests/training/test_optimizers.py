"""The schedule as a function of the step, and optimizers by class path."""

import copy

import pytest
import torch
from torch import nn

from lmzoo.errors import UsageError
from lmzoo.models.gpt import GPT
from lmzoo.models.palm import PaLM
from lmzoo.models.recurrent import LSTM
from lmzoo.registry import models
from lmzoo.training.freezing import Freezing
from lmzoo.training.optimizers import (
    WarmupCosine,
    hidden_matrices,
    needs_whole_matrices,
    use,
)

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


@pytest.mark.parametrize("name", ["mingru", "mamba2"])
def test_a_depthwise_kernel_is_no_matrix(name: str) -> None:
    model = models.load(name)(7, 8, d_model=8, num_layers=2)
    names = {id(p): key for key, p in model.named_parameters()}
    kernels = {key for key in names.values() if key.endswith("conv.weight")}
    assert len(kernels) == 2
    orthogonalised = {names[id(p)] for p in hidden_matrices(model)}
    assert not orthogonalised & kernels
    assert "layers.0.project.weight" in orthogonalised  # the control
    decays = {
        names[id(p)]: group.get("weight_decay") != 0.0
        for group in model.parameter_groups()
        for p in group["params"]
    }
    assert not any(decays[key] for key in kernels)
    assert decays["layers.0.project.weight"]


def test_a_convolution_over_channels_is_a_matrix() -> None:
    model = models.load("conv")(7, 8, d_model=8, num_layers=1)
    assert any(p.ndim == 3 for p in hidden_matrices(model))


def palm_trained(fused: bool, spec: dict) -> dict[str, torch.Tensor]:
    """A parallel PaLM after three steps, its projections by name, however held."""
    torch.manual_seed(0)
    model = PaLM(11, 8, d_model=8, num_layers=1, block="parallel", bias=True)
    names = {"q": 8, "k": 8, "v": 8, "gate": 24, "up": 24}
    scale = torch.cat([torch.full((n,), 3.0**i) for i, n in enumerate(names.values())])
    joint = model.get_submodule("layers.0.inputs.joint")
    with torch.no_grad():  # parts of very different sizes
        joint.weight.mul_(scale[:, None])
        joint.bias.normal_().mul_(scale)
    if not fused:
        apart = PaLM(
            11, 8, d_model=8, num_layers=1, block="parallel", bias=True, fused=False
        )
        apart.load_state_dict(model.state_dict(), strict=False)
        for kind in ("weight", "bias"):
            parts = joint.get_parameter(kind).split(list(names.values()))
            for name, part in zip(names, parts, strict=True):
                target = apart.get_parameter(f"layers.0.inputs.{name}.{kind}")
                target.data.copy_(part)
        model = apart
    use(model.double(), spec, None)  # else Adam's kind divides rounding by rounding
    optimizer = model.configure_optimizers()
    tokens = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(model(tokens[:, :-1]), tokens[:, 1:]).backward()
        optimizer.step()
    found = {key: p.detach() for key, p in model.named_parameters()}
    for kind in ("weight", "bias"):
        if fused:
            parts = found.pop(f"layers.0.inputs.joint.{kind}").split([*names.values()])
            keys = [f"layers.0.inputs.{name}.{kind}" for name in names]
            found |= dict(zip(keys, parts, strict=True))
    return found


def test_adafactor_trains_a_fused_matrix_as_its_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = {"class_path": "lmzoo.training.adafactor.Adafactor"}
    fused, apart = palm_trained(True, spec), palm_trained(False, spec)
    assert fused.keys() == apart.keys()
    assert all((fused[key] - apart[key]).abs().max() < 1e-6 for key in fused)
    monkeypatch.setattr(PaLM, "stacked", lambda self: {})  # the control
    control = palm_trained(True, spec)
    for kind in ("weight", "bias"):
        key = f"layers.0.inputs.q.{kind}"
        assert (control[key] - apart[key]).abs().max() > 1e-3


class Own(torch.optim.SGD):
    """A plugin's optimizer with an argument of that name, and no say on matrices."""

    def __init__(self, params, lr: float = 0.1, hidden: int = 3) -> None:
        super().__init__(params, lr)
        self.hidden = hidden


def test_an_argument_of_a_strangers_optimizer_is_left_alone() -> None:
    model = GPT(7, 8, d_model=8, num_layers=1, num_heads=2)
    path = f"{Own.__module__}.Own"
    use(model, {"class_path": path, "init_args": {"hidden": 5}}, None)
    assert model.configure_optimizers().hidden == 5
    assert not needs_whole_matrices(path)


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        (MUON["class_path"], True),
        ("torch.optim.Muon", True),
        ("torch.optim.Adafactor", True),
        ("lmzoo.training.adafactor.Adafactor", False),
        ("torch.optim.AdamW", False),
    ],
)
def test_which_optimizers_look_at_whole_matrices(path: str, whole: bool) -> None:
    assert needs_whole_matrices(path) is whole


def test_torchs_muon_is_refused_in_favour_of_the_name() -> None:
    model = GPT(7, 8, d_model=8, num_layers=1, num_heads=2)
    use(model, {"class_path": "torch.optim.Muon"}, None)
    with pytest.raises(UsageError, match="give --optimizer muon"):
        model.configure_optimizers()


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
