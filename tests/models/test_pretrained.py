"""Any transformers causal model as a zoo member, with its own tokenizer."""

import itertools
import json
import os
import sys
from pathlib import Path

import pytest
import torch

import lmzoo
from lmzoo.errors import UsageError
from lmzoo.generation import generate
from lmzoo.models.base import LanguageModel
from lmzoo.models.pretrained import Pretrained
from lmzoo.testing import check_model
from tests.cli.runner import lmzoo as command

STORIES = Path(
    os.environ.get("LMZOO_CORPORA", Path(__file__).parents[3] / "shared" / "data")
).joinpath("stories260k")
needs_stories = pytest.mark.skipif(
    not STORIES.is_dir(), reason=f"needs {STORIES}: a small pretrained model"
)
LLAMA = {
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 16,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def test_rows_beyond_the_tokenizer_are_left_out() -> None:
    pytest.importorskip("transformers")
    model = Pretrained(29, 16, source=LLAMA).eval()
    tokens = torch.randint(29, (2, 16))
    with torch.no_grad():
        theirs = model.network(input_ids=tokens).logits
        assert theirs.shape == (2, 16, 40)
        assert torch.equal(model(tokens), theirs[..., :29])


@pytest.mark.parametrize("kind", ["llama", "mistral", "mamba"])
def test_the_cache_changes_nothing(kind: str) -> None:
    """Also for what has sliding windows or no keys at all: then there is no cache."""
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    more = {"llama": {}, "mistral": {"sliding_window": 4}, "mamba": {"state_size": 4}}
    source = {**LLAMA, "model_type": kind, **more[kind]}
    model = Pretrained(29, 16, source=source).eval()
    assert model._plain_cache() == (kind == "llama")
    tokens = torch.randint(29, (2, 45))
    with torch.no_grad():
        expected, _ = LanguageModel.advance(model, tokens)
        state, pieces = None, []
        for chunk in tokens.split([1, 5, 11, 1, 27], dim=1):
            logits, state = model.advance(chunk, model.fork(state))
            pieces.append(logits)
    assert (torch.cat(pieces, dim=1) - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("sizes", "source", "said"),
    [
        ((41, 16), LLAMA, "vocab_size must be at most the source's 40"),
        ((29, 17), LLAMA, "context_length must be at most the source's 16"),
        ((29, 16), {**LLAMA, "model_type": "nosuch"}, "'nosuch'"),
        ((29, 16), {**LLAMA, "model_type": None}, "type None"),
        ((29, 16), {"model_type": "vit"}, "'vit'"),
        ((29, 16), {**LLAMA, "hidden_size": "wide"}, "'llama'"),
    ],
)
def test_mistakes_are_named(sizes: tuple, source: dict, said: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=said):
        Pretrained(*sizes, source=source)


def test_without_transformers_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match="lmzoo\\[hf\\]"):
        Pretrained(29, 16)
    report = check_model("pretrained")
    assert report.ok
    assert [row.verdict for row in report.rows] == ["not proved"]
    assert "not proved here" in str(report)


def test_it_needs_a_source_to_be_trained() -> None:
    result = command("fit --model pretrained")
    assert result.code == 2
    assert "--model.source FOLDER_OR_NAME" in result.err


@needs_stories
def test_the_laws_hold_for_another_architecture() -> None:
    pytest.importorskip("transformers")
    source = json.loads((STORIES / "config.json").read_text(encoding="utf-8"))
    report = check_model("pretrained", source=source)
    assert report.ok, str(report)


@needs_stories
def test_forward_is_transformers_own_and_it_tells_a_story() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(STORIES).eval()
    run = lmzoo.load(STORIES)
    tokens = torch.randint(512, (2, 300), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gap = (run.model(tokens) - theirs(tokens).logits).abs().max()
    assert gap < 1e-6
    start = run.tokenizer.start_id
    stream = generate(run.model, torch.tensor([[start]]), temperature=0)
    ids = [int(token) for token in itertools.islice(stream, 20)]
    text = run.tokenizer.decode(ids)
    assert text.startswith("Once upon a time, there was a little ")


@needs_stories
def test_fine_tuned_it_saves_and_comes_back(story: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    run = tmp_path / "run"
    result = command(
        f"fit --init_from {STORIES} --data.path {story} --model.context_length 32 "
        f"--data.batch_size 4 --trainer.max_steps 6 --trainer.val_check_interval 3 "
        f"--samples.length 8 --optimizer.lr 1e-3 --trainer.default_root_dir {run}"
    )
    assert result.code == 0, result.err
    before, after = lmzoo.load(STORIES), lmzoo.load(run)
    assert after.stored["model"] == "pretrained"
    assert after.tokenizer.sha256() == before.tokenizer.sha256()
    tokens = torch.randint(512, (1, 32))
    with torch.no_grad():
        assert not torch.equal(after.model(tokens), before.model(tokens))
    measured = command(f"validate --ckpt_path {run}")
    assert measured.code == 0, measured.err


def test_attention_maps_are_the_weights_in_use() -> None:
    model = Pretrained(11, 12).eval()
    tokens = torch.randint(11, (2, 7))
    with torch.no_grad():
        before = model(tokens)
        maps = model.attention_maps(tokens)
        assert torch.equal(model(tokens), before)  # the usual kernel is back
    assert maps.shape == (2, 2, 2, 7, 7)
    assert torch.allclose(maps.sum(-1), torch.ones(()))
    assert torch.equal(maps, maps.tril())
    block = model.network.transformer.h[0]
    with torch.no_grad():
        x = block.ln_1(
            model.network.transformer.wte(tokens)
            + model.network.transformer.wpe(torch.arange(7))
        )
        values = block.attn.c_attn(x).split(32, -1)[2].unflatten(-1, (2, 16))
        mixed = maps[:, 0] @ values.transpose(1, 2)  # (B, H, T, Dh)
        attended = block.attn.c_proj(mixed.transpose(1, 2).flatten(2))
        expected = block.attn(x)[0]
    assert torch.allclose(attended, expected, atol=1e-5)
