"""Activation checkpointing changes what is kept, and nothing that is computed."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.registry import models
from lmzoo.training.activation_checkpointing import recompute_blocks, recomputed_flops
from tests.cli.runner import SMALL, lmzoo
from tests.counting import products

STACKED = ("gpt", "palm", "mingru", "mamba2")


def member(name: str, **more: float) -> LanguageModel:
    torch.manual_seed(0)
    return models.load(name)(11, 16, d_model=16, num_layers=3, **more)


def gradients(model: LanguageModel, seed: int = 1) -> dict[str, Tensor]:
    """Of one loss, under one stream of random numbers."""
    tokens = torch.randint(11, (4, 17), generator=torch.Generator().manual_seed(2))
    torch.manual_seed(seed)
    model.train()
    model.loss(model(tokens[:, :-1]), tokens[:, 1:]).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def runs_of_blocks(model: LanguageModel) -> list[str]:
    """The blocks' norms in the order in which they run, forward and backward."""
    seen: list[str] = []
    for name, block in model.blocks().items():
        first = next(m for m in block.modules() if not list(m.children()))
        first.register_forward_hook(lambda *_, name=name: seen.append(name))
    gradients(model)
    return seen


@pytest.mark.parametrize("name", ["gpt", "palm"])
def test_gradients_are_the_same_bits_with_dropout(name: str) -> None:
    plain, saving = member(name, dropout=0.2), member(name, dropout=0.2)
    recompute_blocks(saving)
    one, two = gradients(plain), gradients(saving)
    assert one.keys() == two.keys() == dict(plain.named_parameters()).keys()
    other = gradients(member(name, dropout=0.2), seed=3)  # the control: other dropout
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", STACKED)
def test_each_block_is_run_again_from_the_last_to_the_first(name: str) -> None:
    plain, saving = member(name), member(name)
    recompute_blocks(saving)
    blocks = list(plain.blocks())
    assert runs_of_blocks(plain) == blocks
    assert runs_of_blocks(saving) == blocks + blocks[::-1]


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_flops_of_the_second_run_agree_with_the_counter(
    name: str, dropout: float
) -> None:
    def counted(model: LanguageModel) -> int:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            gradients(model)
        return products(counter)

    plain, saving = member(name, dropout=dropout), member(name, dropout=dropout)
    recompute_blocks(saving)
    again = counted(saving) - counted(plain)
    assert again == 4 * 16 * recomputed_flops(saving, 16) > 0
    assert recomputed_flops(plain, 16) == 0


def test_what_is_kept_for_the_backward_pass_shrinks() -> None:
    def kept(model: LanguageModel) -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(0 if isinstance(tensor, nn.Parameter) else tensor.nbytes)
            return tensor

        tokens = torch.zeros(8, 16, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(tokens)
        return sum(sizes)

    plain, saving = member("gpt"), member("gpt")
    recompute_blocks(saving)
    assert kept(saving) < kept(plain) / 3


def test_names_evaluation_and_copies_stay() -> None:
    plain, saving = member("gpt"), member("gpt")
    recompute_blocks(saving)
    twin = copy.deepcopy(saving)
    assert saving.state_dict().keys() == plain.state_dict().keys()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        for parameter in saving.parameters():
            parameter.zero_()  # the twin's own blocks are run, not these
        assert torch.equal(twin(tokens), plain(tokens))


def test_a_model_that_is_no_stack_is_refused() -> None:
    with pytest.raises(UsageError, match="LSTM is no stack of blocks"):
        recompute_blocks(models.load("lstm")(11, 16))
    result = lmzoo(
        f"fit --model lstm {SMALL.replace('--model.num_heads 2', '')} "
        f"--activation_checkpointing true --data.corpus pydoc"
    )
    assert result.code == 2
    assert "is no stack of blocks" in result.err
