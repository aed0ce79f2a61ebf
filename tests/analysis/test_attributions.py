"""Five importances: what must hold for each, on models whose answer is known."""

import builtins

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lmzoo.analysis.attributions import (
    METHODS,
    Question,
    concentration,
    grad_cam,
    grad_norm,
    input_x_gradient,
    integrated_gradients,
    layers,
    normalised,
    occlusion,
    spearman,
)
from lmzoo.errors import UsageError
from lmzoo.models.base import LanguageModel
from lmzoo.models.convolution import Conv
from lmzoo.models.feedforward import MLP, FeedForward
from lmzoo.models.gpt import GPT
from lmzoo.models.heaviside import Heaviside
from lmzoo.models.ngram import NGram
from lmzoo.models.recurrent import LSTM

V, T, PLANTED = 10, 8, 2
SIGNED = (input_x_gradient, integrated_gradients, occlusion)
POINTED = (grad_norm, *SIGNED)  # zero where nothing is seen
MODELS = {
    "gpt": lambda: GPT(V, 16, d_model=16, num_layers=3, num_heads=2),
    "lstm": lambda: LSTM(V, 16, d_model=8, d_hidden=16),
    "ff": lambda: FeedForward(V, 16, window=4, d_model=8, d_hidden=16),
    "conv": lambda: Conv(V, 16, d_model=8, num_layers=2),
}


