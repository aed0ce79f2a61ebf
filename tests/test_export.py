"""Exports: equal logits, equal text, equal ids; whole or not there at all."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lmzoo import runs
from lmzoo.errors import UsageError
from lmzoo.export import export
from lmzoo.generation import generate
from lmzoo.registry import models
from lmzoo.runs import Run
from lmzoo.text.tokenizers import train_tokenizer
from tests.zoo import BUILTINS

TEXT = "the quick brown fox\njumps over 2² lazy dogs' naïve café; a_b\r\n"
SMALL = {"d_model": 16, "num_layers": 2, "num_heads": 2}


def made(name: str = "gpt", tokenizer: str = "char", ends: bool = False, **arguments):
    """A run of an untrained model, with noise on every weight."""
    size = 300 if tokenizer == "bpe" else None
    learned = train_tokenizer(tokenizer, iter([TEXT * 3]), documents=ends, size=size)
    torch.manual_seed(0)
    sizes = {"vocab_size": learned.vocab_size, "context_length": 16}
    model = models.load(name)(**{**sizes, **arguments})
    if model.counting:
        model.count(torch.arange(90).numpy() % learned.vocab_size)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    stored = {
        "format": runs.FORMAT,
        "model": name,
        "arguments": model.arguments,
        "tokenizer": learned.state(),
        "data": {"name": "text", "arguments": {"path": "/home/me/x", "corpus": None}},
    }
    state = {"state_dict": model.state_dict(), "global_step": 7, "lmzoo": stored}
    return Run(Path("made"), state)


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_safetensors_come_back_bit_equal(name: str, tmp_path: Path) -> None:
    if name == "pretrained":
        pytest.importorskip("transformers")
    run = made(name)
    notes = export(run, "safetensors", tmp_path / "x")
    again = runs.load(tmp_path / "x")
    assert (again.step, again.stored["model"]) == (7, name)
    assert again.tokenizer.sha256() == run.tokenizer.sha256()
    tokens = torch.randint(run.model.vocab_size, (2, 16))
    with torch.no_grad():
        assert torch.equal(again.model(tokens), run.model(tokens))
    assert bool(notes) == run.model.counting
    assert "/home/me" not in (tmp_path / "x" / "config.json").read_text()


def test_a_tied_head_is_stored_once_and_tied_again(tmp_path: Path) -> None:
    run = made(tie_embeddings=True, **SMALL)
    export(run, "safetensors", tmp_path / "x")
    stored = load_file(tmp_path / "x" / "model.safetensors")
    assert "head.weight" not in stored
    model = runs.load(tmp_path / "x").model
    assert model.head.weight is model.token_embedding.weight


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("tokenizer", ["char", "word", "byte", "bpe"])
@pytest.mark.parametrize("tie", [False, True])
def test_plain_transformers_reads_a_gpt(
    tokenizer: str, tie: bool, ends: bool, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    run = made("gpt", tokenizer, ends, tie_embeddings=tie, d_hidden=24, **SMALL)
    export(run, "hf", tmp_path / "x")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "x").eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "x")
    tokens = torch.randint(run.model.vocab_size, (2, 16))
    with torch.no_grad():
        gap = (theirs(tokens).logits - run.model(tokens)).abs().max()
    assert gap < 1e-5
    for text in (TEXT, "Ω <unk> e\u0301\r\n\n  x<eod>", ""):
        ids = run.tokenizer.encode(text).tolist()
        assert words(text, add_special_tokens=False).input_ids == ids
        start = run.tokenizer.start_id
        assert words(text).input_ids == ([] if start is None else [start]) + ids
        assert words.decode(ids) == run.tokenizer.decode(ids)
    prompt = torch.tensor([[3, 1, 4]])
    stream = generate(run.model, prompt, temperature=0)
    ours = [int(token) for token in itertools.islice(stream, 13)]
    theirs.generation_config.eos_token_id = None  # ours goes on after an end
    greedy = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=13,
        do_sample=False,
        pad_token_id=0,
    )
    assert greedy[0, 3:].tolist() == ours
    assert words.decode(ours) == run.tokenizer.decode(ours)


def test_a_gpt_without_biases_too(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run = made("gpt", bias=False, **SMALL)
    export(run, "hf", tmp_path / "x")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "x").eval()
    tokens = torch.randint(run.model.vocab_size, (2, 16))
    with torch.no_grad():
        gap = (theirs(tokens).logits - run.model(tokens)).abs().max()
    assert gap < 1e-5


def test_a_pretrained_goes_back_to_where_it_came_from(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    source = {
        "model_type": "llama",
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "tie_word_embeddings": True,
    }
    run = made("pretrained", source=source)
    export(run, "hf", tmp_path / "x")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "x").eval()
    tokens = torch.randint(run.model.vocab_size, (2, 16))
    with torch.no_grad():
        ours = run.model(tokens)
        logits = theirs(tokens).logits[..., : run.model.vocab_size]
        again = runs.load(tmp_path / "x").model(tokens)
    assert torch.allclose(logits, ours, atol=1e-6)
    assert torch.equal(again, ours)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("lstm", {}, "no counterpart of a 'lstm'; hf takes gpt and pretrained"),
        ("transformer-unmasked", {}, "no counterpart"),
        ("gpt", {"head_bias": True}, "GPT-2's head has no bias"),
        ("gpt", {"d_head": 5}, "d_head 5"),
    ],
)
def test_what_transformers_has_not_is_refused(
    name: str, arguments: dict, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        export(made(name, **arguments), "hf", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    run = made(**SMALL)
    for name in ("file", "full"):
        with pytest.raises(UsageError, match="is there already"):
            export(run, "safetensors", tmp_path / name)
    export(run, "safetensors", tmp_path / "empty")
    names = sorted(path.name for path in (tmp_path / "empty").iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = made(**SMALL)
    monkeypatch.setattr("lmzoo.export._write_plain", full)
    with pytest.raises(UsageError, match="No space left"):
        export(run, "safetensors", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_json_without_code(tmp_path: Path) -> None:
    export(made(**SMALL), "safetensors", tmp_path / "x")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["model"] == "gpt"
    assert not [key for key in config if "class" in key]
