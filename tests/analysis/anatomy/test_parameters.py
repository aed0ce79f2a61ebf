"""The table of parameters: every number once, in the right row, and its costs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmzoo.analysis.anatomy.parameters import ParameterTable, count, on_meta, state_size
from lmzoo.models.base import LanguageModel
from lmzoo.registry import models
from tests.counting import products
from tests.plugin_example.lmzoo_neighbour import Neighbour
from tests.zoo import BUILTINS

# "pretrained" is what its source is: it has no size and no formula of its own
BUILT_IN = [name for name in BUILTINS if name != "pretrained"]
NO_CLOSED_FORM = {"ngram"}  # it multiplies no matrices


def table(name: str, **arguments) -> ParameterTable:
    return count(on_meta(models.load(name), {"vocab_size": 31, **arguments}))


def rows(found: ParameterTable) -> dict[str, int]:
    return {row.name: row.parameters for row in found.rows}


def test_the_rows_of_a_gpt() -> None:
    width, inner, layers = 12, 2 * 5, 3
    found = rows(table("gpt", d_model=width, num_layers=layers, num_heads=2, d_head=5))

    into = layers * (width * inner + inner)
    assert found == {
        "token embedding": 31 * width,
        "position embedding": 64 * width,
        "attention q": into,
        "attention k": into,
        "attention v": into,
        "attention o": layers * (inner * width + width),
        "MLP": layers * (8 * width * width + 5 * width),
        "norms": (2 * layers + 1) * 2 * width,
        "head": 31 * width,
    }


@pytest.mark.parametrize(
    ("name", "part"), [("lstm", "recurrent"), ("conv", "convolution"), ("mlp", "MLP")]
)
def test_the_body_of_other_families(name: str, part: str) -> None:
    assert set(rows(table(name))) == {"token embedding", part, "head"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_rows_add_up_and_shares_to_a_hundred(name: str) -> None:
    model = models.load(name)(vocab_size=31)
    found = count(model)

    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.trainable == found.parameters
    if found.parameters:
        assert sum(map(found.share, found.rows)) == pytest.approx(100)
    assert found.bytes("fp32") == 2 * found.bytes("bf16") == 4 * found.parameters
    assert found.optimizer_bytes == 8 * found.parameters


def test_a_shared_matrix_is_counted_once_and_shown_as_shared() -> None:
    tied = table("gpt", tie_embeddings=True, head_bias=True)
    head = next(row for row in tied.rows if row.name == "head")

    assert (head.parameters, head.shared) == (31, 31 * 128)
    assert head.shared_with == "token embedding"
    assert tied.parameters == table("gpt").parameters - 31 * 128 + 31


def test_frozen_parameters_need_no_optimizer_state() -> None:
    model = models.load("gpt")(vocab_size=31)
    model.token_embedding.requires_grad_(False)
    found = count(model)

    assert found.parameters - found.trainable == 31 * 128
    assert found.optimizer_bytes == 8 * found.trainable


def test_optimizer_state_is_what_adamw_keeps() -> None:
    model = models.load("gpt")(vocab_size=31, d_model=8, num_layers=1, num_heads=2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    optimizer.step()
    kept = [v for s in optimizer.state.values() for k, v in s.items() if k != "step"]

    assert sum(v.nbytes for v in kept) == count(model).optimizer_bytes


def test_tables_of_counts_are_memory_and_no_parameters() -> None:
    model = models.load("ngram")(vocab_size=5, order=2)
    model.count(np.array([0, 1, 2, 0, 1, 3]))  # type: ignore[operator]
    found = count(model)

    assert found.parameters == 0
    # contexts, entries, counts, totals: 1, 4, 4, 1 of order 1 and 3, 4, 4, 3 of order 2
    assert found.buffer_bytes == 8 * (10 + 14)


# ---- plugins: any module lands somewhere ---------------------------------------------


class Grouped(LanguageModel):
    """Two query heads share one head of keys and values; a matrix of its own."""

    def __init__(self, vocab_size: int, context_length: int = 8) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab_size, 6)
        self.wpe = nn.Embedding(context_length, 6)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(6, 4 + 2 + 2, bias=False), "out": nn.Linear(4, 6)}
        )
        self.other_attention = nn.MultiheadAttention(6, 2)
        self.scale = nn.Parameter(torch.ones(6))
        self.unembed = nn.Linear(6, vocab_size, bias=False)


def test_plugins_names_and_fused_maps() -> None:
    found = rows(count(on_meta(Grouped, {"vocab_size": 31})))

    assert found == {
        "token embedding": 31 * 6,
        "position embedding": 8 * 6,
        "attention q": 6 * 4 + 42,
        "attention k": 6 * 2 + 42,
        "attention v": 6 * 2 + 42,
        "attention o": 4 * 6 + 6 + 42,
        "head": 31 * 6,
        "other: scale": 6,
    }


def test_the_example_plugin() -> None:
    found = count(on_meta(Neighbour, {"vocab_size": 31}))

    assert set(rows(found)) == {"token embedding", "MLP", "head"}
    assert found.training_flops is None
    assert found.state is not None
    assert found.state.bytes() == 8 * 32


# ---- state ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [{}, {"num_layers": 2, "d_head": 5, "num_heads": 3}])
def test_a_gpt_keeps_keys_and_values(size: dict) -> None:
    model = on_meta(models.load("gpt"), {"vocab_size": 31, "context_length": 9, **size})
    heads = model.num_heads * model.d_head  # type: ignore[operator]
    state = state_size(model)

    assert state is not None
    assert state.numbers == 2 * len(model.layers) * 9 * heads  # type: ignore[arg-type]
    assert state.other_bytes == 9 * 8  # the window's token ids
    assert state.bytes("bf16") == 2 * state.numbers + 72


@pytest.mark.parametrize(("name", "vectors"), [("rnn", 1), ("gru", 1), ("lstm", 2)])
def test_a_recurrent_state_has_no_length(name: str, vectors: int) -> None:
    for context in (3, 50):
        arguments = {"context_length": context, "d_hidden": 7, "num_layers": 4}
        state = table(name, **arguments).state
        assert state is not None
        assert (state.numbers, state.other_bytes) == (vectors * 4 * 7, 0)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_state_measured_is_the_real_one(name: str) -> None:
    model = models.load(name)(vocab_size=31, context_length=12).eval()
    with torch.no_grad():
        _, state = model.advance(torch.zeros(1, 12, dtype=torch.long))
    found, parts, real = state_size(model), [state], 0
    while parts:
        part = parts.pop()
        if isinstance(part, Tensor):
            real += part.nbytes
        elif isinstance(part, tuple):
            parts.extend(part)

    assert found is not None
    assert found.bytes("fp32") == real


# ---- FLOPs: torch's counter, over attention and cells that it can see ----------------


@pytest.mark.parametrize("name", [n for n in BUILT_IN if n not in NO_CLOSED_FORM])
@pytest.mark.parametrize("tie", [False, True])
def test_flops_per_token_agree_with_the_counter(name: str, tie: bool) -> None:
    arguments = {"vocab_size": 11, "context_length": 9, "tie_embeddings": tie}
    if name in ("rnn", "gru", "lstm"):
        arguments |= {"d_model": 6, "d_hidden": 6, "num_layers": 2}
    elif name == "heaviside":
        arguments |= {"d_model": 8, "d_hidden": 8, "setting": "surrogate"}
    model = models.load(name)(**arguments)
    tokens = torch.randint(11, (3, 9))
    written_out = name in ("rnn", "gru", "lstm")
    depthwise = name in ("mingru", "mamba2")
    counted = products if depthwise else FlopCounterMode.get_total_flops
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = _cells(model, tokens) if written_out else model(tokens)
        forward = counted(counter)
        model.loss(logits, tokens).backward()
    found = count(model, 9)

    assert forward == 3 * 9 * found.inference_flops
    assert counted(counter) == 3 * 9 * found.training_flops


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_the_cells_written_by_hand_are_the_models(name: str) -> None:
    model = models.load(name)(vocab_size=11, d_model=6, d_hidden=5, num_layers=2)
    tokens = torch.randint(11, (3, 9))

    assert torch.allclose(_cells(model, tokens), model(tokens), atol=1e-5)


def test_a_model_without_a_closed_form_says_so() -> None:
    found = table("ngram")

    assert found.training_flops is None
    assert found.inference_flops is None


def test_flops_grow_with_the_length_only_where_there_is_attention() -> None:
    arguments = {"vocab_size": 31, "context_length": 64}
    for name, grows in (("gpt", True), ("lstm", False), ("ff", False)):
        model = on_meta(models.load(name), arguments)
        assert (count(model, 64).training_flops != count(model, 1).training_flops) is (
            grows
        )


def _cells(model: LanguageModel, tokens: Tensor) -> Tensor:
    """The recurrent models with every product written out."""
    x = model.embedding(tokens)  # type: ignore[operator]
    kind = type(model).__name__
    for layer in range(model.recurrent.num_layers):  # type: ignore[union-attr]
        w, u, b, c = (
            getattr(model.recurrent, f"{part}_l{layer}")
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # what lies before the text has a gradient too, as every later state has
        h = x.new_zeros(len(x), u.shape[1], requires_grad=True)
        memory, outputs = torch.zeros_like(h), []
        for t in range(x.shape[1]):
            new, old = F.linear(x[:, t], w, b), F.linear(h, u, c)
            if kind == "RNN":
                h = torch.tanh(new + old)
            elif kind == "GRU":
                (r, z, n), (s, y, m) = new.chunk(3, -1), old.chunk(3, -1)
                gate = torch.sigmoid(z + y)
                fresh = torch.tanh(n + torch.sigmoid(r + s) * m)
                h = (1 - gate) * fresh + gate * h
            else:
                i, f, g, o = (new + old).chunk(4, -1)
                kept = torch.sigmoid(f) * memory
                memory = kept + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(memory)
            outputs.append(h)
        x = torch.stack(outputs, dim=1)
    return model.head(x)  # type: ignore[operator]


# ---- memory --------------------------------------------------------------------------

MEASURE = """
from pathlib import Path
from lmzoo.analysis.anatomy.diagram import draw
from lmzoo.analysis.anatomy.parameters import count, on_meta
from lmzoo.models.gpt import GPT

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

count(on_meta(GPT, {"vocab_size": 7}))
before = resident()
model = on_meta(GPT, GPT.preset_arguments("gpt2-xl"))
print(count(model).parameters, bool(draw(model, "gpt2-xl")), resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_largest_preset_is_counted_in_no_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    parameters, drawn, kilobytes = done.stdout.split()

    assert (int(parameters), drawn) == (1_557_611_200, "True")
    assert int(kilobytes) < 40_000  # its weights alone would be 6,230,000
