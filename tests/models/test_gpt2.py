"""GPT-2's layout and ours: there and back, and what neither can say."""

import pytest
import torch

from lmzoo.errors import UsageError
from lmzoo.models import gpt2
from lmzoo.models.gpt import GPT

SMALL = {"d_model": 16, "num_layers": 2, "num_heads": 2}


@pytest.mark.parametrize(
    "arguments", [{}, {"tie_embeddings": True}, {"d_hidden": 24, "dropout": 0.1}]
)
def test_there_and_back_is_the_same(arguments: dict) -> None:
    model = GPT(11, 12, **SMALL, **arguments).eval()
    config = gpt2.to_config(model.arguments)
    tensors = gpt2.to_tensors(model.state_dict())
    again = GPT(**gpt2.from_config(config)).eval()
    again.load_state_dict(gpt2.from_tensors(tensors))
    tokens = torch.randint(11, (2, 12))
    with torch.no_grad():
        assert torch.equal(model(tokens), again(tokens))


def test_a_model_without_biases_gets_zeros() -> None:
    model = GPT(11, 12, bias=False, **SMALL).eval()
    tensors = gpt2.to_tensors(model.state_dict())
    again = GPT(**gpt2.from_config(gpt2.to_config(model.arguments))).eval()
    again.load_state_dict(gpt2.from_tensors(tensors))
    tokens = torch.randint(11, (2, 12))
    with torch.no_grad():
        assert torch.allclose(model(tokens), again(tokens), atol=1e-6)


def test_old_files_have_no_prefix_and_masks() -> None:
    tensors = gpt2.to_tensors(GPT(11, 12, **SMALL).state_dict())
    old = {name.removeprefix("transformer."): one for name, one in tensors.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 12, 12)
    assert set(gpt2.from_tensors(old)) == set(GPT(11, 12, **SMALL).state_dict())


@pytest.mark.parametrize(
    ("arguments", "said"), [({"d_head": 5}, "d_head 5"), ({"head_bias": True}, "bias")]
)
def test_what_gpt2_cannot_say(arguments: dict, said: str) -> None:
    model = GPT(11, 12, **SMALL, **arguments)
    with pytest.raises(UsageError, match=said):
        gpt2.to_config(model.arguments)


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "relu"},
        {"layer_norm_epsilon": 1e-6},
        {"scale_attn_by_inverse_layer_idx": True},
    ],
)
def test_what_gpt_cannot_say(change: dict) -> None:
    config = gpt2.to_config(GPT(11, 12, **SMALL).arguments)
    gpt2.from_config(config)
    with pytest.raises(UsageError, match="gpt knows only"):
        gpt2.from_config({**config, **change})