def stirred(name: str, seed: int = 0) -> LanguageModel:
    """A model whose answers are not flat."""
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def prompts(number: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (number, T), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def copier() -> GPT:
    """A gpt that answers with token number ``PLANTED`` of its prompt."""
    torch.manual_seed(0)
    model = GPT(V, T, d_model=32, num_layers=2, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(300):
        tokens = prompts(64, seed=step + 1000)
        loss = F.cross_entropy(model(tokens)[:, -1], tokens[:, PLANTED])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    return model.eval()


def tops(model: LanguageModel, method) -> list[int]:
    """The top position for each of several prompts; the target is the planted one."""
    questions = [Question(model, row[None], int(row[PLANTED])) for row in prompts(12)]
    return [int(np.abs(method(question)).argmax()) for question in questions]


@pytest.mark.parametrize("method", POINTED)
def test_the_planted_position_is_found(copier: GPT, method) -> None:
    assert tops(copier, method).count(PLANTED) >= 11


def test_methods_agree_with_occlusion_on_the_copier_only(copier: GPT) -> None:
    torch.manual_seed(1)
    untrained = GPT(V, T, d_model=32, num_layers=2, num_heads=2).eval()
    for method in (grad_norm, input_x_gradient, integrated_gradients):
        pairs = {
            name: sum(map(int.__eq__, tops(model, method), tops(model, occlusion)))
            for name, model in (("copier", copier), ("untrained", untrained))
        }
        assert pairs["copier"] >= 11
        assert pairs["untrained"] < 11  # the control must not pass
    for method in POINTED:
        assert tops(untrained, method).count(PLANTED) <= 6


@pytest.mark.parametrize("name", MODELS)
def test_integrated_gradients_add_up(name: str) -> None:
    question = Question(stirred(name), prompts(1), 3)
    inputs = question.inputs
    with torch.no_grad():
        ends = [
            float(question.value(inputs.logits(vectors)))
            for vectors in (inputs.vectors, torch.zeros_like(inputs.vectors))
        ]
    whole = ends[0] - ends[1]
    assert abs(whole) > 1e-3
    assert integrated_gradients(question).sum() == pytest.approx(whole, rel=0.01)
    # the control: to first order alone they do not add up
    assert input_x_gradient(question).sum() != pytest.approx(whole, rel=0.01)


@pytest.mark.parametrize("method", POINTED)
def test_exactly_zero_outside_the_window(method) -> None:
    for name, window in (("ff", 4), ("conv", 7)):
        values = method(Question(stirred(name), prompts(1), 3))
        assert not values[: T - window].any()
        assert (values[T - window :] != 0).all()


def test_grad_cam_does_not_know_the_window() -> None:
    # its weights are of channels: a position that is not seen has a share as well
    shares = [grad_cam(Question(stirred("ff"), row[None], 3)) for row in prompts(8)]
    assert any(share[: T - 4].any() for share in shares)


@pytest.mark.parametrize("method", METHODS.values())
@pytest.mark.parametrize("name", MODELS)
def test_other_weights_give_another_answer(name: str, method) -> None:
    first, again, other = (
        method(Question(stirred(name, seed), prompts(1), 3)) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, rtol=0.05)


def test_grad_cam_follows_its_formula() -> None:
    question = Question(stirred("gpt"), prompts(1), 3)
    weights = question.slope.mean(0)
    expected = (question.inputs.vectors[0] * weights).sum(-1).clamp(min=0)
    assert np.allclose(grad_cam(question), expected, atol=1e-6)
    assert (grad_cam(question) >= 0).all()


def test_the_last_block_is_refused() -> None:
    model = stirred("gpt")
    assert layers(Question(model, prompts(1), 3)) == [
        "embedding",
        "layers.0",
        "layers.1",
    ]
    assert grad_cam(Question(model, prompts(1), 3, layer="layers.1")).any()
    with pytest.raises(UsageError, match=r"exactly zero; choose embedding, layers\.0"):
        grad_cam(Question(model, prompts(1), 3, layer="layers.2"))
    with pytest.raises(UsageError, match="no such layer"):
        grad_cam(Question(model, prompts(1), 3, layer="layers.9"))
    for name, layer in (("lstm", "recurrent"), ("ff", "layers.0")):
        with pytest.raises(UsageError, match="last position alone"):
            grad_cam(Question(stirred(name), prompts(1), 3, layer=layer))


def test_the_logit_is_another_question() -> None:
    model, tokens = stirred("gpt"), prompts(1)
    one = grad_norm(Question(model, tokens, 3))
    other = grad_norm(Question(model, tokens, 3, quantity="logit"))
    assert not np.allclose(one, other, rtol=0.05)


def test_occlusion_by_hand_and_without_gradients() -> None:
    model, tokens = stirred("gpt"), prompts(1)
    values = occlusion(Question(model, tokens, 3, baselines=(0, 1)))
    changed = tokens.clone()
    changed[0, 4] = 1 if tokens[0, 4] == 0 else 0
    with torch.no_grad():
        before, after = (
            model(t)[0, -1].log_softmax(-1)[3].item() for t in (tokens, changed)
        )
    assert values[4] == pytest.approx(before - after, abs=1e-5)
    counting = NGram(vocab_size=V)
    counting.count(prompts(50).flatten().numpy())
    assert occlusion(Question(counting, tokens, 3))[-1] != 0
    with pytest.raises(UsageError, match="counts"):
        grad_norm(Question(counting, tokens, 3))


def test_no_gradient_is_not_an_importance() -> None:
    torch.manual_seed(0)
    question = Question(Heaviside(V, 16, window=4).eval(), prompts(1), 3)
    assert not grad_norm(question).any()
    with pytest.raises(UsageError, match="the whole is"):
        integrated_gradients(question)


def test_mlp_sees_its_own_token() -> None:
    torch.manual_seed(0)
    values = grad_norm(Question(MLP(V, 16, d_model=8).eval(), prompts(1), 3))
    assert not values[:-1].any()
    assert values[-1] > 0


def test_captum_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest, **more):
        if name.startswith("captum"):
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'lmzoo\[inspect\]'"):
        integrated_gradients(Question(stirred("gpt"), prompts(1), 3))
    assert grad_norm(Question(stirred("gpt"), prompts(1), 3)).any()


def test_summaries() -> None:
    values = np.array([1.0, -3.0, 0.0])
    assert normalised(values).tolist() == pytest.approx([1 / 3, 1, 0])
    assert normalised(np.zeros(2)).tolist() == [0, 0]
    share, entropy = concentration(values)
    assert share == 0.75
    assert entropy == pytest.approx(0.8113, abs=1e-4)
    assert np.isnan(concentration(np.zeros(3))).all()
    assert concentration(np.ones(8)) == pytest.approx((1 / 8, 3))
    assert spearman(np.array([1, 2, 9]), np.array([0, 5, 6])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1)
    tied = spearman(np.array([1, 1, 2, 3]), np.array([1, 2, 3, 4]))
    assert tied == pytest.approx(0.9487, abs=1e-4)
    assert np.isnan(spearman(np.ones(3), np.arange(3)))
