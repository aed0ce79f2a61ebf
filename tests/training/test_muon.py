"""Muon against torch's own, matrix by matrix, and against singular values."""

import copy

import pytest
import torch
from torch import nn

from lmzoo.training import muon
from lmzoo.training.muon import Muon, orthogonal

SETTINGS = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def steps(optimizer: torch.optim.Optimizer, among: list[nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        for parameter in among:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def whole(among: list[nn.Parameter]) -> dict[nn.Parameter, list[int]]:
    return {p: [len(p)] for p in among if p.ndim >= 2}


@pytest.fixture
def in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's own, on any processor."""
    monkeypatch.setattr(muon, "emulated", lambda device, dtype: False)


@pytest.mark.usefixtures("in_bfloat16")
def test_a_step_is_torchs_for_wide_square_and_tall_matrices() -> None:
    shapes = ((6, 16), (16, 16), (40, 16), (16, 16))
    mine, theirs = parameters(*shapes), parameters(*shapes)
    steps(Muon([{"params": mine}], whole(mine), **SETTINGS), mine)
    steps(torch.optim.Muon(theirs, **SETTINGS), theirs)
    start = parameters(*shapes)
    for one, other, before in zip(mine, theirs, start, strict=True):
        moved = (other - before).norm()
        assert (one - other).norm() < 0.02 * moved  # bfloat16 in another order
        assert moved > 0.05


def test_others_take_adamws_steps_bit_for_bit() -> None:
    shapes = ((8, 8), (5, 8), (8,))
    mine, theirs = parameters(*shapes), parameters(*shapes)
    groups = [{"params": mine[:2]}, {"params": mine[2:], "weight_decay": 0.0}]
    hidden = {mine[0]: [8]}
    steps(Muon(groups, hidden, adamw_lr=0.01, weight_decay=0.1), mine)
    adamw = torch.optim.AdamW(
        [{"params": theirs[1:2]}, {"params": theirs[2:], "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.9, 0.99),
        weight_decay=0.1,
        fused=True,
    )
    steps(adamw, theirs)
    assert torch.equal(mine[1], theirs[1])
    assert torch.equal(mine[2], theirs[2])
    assert not torch.equal(mine[0], theirs[0])  # the control


def test_a_fused_matrix_moves_as_its_parts_would_alone() -> None:
    (fused,) = parameters((36, 12))
    parts = [nn.Parameter(part.clone()) for part in fused.detach().split([12, 12, 12])]
    whole_one = nn.Parameter(fused.detach().clone())
    one = Muon([{"params": [fused]}], {fused: [12, 12, 12]})
    other = Muon([{"params": parts}], whole(parts))
    control = Muon([{"params": [whole_one]}], whole([whole_one]))
    grad = torch.randn(36, 12, generator=torch.Generator().manual_seed(3))
    for parameter, of in ((fused, grad), (whole_one, grad)):
        parameter.grad = of
    for part, of in zip(parts, grad.split(12), strict=True):
        part.grad = of * 8  # the scale of a part is its own: it does not matter
    for optimizer in (one, other, control):
        optimizer.step()
    torch.testing.assert_close(fused, torch.cat(list(parts)), atol=1e-4, rtol=0)
    assert (whole_one - fused).abs().max() > 1e-3


@pytest.mark.usefixtures("in_bfloat16")
def test_a_convolutions_kernel_is_a_matrix() -> None:
    kernel = parameters((4, 3, 5))
    flat = [nn.Parameter(kernel[0].detach().flatten(1).clone())]
    start = flat[0].detach().clone()
    optimizers = (
        (Muon([{"params": kernel}], whole(kernel)), kernel[0]),
        (torch.optim.Muon(flat, lr=0.007, weight_decay=0), flat[0]),
    )
    grad = torch.randn(4, 15, generator=torch.Generator().manual_seed(3))
    for optimizer, parameter in optimizers:
        parameter.grad = grad.view_as(parameter)
        optimizer.step()
    assert kernel[0].shape == (4, 3, 5)
    torch.testing.assert_close(kernel[0].flatten(1), flat[0], atol=1e-4, rtol=0)
    assert (flat[0] - start).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(2, 8, 20), (2, 20, 8), (1, 1, 7)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    values = torch.linalg.svdvals(orthogonal(x, 5).float())
    assert values.min() > 0.4
    assert values.max() < 1.3
    assert torch.linalg.svdvals(x).max() < 0.1  # the control


def test_it_is_float32_where_bfloat16_would_be_emulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn((3, 8, 20), generator=torch.Generator().manual_seed(0))
    found = {}
    for slow, kind in ((True, torch.float32), (False, torch.bfloat16)):
        monkeypatch.setattr(muon, "emulated", lambda device, dtype, slow=slow: slow)
        found[kind] = orthogonal(x, 5)
        assert found[kind].dtype == kind
    gap = found[torch.float32] - found[torch.bfloat16].float()
    assert 0 < gap.norm() < 0.02 * found[torch.float32].norm()


def test_a_state_is_taken_back_and_the_rate_is_the_groups() -> None:
    shapes = ((8, 8), (8,))
    mine = parameters(*shapes)
    first = Muon([{"params": mine}], whole(mine))
    steps(first, mine)
    copies = [nn.Parameter(p.detach().clone()) for p in mine]
    second = Muon([{"params": copies}], whole(copies))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer, among in ((first, mine), (second, copies)):
        for group in optimizer.param_groups:
            group["lr"] = 0.5
        steps(optimizer, among)
    for one, other in zip(mine, copies, strict=True):
        assert torch.equal(one, other)
    assert second.state[copies[1]]["step"] == 8


def test_what_has_no_gradient_stays() -> None:
    mine = parameters((4, 4), (4, 4), (4,))
    before = [p.detach().clone() for p in mine]
    optimizer = Muon([{"params": mine}], whole(mine))
    mine[0].grad = torch.ones(4, 4)
    optimizer.step()
    assert not torch.equal(mine[0], before[0])
    assert torch.equal(mine[1], before[1])
    assert mine[1] not in optimizer.state


@pytest.mark.parametrize(
    "arguments",
    [{"lr": 0}, {"adamw_lr": -1.0}, {"momentum": 1.0}, {"ns_steps": 0}],
)
def test_ranges(arguments: dict) -> None:
    mine = parameters((4, 4))
    with pytest.raises(ValueError, match="given"):
        Muon([{"params": mine}], whole(mine), **arguments)
    with pytest.raises(ValueError, match="nothing to orthogonalise"):
        Muon([{"params": mine}], {})
