"""Any transformers causal model as a zoo member, with its own tokenizer."""

import itertools
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import lmzoo
from lmzoo import hub, portable
from lmzoo.errors import UsageError
from lmzoo.export import export
from lmzoo.generation import generate
from lmzoo.models import lora
from lmzoo.models.base import LanguageModel
from lmzoo.models.pretrained import UNNAMED, Pretrained
from lmzoo.registry import models
from lmzoo.runs import Run
from lmzoo.testing import check_model
from lmzoo.text.tokenizers import ByteTokenizer
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


# ---- where the weights come from -----------------------------------------------------

SHORT = (
    "--data.batch_size 4 --samples.length 8 --optimizer.lr 1e-3 "
    "--trainer.max_steps 6 --trainer.val_check_interval 3"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A transformers folder: a small GPT-2 with a byte vocabulary."""
    pytest.importorskip("transformers")
    tokenizer = ByteTokenizer(False)
    sizes = {"d_model": 16, "num_layers": 2, "num_heads": 2, "context_length": 32}
    torch.manual_seed(0)
    model = models.load("gpt")(vocab_size=tokenizer.vocab_size, **sizes)
    arguments = model.arguments
    stored = {"model": "gpt", "arguments": arguments, "tokenizer": tokenizer.state()}
    run = Run(Path("none"), {"lmzoo": stored, "state_dict": model.state_dict()})
    export(run, "hf", tmp_path / "gpt2")
    return tmp_path / "gpt2"


def train(source: Path, story: Path, run: Path, more: str = "") -> Run:
    result = command(
        f"fit --model pretrained --model.source {source} --data.path {story} {SHORT} "
        f"--trainer.default_root_dir {run} {more}"
    )
    assert result.code == 0, result.err
    return lmzoo.load(run)


def test_a_source_brings_weights_tokenizer_and_context(
    source: Path, story: Path, tmp_path: Path
) -> None:
    run = train(source, story, tmp_path / "run", "--optimizer.lr 1e-12")
    before = Run(source, portable.read(source, as_is=True))
    assert run.stored["model"] == "pretrained"  # and not the gpt that it could be
    assert run.model.context_length == 32
    assert run.tokenizer.sha256() == before.tokenizer.sha256()
    theirs, ours = before.model.state_dict(), run.model.state_dict()
    assert all(torch.allclose(ours[n], theirs[n], atol=1e-6) for n in theirs)
    source.rename(source.with_name("gone"))  # nothing later needs it
    for line in ("generate {} --prompt the", "score {} --text fox", "params {}"):
        result = command(line.format(tmp_path / "run"))
        assert result.code == 0, result.err
    again = command(f"fit --ckpt_path {tmp_path / 'run'} --trainer.max_steps 8")
    assert again.code == 0, again.err


def test_a_source_may_stand_in_a_file(
    source: Path, story: Path, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"model: {{class_path: pretrained, source: {source}}}\n")
    result = command(
        f"fit --config {file} --data.path {story} {SHORT} "
        f"--trainer.default_root_dir {tmp_path / 'run'}"
    )
    assert result.code == 0, result.err
    assert lmzoo.load(tmp_path / "run").model.context_length == 32


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--model pretrained --model.source ./nosuch", "no such folder or file"),
        ("--model gpt --model.source {}", "unknown option --model.source"),
        ("--model pretrained --model.source {} --init_from {}", "both say where"),
        ("--model pretrained --model.source {} --ckpt_path {}", "both say where"),
    ],
)
def test_a_source_that_cannot_be_is_one_line(
    line: str, said: str, source: Path
) -> None:
    result = command("fit " + line.replace("{}", str(source)))
    assert result.code == 2
    assert said in result.err


def test_a_run_of_another_model_is_no_source(story: Path, tmp_path: Path) -> None:
    small = "--model.d_model 8 --model.context_length 8 --data.batch_size 2"
    run = tmp_path / "ff"
    trained = command(
        f"fit --model ff {small} --data.path {story} --trainer.max_steps 2 "
        f"--trainer.default_root_dir {run}"
    )
    assert trained.code == 0, trained.err
    result = command(f"fit --model pretrained --model.source {run}")
    assert result.code == 2
    assert "--init_from" in result.err
    assert "'ff'" in result.err


def test_a_name_says_that_it_needs_the_network(
    monkeypatch: pytest.MonkeyPatch, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = pytest.importorskip("huggingface_hub")
    asked = []

    def download(name: str, **options: object) -> str:
        asked.append((name, options))
        if options.get("local_files_only") or name == "nobody/nothing":
            raise OSError("it is not there")
        return str(source)

    monkeypatch.setattr(library, "snapshot_download", download)
    assert hub.fetch("somebody/model") == source
    assert "needs the network" in capsys.readouterr().err
    wanted = asked[-1][1]["allow_patterns"]
    assert not [name for name in wanted if name.endswith((".bin", ".py", "*"))]
    with pytest.raises(UsageError, match="did not give it"):
        hub.fetch("nobody/nothing")


def test_the_revision_that_was_fetched_is_kept(
    monkeypatch: pytest.MonkeyPatch, source: Path, story: Path, tmp_path: Path
) -> None:
    library = pytest.importorskip("huggingface_hub")
    revision = "0123456789abcdef" * 2 + "01234567"
    kept = tmp_path / "hub" / "models--somebody--a-model" / "snapshots" / revision
    shutil.copytree(source, kept)
    monkeypatch.setattr(library, "snapshot_download", lambda name, **_: str(kept))
    for place, name in (("somebody/a-model", "fetched"), (str(source), "own")):
        result = command(
            f"fit --model pretrained --model.source {place} --data.path {story} "
            f"--data.batch_size 2 --samples.length 4 --trainer.max_steps 1 "
            f"--trainer.default_root_dir {tmp_path / name}"
        )
        assert result.code == 0, result.err
    manifest, card = (
        (tmp_path / "fetched" / file).read_text()
        for file in ("manifest.json", "MODEL_CARD.md")
    )
    fetched = {"name": "somebody/a-model", "revision": revision}
    assert json.loads(manifest)["hub"] == {"init_from": fetched}
    assert f"those of somebody/a-model@{revision[:12]}" in card
    own = (tmp_path / "own" / "manifest.json").read_text()  # the control
    assert "hub" not in json.loads(own)
    assert hub.origin(f"models--a--b/snapshots/{revision[:-1]}") is None


def test_weights_in_several_files_are_read(source: Path) -> None:
    whole = portable.read(source, as_is=True)["state_dict"]
    tensors = load_file(source / "model.safetensors")
    half = len(tensors) // 2
    index, names = {}, list(tensors)
    for i, part in enumerate((names[:half], names[half:])):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, source / file)
        index |= dict.fromkeys(part, file)
    (source / "model.safetensors").unlink()
    place = source / "model.safetensors.index.json"
    place.write_text(json.dumps({"weight_map": index}))
    found = portable.read(source, as_is=True)["state_dict"]
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    place.write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    with pytest.raises(UsageError, match="no file beside it"):
        portable.read(source)


@needs_stories
def test_the_loss_of_a_real_model_on_its_own_stories() -> None:
    """transformers' own loss, window by window; a story begun at its start costs less.

    The stories are in-domain, and have probably been trained on.
    """
    transformers = pytest.importorskip("transformers")
    file = STORIES.parent / "tinystories" / "tiny_stories.txt"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    text = file.read_text(encoding="utf-8")[:20_000]  # rather more than 31 windows
    run = lmzoo.load(STORIES)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(STORIES).eval()
    ids = torch.tensor(run.tokenizer.encode(text).tolist())
    rows = ids[: 31 * 256].view(-1, 256)
    windows = torch.cat([torch.full((len(rows), 1), run.tokenizer.start_id), rows], 1)
    with torch.no_grad():
        mine, other = run.model(windows[:, :-1]), theirs(windows[:, :-1]).logits
    costs = [run.model.nll(x, windows[:, 1:]).mean() for x in (mine, other)]
    assert costs[0] == pytest.approx(float(costs[1]), abs=1e-6)
    assert costs[0] == pytest.approx(1.543, abs=2e-3)
    stories = re.split(r"(?<!\n)\n(?!\n)", text)[:-1]
    scores = [run.score(story) for story in stories]
    nats = sum(s.nats for s in scores) / sum(s.tokens for s in scores)
    assert 1.2 < nats < costs[0] < 1.7


# ---- low-rank adapters ---------------------------------------------------------------


@pytest.fixture
def peft() -> Any:
    return pytest.importorskip("peft", reason="needs peft, of the extra hf")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mamba"])
def test_fresh_adapters_change_nothing_and_alone_are_trained(
    kind: str, peft: Any
) -> None:
    torch.manual_seed(0)
    described = {**LLAMA, "model_type": kind}
    if kind == "gpt2":
        described = {**UNNAMED, "vocab_size": 40, "n_positions": 16}
    plain = Pretrained(29, 16, source=described).eval()
    targets = ["in_proj", "x_proj"] if kind == "mamba" else None
    model = Pretrained(
        29, 16, source=described, lora_rank=2, lora_targets=targets
    ).eval()
    model.load_state_dict(model.received(plain.state_dict()))
    tokens = torch.randint(29, (2, 16))
    with torch.no_grad():
        assert (model(tokens) - plain(tokens)).abs().max() < 1e-6
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    groups = model.parameter_groups()
    assert sum(len(g["params"]) for g in groups) == len(trained)
    with torch.no_grad():  # the control: they do take part
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        changed = model(tokens)
        assert (changed - plain(tokens)).abs().max() > 1e-3
        plain.network.load_state_dict(lora.merged(model.network), strict=False)
        assert (changed - plain(tokens)).abs().max() < 1e-4


def test_adapters_are_trained_stored_rebuilt_and_merged(
    source: Path, story: Path, tmp_path: Path, peft: Any
) -> None:
    more = "--model.lora_rank 2 --model.lora_alpha 8 --model.lora_dropout 0.1"
    run = train(source, story, tmp_path / "run", more)
    assert run.stored["arguments"]["lora_rank"] == 2
    before = Run(source, portable.read(source, as_is=True)).model
    start = run.model.received(before.state_dict())
    for name, tensor in run.model.state_dict().items():
        if ".lora_" not in name:
            assert torch.equal(tensor, start[name]), name
    state = run.checkpoint["optimizer_states"][0]["state"]
    kept = sum(s["exp_avg"].numel() for s in state.values())
    adapters = [p for n, p in run.model.named_parameters() if ".lora_" in n]
    assert kept == sum(p.numel() for p in adapters)
    assert all(p.any() for p in adapters)  # B has left zero
    tokens = torch.randint(run.model.vocab_size, (1, 32))
    with torch.no_grad():
        trained = run.model(tokens)
        assert (trained - before(tokens)).abs().max() > 1e-4
        exported = command(
            f"export {tmp_path / 'run'} --to hf --out {tmp_path / 'merged'}"
        )
        assert exported.code == 0, exported.err
        assert "lora" not in (tmp_path / "merged" / "config.json").read_text()
        merged = lmzoo.load(tmp_path / "merged").model
        assert (merged(tokens) - trained).abs().max() < 1e-4
    going = command(
        f"fit --ckpt_path {tmp_path / 'run'} --trainer.max_steps 8 "
        f"--trainer.default_root_dir {tmp_path / 'on'}"
    )
    assert going.code == 0, going.err
    plain = command(f"fit --init_from {tmp_path / 'run'} --model.lora_rank 0 "
                    f"--model.lora_dropout 0 --model.lora_alpha null")  # fmt: skip
    assert plain.code == 2
    assert "export --to hf" in plain.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora_rank": -1}, "lora_rank >= 1"),
        ({"lora_rank": 2, "lora_dropout": 1.0}, r"lora_dropout in \[0, 1\)"),
        ({"lora_rank": 2, "lora_targets": ["nosuch"]}, "lora_targets"),
        ({"lora_alpha": 4.0}, "lora_rank is 0"),
    ],
)
def test_adapters_that_cannot_be_are_refused(
    options: dict[str, Any], said: str, peft: Any
) -> None:
    with pytest.raises(ValueError, match=said):
        Pretrained(29, 16, source=LLAMA, **options)


def test_without_peft_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"lmzoo\[hf\]"):
        Pretrained(29, 16, source=LLAMA, lora_rank=2)
    Pretrained(29, 16, source=LLAMA)  # the control
