"""Conv: the receptive field is the stated one, to the token."""

import pytest
import torch

from lmzoo.models.convolution import Conv, ConvNoncausal

SIZES = [(1, 1), (1, 7), (2, 3), (3, 2), (3, 4)]


def moved(model: Conv, at: int, length: int = 40) -> list[int]:
    """Positions whose logits change with the token ``at``."""
    tokens = torch.randint(11, (2, length))
    changed = tokens.clone()
    changed[:, at] = (changed[:, at] + 1) % 11
    with torch.no_grad():
        differs = (model(changed) != model(tokens)).any(dim=-1).any(dim=0)
    return differs.nonzero().flatten().tolist()


@pytest.mark.parametrize(("layers", "kernel"), SIZES)
def test_sees_its_window_and_no_more(layers: int, kernel: int) -> None:
    torch.manual_seed(0)
    model = Conv(11, 32, d_model=16, num_layers=layers, kernel_size=kernel).eval()
    assert model.window == 1 + (kernel - 1) * (2**layers - 1)
    assert moved(model, 5) == list(range(5, 5 + model.window))


def test_noncausal_sees_as_far_ahead_as_back() -> None:
    model = ConvNoncausal(11, 32, d_model=16, num_layers=1, kernel_size=7).eval()
    assert moved(model, 20) == list(range(17, 24))
    assert model.exhibit == "causality"


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [2, 1, 20, 37]])
def test_chunked_is_whole(sizes: list[int]) -> None:
    model = Conv(11, 16, d_model=16, num_layers=3, kernel_size=3).eval()
    tokens = torch.randint(11, (2, 60))
    state, pieces = None, []
    with torch.no_grad():
        for chunk in tokens.split(sizes, dim=1):
            logits, state = model.advance(chunk, state)
            pieces.append(logits)
        assert state.shape == (2, model.window - 1)
        assert torch.allclose(torch.cat(pieces, dim=1), model(tokens), atol=1e-6)


@pytest.mark.parametrize("cls", [Conv, ConvNoncausal])
def test_a_layer_of_the_course_notebook_has_180_parameters(cls: type[Conv]) -> None:
    model = cls(256, d_model=5, num_layers=1, kernel_size=7, tie_embeddings=True)
    assert sum(p.numel() for p in model.layers.parameters()) == 180
    assert sum(p.numel() for p in model.parameters()) == 1280 + 180 + 256


@pytest.mark.parametrize("tie", [False, True])
def test_starts_near_uniform(tie: bool) -> None:
    torch.manual_seed(0)
    model = Conv(65, tie_embeddings=tie)
    tokens = torch.randint(65, (8, 65))
    loss = model.loss(model(tokens[:, :-1]), tokens[:, 1:]).item()
    assert abs(loss - model.expected_initial_nll()) < 0.1


def test_flops_count_every_weight_of_a_product() -> None:
    model = Conv(11, d_model=16, num_layers=3, kernel_size=4)
    assert model.flops_per_token(64) == 6 * (3 * 4 * 16 * 16 + 16 * 11)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="kernel_size must be a positive integer"):
        Conv(11, kernel_size=0)
