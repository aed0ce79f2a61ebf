"""PaLM: every choice against plain loops, the paper's sizes, one cache."""

import inspect
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmzoo.models.base import LanguageModel
from lmzoo.models.palm import PAPER, PaLM
from lmzoo.training.probes import is_nll

SMALL: dict[str, Any] = {"d_model": 8, "num_layers": 2, "num_heads": 4, "d_head": 4}
CHOICES: list[dict[str, Any]] = [
    {},
    {"position": "learned"},
    {"position": "none"},
    {"rope_base": 100.0},
    {"norm": "rms"},
    {"mlp": "gelu"},
    {"mlp": "relu_squared"},
    {"num_kv_heads": 1},
    {"num_kv_heads": 2},
    {"block": "parallel"},
    {"fused": False},
    {"block": "parallel", "fused": False},
    {"bias": True},
    {"bias": True, "norm": "rms"},
    {"tie_embeddings": True},
    {"scale_logits": True},
    {"qk_norm": False},
    {"d_hidden": 5},
    {
        "block": "parallel",
        "num_kv_heads": 1,
        "norm": "rms",
        "qk_norm": False,
        "bias": True,
        "tie_embeddings": True,
        "scale_logits": True,
    },
]


def named(choice: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in choice.items()) or "defaults"


def made(**arguments: Any) -> PaLM:
    """A model whose weights are large enough for every part to matter."""
    torch.manual_seed(1)
    model = PaLM(11, 8, **{**SMALL, **arguments}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


# ---- the reference: one position, one head, one number after another -----------------


def maps(projections: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> matrix and bias, float64, cut out of whatever holds them."""
    found = {}
    for linear in projections.children():
        first = 0
        for name, rows in linear.parts.items():
            cut = slice(first, first + rows)
            weight = linear.weight[cut].double()
            bias = torch.zeros(rows) if linear.bias is None else linear.bias[cut]
            found[name], first = (weight, bias.double()), first + rows
    return found


def apply(pair: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    weight, bias = pair
    return torch.stack([(row * x).sum() for row in weight]) + bias


def out(linear: Any) -> tuple[Tensor, Tensor]:
    bias = torch.zeros(len(linear.weight)) if linear.bias is None else linear.bias
    return linear.weight.double(), bias.double()


def normed(kind: str, x: Tensor, norm: Any = None) -> Tensor:
    """By the parameters of a norm, if it has any."""
    if kind == "layer":
        x = x - sum(x) / len(x)
    x = x / math.sqrt(sum(float(v) ** 2 for v in x) / len(x) + 1e-6)
    if norm is None:
        return x
    bias = getattr(norm, "bias", None)
    return x * norm.weight.double() + (0 if bias is None else bias.double())


def turned(x: Tensor, position: int, base: float) -> Tensor:
    half, result = len(x) // 2, x.clone()
    for i in range(half):
        angle = position * base ** (-i / half)
        turn = complex(math.cos(angle), math.sin(angle))
        z = complex(float(x[i]), float(x[i + half])) * turn
        result[i], result[i + half] = z.real, z.imag
    return result


def attend(model: PaLM, block: Any, xs: list[Tensor], inputs: Any) -> list[Tensor]:
    chosen, width, projected = model.arguments, model.d_head, maps(inputs)
    kept: dict[str, list[list[Tensor]]] = {}
    for name in ("q", "k", "v"):
        kept[name] = []
        for position, x in enumerate(xs):
            heads = list(apply(projected[name], x).split(width))
            if name != "v" and chosen["qk_norm"]:
                heads = [normed(chosen["norm"], head) for head in heads]
            if name != "v" and chosen["position"] == "rope":
                heads = [turned(h, position, chosen["rope_base"]) for h in heads]
            kept[name].append(heads)
    results, group = [], model.num_heads // model.num_kv_heads
    for t in range(len(xs)):
        heads = []
        for h in range(model.num_heads):
            scores = [
                math.exp(
                    float((kept["q"][t][h] * kept["k"][s][h // group]).sum())
                    / math.sqrt(width)
                )
                for s in range(t + 1)
            ]
            mixed = [
                score / sum(scores) * kept["v"][s][h // group]
                for s, score in enumerate(scores)
            ]
            heads.append(torch.stack(mixed).sum(0))
        results.append(apply(out(block.attention.project), torch.cat(heads)))
    return results


def forward_mlp(model: PaLM, block: Any, x: Tensor, inputs: Any) -> Tensor:
    projected, kind = maps(inputs), model.arguments["mlp"]
    up = apply(projected["up"], x)
    if kind == "swiglu":
        gate = apply(projected["gate"], x)
        hidden = gate / (1 + (-gate).exp()) * up
    elif kind == "gelu":
        inner = math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)
        hidden = up / 2 * (1 + inner.tanh())
    else:
        hidden = torch.stack([v * v if v > 0 else 0 * v for v in up])
    return apply(out(block.mlp.project), hidden)


@torch.no_grad()
def slow(model: PaLM, tokens: Tensor) -> Tensor:
    """Logits (B, T, V) in float64."""
    chosen, rows = model.arguments, []
    kind = chosen["norm"]
    for row in tokens.tolist():
        xs = [model.token_embedding.weight[token].double() for token in row]
        if model.position_embedding is not None:
            table = model.position_embedding.weight.double()
            xs = [x + table[i] for i, x in enumerate(xs)]
        for block in model.layers:
            if chosen["block"] == "parallel":
                ns = [normed(kind, x, block.norm) for x in xs]
                inputs = more = block.inputs
                attended = attend(model, block, ns, inputs)
                xs = [x + a for x, a in zip(xs, attended, strict=True)]
            else:
                inputs, more = block.attention_inputs, block.mlp_inputs
                ns = [normed(kind, x, block.attention_norm) for x in xs]
                attended = attend(model, block, ns, inputs)
                xs = [x + a for x, a in zip(xs, attended, strict=True)]
                ns = [normed(kind, x, block.mlp_norm) for x in xs]
            xs = [
                x + forward_mlp(model, block, n, more)
                for x, n in zip(xs, ns, strict=True)
            ]
        last = [normed(kind, x, model.norm) for x in xs]
        scale = chosen["d_model"] ** -0.5 if chosen["scale_logits"] else 1.0
        rows.append(torch.stack([apply(out(model.head), n) * scale for n in last]))
    return torch.stack(rows)


@pytest.mark.parametrize("choice", CHOICES, ids=named)
def test_every_choice_is_its_reference(choice: dict[str, Any]) -> None:
    model = made(**choice)
    tokens = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(2))
    expected = slow(model, tokens)
    with torch.no_grad():
        assert (model.double()(tokens) - expected).abs().max() < 1e-5
        assert (model.float()(tokens) - expected).abs().max() < 1e-5 * max(
            1.0, float(expected.abs().max())
        )


OTHERS = [choice for choice in CHOICES[1:-1] if "fused" not in choice]


@pytest.mark.parametrize("choice", OTHERS, ids=named)
def test_the_reference_tells_choices_apart(choice: dict[str, Any]) -> None:
    """The control: with the other's weights, as far as they fit, logits differ."""
    model = made(**choice)
    defaults = made().arguments
    wrong = {**model.arguments, **{key: defaults[key] for key in choice}}
    tokens = torch.arange(6)[None] % 11
    right = slow(model, tokens)
    if set(choice) & {"position", "rope_base", "norm", "qk_norm", "scale_logits"}:
        model.arguments = wrong  # weights fit both: the reference must not
        assert (slow(model, tokens) - right).abs().max() > 1e-3
    else:
        with torch.no_grad():
            assert (made()(tokens) - right).abs().max() > 1e-3


@pytest.mark.parametrize("block", ["serial", "parallel"])
def test_biases_are_everywhere_or_nowhere(block: str) -> None:
    """In every dense layer and layer norm but the head; an RMS norm has none."""

    def without(**arguments: Any) -> set[str]:
        model = PaLM(11, 8, **SMALL, block=block, **arguments)
        named = dict(model.named_parameters())
        weights = {n.removesuffix("weight") for n in named if n.endswith("weight")}
        return {n for n in weights if f"{n}bias" not in named}

    never = {"head.", "token_embedding."}

    assert without(bias=True) == never
    rms = without(bias=True, norm="rms") - never
    assert len(rms) == (3 if block == "parallel" else 5)
    assert all("norm" in name for name in rms)
    names = [n for n, _ in PaLM(11, 8, **SMALL, block=block).named_parameters()]
    assert not [name for name in names if "bias" in name]


@pytest.mark.parametrize("choice", [{}, {"qk_norm": False}, {"norm": "rms"}], ids=named)
def test_queries_and_keys_stay_in_half_under_autocast(
    choice: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    inner = F.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        seen.extend((q.dtype, k.dtype, v.dtype))
        return inner(q, k, v, **rest)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    model, tokens = made(**choice), torch.arange(8)[None]
    with torch.no_grad():
        expected = model(tokens)
        assert set(seen) == {torch.float32}
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16):
            found = model(tokens)
    assert set(seen) == {torch.bfloat16}
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("block", ["serial", "parallel"])
def test_fused_is_separate(block: str) -> None:
    """One product of the rows one under the other is the several products."""
    fused = made(block=block, bias=True)
    apart = made(block=block, bias=True, fused=False)
    apart.load_state_dict(fused.state_dict(), strict=False)  # all but the projections
    for left, right in zip(fused.layers, apart.layers, strict=True):
        names = (
            ["inputs"] if block == "parallel" else ["attention_inputs", "mlp_inputs"]
        )
        for name in names:
            joint = left.get_submodule(f"{name}.joint")
            first = 0
            for part, rows in joint.parts.items():
                target = right.get_submodule(f"{name}.{part}")
                target.weight.data = joint.weight.data[first : first + rows]
                target.bias.data = joint.bias.data[first : first + rows]
                first += rows
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert (fused(tokens) - apart(tokens)).abs().max() < 1e-5


@pytest.mark.parametrize("choice", CHOICES, ids=named)
def test_the_cache_changes_nothing(choice: dict[str, Any]) -> None:
    """Past the context's edge too, one token at a time and in pieces."""
    torch.manual_seed(0)
    model = PaLM(11, 7, **{**SMALL, **choice}, dropout=0.1).eval()
    tokens = torch.randint(11, (2, 24))
    with torch.no_grad():
        expected, _ = LanguageModel.advance(model, tokens)
        for sizes in ([1] * 24, [3, 9, 1, 11]):
            state, pieces = None, []
            for chunk in tokens.split(sizes, dim=1):
                logits, state = model.advance(chunk, state)
                pieces.append(logits)
            assert (torch.cat(pieces, dim=1) - expected).abs().max() < 1e-5
            assert state is not None
            assert state.keys[0].shape == (2, model.num_kv_heads, 7, 4)


@pytest.mark.parametrize("choice", [{}, CHOICES[-1], {"position": "none"}], ids=named)
def test_attention_maps_are_the_weights_in_use(choice: dict[str, Any]) -> None:
    model = made(**choice)
    tokens = torch.randint(11, (2, 8))
    with torch.no_grad():
        maps_ = model.attention_maps(tokens)
    assert maps_.shape == (2, 2, 4, 8, 8)
    assert torch.allclose(maps_.sum(-1), torch.ones(()))
    assert torch.equal(maps_, maps_.tril())
    block: Any = model.layers[0]
    x, rotation = model._inputs(tokens)
    parallel = choice.get("block") == "parallel"
    norm = block.norm if parallel else block.attention_norm
    inputs = block.inputs if parallel else block.attention_inputs
    q, k, v, *_ = inputs(norm(x))
    values = v.unflatten(-1, (-1, 4)).transpose(1, 2)
    values = values.repeat_interleave(4 // model.num_kv_heads, dim=1)
    attended = (maps_[:, 0] @ values).transpose(1, 2).flatten(2)
    given = block.attention(q, k, v, rotation)
    assert torch.allclose(block.attention.project(attended), given, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "without_norms", "scales"),
    [
        ("palm-8b", 8_631_877_632, 33 * 4096),
        ("palm-62b", 62_495_129_600, 65 * 8192),
        ("palm-540b", 540_354_281_472, 119 * 18_432),
    ],
)
def test_published_totals(preset: str, without_norms: int, scales: int) -> None:
    with torch.device("meta"):
        model = PaLM.from_preset(preset)
    norms = [p.numel() for name, p in model.named_parameters() if "norm" in name]
    assert sum(norms) == scales
    assert sum(p.numel() for p in model.parameters()) - scales == without_norms


def test_what_ordinary_heads_and_float16_would_cost() -> None:
    with torch.device("meta"):
        paper = PaLM.from_preset("palm-540b")
        ordinary = PaLM.from_preset("palm-540b", num_kv_heads=48)
    numbers = sum(p.numel() for p in paper.parameters() if p.ndim == 2)
    assert 2 * numbers / 1e9 == pytest.approx(1080.7, abs=0.05)  # GB in float16
    numbers = sum(p.numel() for p in ordinary.parameters() if p.ndim == 2)
    assert numbers / 1e9 == pytest.approx(592.7, abs=0.05)


def test_the_papers_mfu_follows_from_its_speed() -> None:
    """Appendix B: 238.3 thousand tokens a second on 6,144 chips of 275 TFLOP/s."""
    with torch.device("meta"):
        model = PaLM.from_preset("palm-540b")
    share = 238.3e3 / (6144 * 275e12)
    assert share * model.flops_per_token(2048) == pytest.approx(0.462, abs=5e-4)
    attention = 12 * 118 * 48 * 256 * 2048
    alone = share * (model.flops_per_token(2048) - attention)
    assert alone == pytest.approx(0.457, abs=5e-4)


@pytest.mark.parametrize("preset", list(PaLM.presets))
def test_no_default_decides_what_a_preset_is(preset: str) -> None:
    given = set(PaLM.presets[preset])
    arguments = set(inspect.signature(PaLM).parameters)
    small = {"vocab_size", "context_length", "d_head"}  # a text's, and a quotient
    assert arguments - given == (set() if preset.endswith("b") else small)


def test_small_presets_are_small_papers() -> None:
    for preset, size in (("palm-nano", (3, 3, 48)), ("palm-micro", (4, 4, 128))):
        model = PaLM.from_preset(preset, vocab_size=65)
        chosen = model.arguments
        assert size == tuple(
            chosen[key] for key in ("num_layers", "num_heads", "d_model")
        )
        assert (model.num_kv_heads, chosen["block"]) == (1, "parallel")
        assert model.head.weight is model.token_embedding.weight
        assert not [name for name, _ in model.named_parameters() if "bias" in name]
        assert {k: chosen[k] for k in PAPER} == PAPER


@pytest.mark.parametrize("choice", CHOICES, ids=named)
def test_flops_agree_with_the_counter(choice: dict[str, Any]) -> None:
    model = PaLM(11, 12, **{**SMALL, **choice})
    tokens = torch.randint(11, (3, 9))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.loss(model(tokens), tokens).backward()
    assert counter.get_total_flops() == 3 * 9 * model.flops_per_token(9)


def test_the_z_loss_is_apart_from_the_loss() -> None:
    model = PaLM(11, 8, **SMALL, z_loss=0.5)
    tokens, targets = torch.randint(11, (2, 6)), torch.randint(11, (2, 6))
    targets[0, :2] = -100
    logits = model(tokens).detach()
    expected, counted = 0.0, 0
    for scores, wanted in zip(
        logits.flatten(0, 1).tolist(), targets.flatten().tolist(), strict=True
    ):
        if wanted >= 0:
            expected += math.log(sum(math.exp(score) for score in scores)) ** 2
            counted += 1
    found = model.penalties(logits, targets)
    assert float(found["z_loss"]) == pytest.approx(0.5 * expected / counted, rel=1e-5)
    plain = PaLM(11, 8, **SMALL)
    assert plain.penalties(logits, targets) == {}
    assert torch.equal(model.loss(logits, targets), plain.loss(logits, targets))
    assert is_nll(model)
    wide = model.penalties(logits.double(), targets)["z_loss"]
    assert wide.dtype == torch.float64
    assert float(wide) == pytest.approx(0.5 * expected / counted, rel=1e-12)


def test_the_papers_start_has_the_papers_variances() -> None:
    torch.manual_seed(0)
    model = PaLM(500, 8, d_model=64, initialisation="palm", d_hidden=400)
    block: Any = model.layers[1]
    assert model.token_embedding.weight.std().item() == pytest.approx(1, rel=0.02)
    for linear in (block.attention_inputs.joint, block.mlp_inputs.joint, model.head):
        assert linear.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
    assert block.mlp.project.weight.std().item() == pytest.approx(400**-0.5, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "tolerance"),
    [
        ({}, 0.03),
        ({"scale_logits": True}, 0.03),
        ({"scale_logits": True, "tie_embeddings": True}, 0.04),
        ({"scale_logits": True, "tie_embeddings": True, "block": "parallel"}, 0.04),
    ],
)
def test_the_papers_start_has_its_expected_loss(
    arguments: dict[str, Any], tolerance: float
) -> None:
    """ln V + s^2 / 2, s^2 the variance of a logit; tied, it repeats what it reads."""
    losses = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = PaLM(1000, 32, d_model=192, initialisation="palm", **arguments).eval()
        tokens = torch.randint(1000, (8, 33))
        with torch.no_grad():
            nll = model.nll(model(tokens[:, :-1]), tokens[:, 1:]).mean()
        losses.append(float(nll))
    expected = model.expected_initial_nll()
    assert sum(losses) / 2 == pytest.approx(expected, rel=tolerance)
    if "tie_embeddings" in arguments:
        assert expected > math.log(1000) + 1
    else:
        variance = 1 / 192 if arguments else 1.0
        assert expected == pytest.approx(math.log(1000) + variance / 2, abs=0.02)
    assert PaLM(1000).expected_initial_nll() == pytest.approx(math.log(1000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 10, "d_head": None}, "multiple of 4, given 10"),
        ({"num_kv_heads": 3}, "divisor of 4, given 3"),
        ({"num_kv_heads": 0}, "num_kv_heads must be a positive integer, given 0"),
        ({"d_head": 3}, "even d_head, given 3"),
        ({"rope_base": 0.0}, "rope_base must be above 0, given 0"),
        (
            {"mlp": "relu"},
            "mlp must be one of swiglu, gelu, relu_squared, given 'relu'",
        ),
        ({"position": "alibi"}, "position must be one of rope, learned, none"),
        ({"norm": "batch"}, "norm must be one of layer, rms"),
        ({"block": "both"}, "block must be one of parallel, serial"),
        ({"initialisation": "zero"}, "initialisation must be one of gpt2, palm"),
        ({"z_loss": -1.0}, "z_loss must be a weight of at least 0, given -1.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), given 1.0"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PaLM(11, 12, **{**SMALL, **arguments})
