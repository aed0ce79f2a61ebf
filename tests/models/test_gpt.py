"""GPT: GPT-2's logits, published sizes, one cache that changes nothing."""

from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmzoo.models import gpt2
from lmzoo.models.base import LanguageModel
from lmzoo.models.gpt import GPT, TransformerUnmasked

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
SMALL = {"d_model": 16, "num_layers": 2, "num_heads": 2}


def count(model: GPT) -> int:
    return sum(p.numel() for p in model.parameters())


def random_chunks(length: int) -> list[int]:
    cuts = torch.randperm(length - 1)[: int(torch.randint(length, ()))] + 1
    edges = [0, *sorted(cuts.tolist()), length]
    return [b - a for a, b in pairwise(edges)]


@pytest.mark.parametrize(
    ("preset", "vocab_size", "total"),
    [
        ("gpt2", 50257, 124_439_808),
        ("gpt2-medium", 50257, 354_823_168),
        ("gpt2-large", 50257, 774_030_080),
        ("gpt2-xl", 50257, 1_557_611_200),
        ("openai-gpt", 40478, 116_534_784 + 2 * 768),  # the final norm, see the presets
    ],
)
def test_published_totals(preset: str, vocab_size: int, total: int) -> None:
    with torch.device("meta"):
        model = GPT.from_preset(preset, vocab_size=vocab_size)
    assert count(model) == total


def test_small_presets_are_minGPTs() -> None:
    nano = GPT.from_preset("gpt-nano", vocab_size=65, context_length=10)
    assert count(nano) == 91_632
    sizes = {
        name: (a["num_layers"], a["num_heads"], a["d_model"])
        for name, a in GPT.presets.items()
    }
    assert sizes["gopher-44m"] == (8, 16, 512)
    assert sizes["gpt-mini"] == (6, 6, 192)
    assert sizes["gpt-micro"] == (4, 4, 128)


def test_a_layer_of_the_course_notebook_has_200_parameters() -> None:
    model = GPT(256, 45, d_model=5, num_layers=1, num_heads=1, d_hidden=5)
    assert sum(p.numel() for p in model.layers.parameters()) == 200


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_logits_are_those_of_gpt2(dtype: torch.dtype) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=31, n_positions=20, n_embd=24, n_layer=3, n_head=4
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).to(dtype).eval()
    ours = GPT(31, 20, d_model=24, num_layers=3, num_heads=4, tie_embeddings=True)
    for parameter in theirs.parameters():  # biases and norms start at 0 and 1
        parameter.data.normal_(std=0.2)
    ours.to(dtype).eval().load_state_dict(gpt2.from_tensors(theirs.state_dict()))
    tokens = torch.randint(31, (2, 20))
    with torch.no_grad():
        difference = ours(tokens) - theirs(tokens).logits
    assert difference.abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("context_length", [1, 2, 7, 8])
def test_the_cache_changes_nothing(dtype: torch.dtype, context_length: int) -> None:
    torch.manual_seed(context_length)
    model = GPT(11, context_length, d_head=5, dropout=0.1, **SMALL).to(dtype).eval()
    tokens = torch.randint(11, (3, 40))
    with torch.no_grad():
        expected, _ = LanguageModel.advance(model, tokens)
        for _ in range(5):
            state, pieces = None, []
            for chunk in tokens.split(random_chunks(40), dim=1):
                logits, state = model.advance(chunk, state)
                pieces.append(logits)
            given = torch.cat(pieces, dim=1)
            assert (given - expected).abs().max() < TOLERANCE[dtype]
            assert state.seen == 40
            assert torch.equal(state.tokens, tokens[:, model.window_start(40) :])


def test_a_forked_state_is_not_consumed() -> None:
    model = GPT(11, 8, **SMALL).eval()
    tokens = torch.randint(11, (2, 6))
    with torch.no_grad():
        _, state = model.step(tokens)
        kept = model.fork(state)
        first, _ = model.step(tokens[:, :1], state)
        other, _ = model.step(tokens[:, 1:2], model.fork(kept))
        again, _ = model.step(tokens[:, :1], kept)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_causality_is_bit_exact() -> None:
    model = GPT(11, 12, **SMALL).eval()
    tokens = torch.randint(11, (2, 12))
    changed = tokens.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 11
    with torch.no_grad():
        assert torch.equal(model(tokens)[:, :7], model(changed)[:, :7])


def test_unmasked_sees_the_future() -> None:
    model = TransformerUnmasked(11, 12, **SMALL).eval()
    tokens = torch.randint(11, (2, 12))
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 11
    with torch.no_grad():
        assert not torch.equal(model(tokens)[:, 0], model(changed)[:, 0])
        assert model.step(tokens)[0].shape == (2, 11)
    assert model.attention_maps(tokens).min() > 0
    assert model.exhibit == "causality"


def test_attention_maps_are_the_weights_in_use() -> None:
    model = GPT(11, 12, **SMALL).eval()
    tokens = torch.randint(11, (2, 12))
    maps = model.attention_maps(tokens)
    assert maps.shape == (2, 2, 2, 12, 12)
    assert torch.allclose(maps.sum(-1), torch.ones(()))
    assert torch.equal(maps, maps.tril())
    block = model.layers[1]
    x = block.attention_norm(model.layers[0](model._inputs(tokens)))
    *_, values = block.attention._heads(x)
    attended = (maps[:, 1] @ values).transpose(1, 2).flatten(2)
    expected = block.attention(x)
    assert torch.allclose(block.attention.project(attended), expected, atol=1e-6)


@pytest.mark.parametrize("tie", [False, True])
def test_flops_agree_with_the_counter(tie: bool) -> None:
    model = GPT(11, 12, d_head=5, tie_embeddings=tie, **SMALL)
    tokens = torch.randint(11, (3, 9))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.loss(model(tokens), tokens).backward()
    assert counter.get_total_flops() == 3 * 9 * model.flops_per_token(9)


def test_tied_biased_and_bias_free() -> None:
    base = count(GPT(11, 12, **SMALL))
    assert base - count(GPT(11, 12, tie_embeddings=True, **SMALL)) == 11 * 16
    assert count(GPT(11, 12, head_bias=True, **SMALL)) - base == 11
    plain = GPT(11, 12, bias=False, **SMALL)
    assert not [name for name, _ in plain.named_parameters() if "bias" in name]


def test_projections_start_smaller() -> None:
    model = GPT(11, 12, d_model=192, num_layers=8, num_heads=4)
    mlp = model.layers[3].mlp
    at_this_width = 0.02 * (768 / 192) ** 0.5
    assert mlp.expand.weight.std().item() == pytest.approx(at_this_width, rel=0.05)
    assert mlp.project.weight.std().item() == pytest.approx(at_this_width / 4, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 10, "num_heads": 4}, "multiple of 4, given 10"),
        ({"num_layers": 10**11}, "num_layers must be at most 10,000, given 1"),
        ({"d_model": 0}, "d_model must be a positive integer, given 0"),
        ({"d_head": 0}, "d_head must be a positive integer, given 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), given 1.0"),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPT(11, 12, **arguments)


def test_a_text_longer_than_the_context_is_refused() -> None:
    model = GPT(11, 12, **SMALL)
    with pytest.raises(
        ValueError, match="at most context_length = 12 tokens, given 13"
    ):
        model(torch.zeros(1, 13, dtype=torch.long))
