"""The decoding loop: same seed same text, filters, frequencies."""

import itertools

import pytest
import torch

from lmzoo.generation import filter_logits, generate
from lmzoo.models.gpt import GPT


def model() -> GPT:
    torch.manual_seed(0)
    return GPT(vocab_size=11, context_length=8, d_model=16, num_layers=2, num_heads=2)


def tokens(prompt: torch.Tensor, count: int = 20, **options) -> torch.Tensor:
    stream = generate(model(), prompt, **options)
    return torch.stack(list(itertools.islice(stream, count)), dim=1)


def test_same_seed_same_tokens_and_another_seed_others() -> None:
    prompt = torch.tensor([[1, 2, 3]])
    first = tokens(prompt, seed=1)
    assert torch.equal(first, tokens(prompt, seed=1))
    assert not torch.equal(first, tokens(prompt, seed=2))


def test_temperature_zero_takes_the_likeliest_at_every_step() -> None:
    net, seen = model().eval(), [1, 2, 3]
    produced = tokens(torch.tensor([seen]), count=12, temperature=0)[0].tolist()
    for token in produced:
        window = torch.tensor([seen[net.window_start(len(seen)) :]])
        assert int(net(window)[0, -1].argmax()) == token
        seen.append(token)


def test_the_global_generator_is_not_touched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    net, prompt = model(), torch.tensor([[1]])
    torch.manual_seed(5)
    list(itertools.islice(generate(net, prompt), 5))
    assert torch.equal(torch.rand(3), expected)


def test_training_mode_is_given_back() -> None:
    net = model().train()
    stream = generate(net, torch.tensor([[1]]))
    next(stream)
    stream.close()
    assert net.training


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log()
    assert filter_logits(logits, top_k=2).isfinite().tolist() == [
        [False, True, True, False]
    ]
    assert filter_logits(logits, top_p=0.6).isfinite().tolist() == [
        [False, True, True, False]
    ]
    assert filter_logits(logits, top_p=0.3).isfinite().sum() == 1
    assert torch.equal(filter_logits(logits), logits)


def test_sampling_follows_the_distribution() -> None:
    net, prompt = model().eval(), torch.tensor([[4]]).expand(4000, 1)
    expected = net(prompt[:1])[0, -1].softmax(-1)
    drawn = next(generate(net, prompt, seed=3))
    counts = torch.bincount(drawn, minlength=11).double()
    chi2 = ((counts - 4000 * expected) ** 2 / (4000 * expected)).sum()
    assert chi2 < 29.6  # 10 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0}],
)
def test_ranges_are_checked(options: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        next(generate(model(), torch.tensor([[1]]), **options))


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt"):
        next(generate(model(), torch.zeros(1, 0, dtype=torch.long)))
