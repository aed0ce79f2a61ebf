"""Model folders from anywhere: read as data, or refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmzoo import runs
from lmzoo.errors import UsageError
from lmzoo.export import export
from tests.test_export import SMALL, made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A safetensors export."""
    export(made(**SMALL), "safetensors", tmp_path / "x")
    return tmp_path / "x"


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """A transformers folder."""
    export(made(**SMALL), "hf", tmp_path / "y")
    return tmp_path / "y"


def change(file: Path, **values: object) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **values}))


def arguments(folder: Path, **values: object) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(folder / "config.json", arguments={**content["arguments"], **values})


OWN = {
    "truncated": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:-9]
        ),
        "is damaged",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no such file"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "No such file"),
    "not JSON": (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "newer": (
        lambda f: change(f / "config.json", format_version=9),
        "upgrade lmzoo",
    ),
    "no model": (lambda f: change(f / "config.json", model=None), "'model' is missing"),
    "class path": (lambda f: arguments(f, class_path="os.system"), "could name code"),
    "private key": (lambda f: arguments(f, _x=1), "'_x' is not allowed"),
    "unknown": (lambda f: arguments(f, unheard_of=1), "no argument 'unheard_of'"),
    "vocabulary": (lambda f: arguments(f, vocab_size=10**12), "size mismatch"),
    "beyond": (lambda f: arguments(f, vocab_size=10**30), "refuses its arguments"),
    "layers": (lambda f: arguments(f, num_layers=10**9), "at most 10,000"),
    "fewer": (lambda f: arguments(f, num_layers=1), "is unknown to it"),
    "more": (lambda f: arguments(f, num_layers=3), "is missing"),
    "plugin": (lambda f: change(f / "config.json", model="mine"), "--plugin"),
}


@pytest.mark.parametrize("case", OWN)
def test_a_bad_export_is_refused(case: str, folder: Path) -> None:
    _ = runs.load(folder).model  # the control
    spoil, said = OWN[case]
    spoil(folder)
    with pytest.raises(UsageError, match=said):
        _ = runs.load(folder).model


def test_a_flipped_bit_is_found(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    load_file(file)  # the control: safetensors alone says nothing
    with pytest.raises(UsageError, match="SHA-256"):
        runs.load(folder)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def resized(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wpe.weight"] = torch.zeros(99, 16)
    save_file(tensors, folder / "model.safetensors")


FOREIGN = {
    "pickle": (pickled, "is a pickle"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "bad tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer"),
    "no type": (lambda f: change(f / "config.json", model_type=None), "model_type"),
    "own code": (
        lambda f: change(f / "config.json", auto_map={"AutoModel": "m.M"}),
        "code of the model's own",
    ),
    "few rows": (lambda f: change(f / "config.json", vocab_size=3), "do not belong"),
    "rows": (lambda f: change(f / "config.json", vocab_size="many"), "do not belong"),
    "width": (lambda f: change(f / "config.json", n_embd=10**12), "cannot be built"),
    "positions": (
        lambda f: change(f / "config.json", n_positions=10**12),
        "size mismatch",
    ),
    "size": (resized, "size mismatch"),
    "class path": (
        lambda f: change(f / "config.json", model_type="llama", class_path="os.x"),
        "could name code",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_bad_transformers_folder_is_refused(case: str, gpt2: Path) -> None:
    _ = runs.load(gpt2).model  # the control
    spoil, said = FOREIGN[case]
    spoil(gpt2)
    with pytest.raises(UsageError, match=said):
        _ = runs.load(gpt2).model


def test_a_gpt2_becomes_a_gpt_and_its_spare_rows_go(gpt2: Path) -> None:
    whole = runs.load(gpt2).model  # before its file is written over
    tensors = load_file(gpt2 / "model.safetensors")
    for name in ("transformer.wte.weight", "lm_head.weight"):
        tensors[name] = torch.cat([tensors[name], torch.ones(9, 16)])
    save_file(tensors, gpt2 / "model.safetensors")
    change(gpt2 / "config.json", vocab_size=len(tensors["lm_head.weight"]))
    run = runs.load(gpt2)
    assert run.stored["model"] == "gpt"
    tokens = torch.randint(run.model.vocab_size, (2, 16))
    with torch.no_grad():
        assert torch.equal(run.model(tokens), whole(tokens))


def test_a_gpt2_that_is_none_of_ours_is_kept_as_it_is(gpt2: Path) -> None:
    pytest.importorskip("transformers")
    change(gpt2 / "config.json", activation_function="relu")
    run = runs.load(gpt2)
    assert run.stored["model"] == "pretrained"
    assert run.model(torch.zeros(1, 3, dtype=torch.long)).shape[-1] == (
        run.tokenizer.vocab_size
    )
