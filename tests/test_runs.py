"""Checkpoints: written whole or not at all, verified, and never code."""

import io
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lmzoo import files, runs
from lmzoo.errors import UsageError
from lmzoo.models.gpt import GPT
from lmzoo.text.spans import Spans
from lmzoo.text.tokenizers import train_tokenizer


def checkpoint() -> dict:
    torch.manual_seed(0)
    tokenizer = train_tokenizer("char", iter(["the quick brown fox"]), documents=False)
    arguments = {
        "vocab_size": tokenizer.vocab_size,
        "context_length": 8,
        "d_model": 8,
        "num_layers": 1,
        "num_heads": 2,
    }
    model = GPT(**arguments)
    return {
        "state_dict": model.state_dict(),
        "global_step": 7,
        "lmzoo": {
            "format": runs.FORMAT,
            "model": "gpt",
            "arguments": model.arguments,
            "tokenizer": tokenizer.state(),
        },
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "checkpoints" / runs.checkpoint_name(7)
    runs.write_checkpoint(checkpoint(), path)
    return path


def test_a_file_is_enough_to_rebuild_the_model(saved: Path) -> None:
    run = runs.load(saved)
    original = checkpoint()["state_dict"]
    assert run.step == 7
    assert run.tokenizer.decode(run.tokenizer.encode("the fox")) == "the fox"
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, original[name])
    tokens = torch.zeros(1, 4, dtype=torch.long)
    assert run.model(tokens).shape == (1, 4, run.tokenizer.vocab_size)


def test_a_checkpoint_is_read_once(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, plain = [], runs.verified_bytes
    monkeypatch.setattr(
        runs, "verified_bytes", lambda path: read.append(path) or plain(path)
    )
    for path in (saved, saved.parent.parent):  # the file, and its folder
        assert runs.load(path).step == 7
    assert read == [saved, saved]
    runs.find_checkpoint(saved.parent.parent)
    assert len(read) == 3


def test_a_folder_stands_for_its_newest_sound_checkpoint(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, newer = saved.parent.parent, saved.with_name(runs.checkpoint_name(9))
    newer.write_bytes(saved.read_bytes()[:-100])  # torn
    files.write_json(folder / "manifest.json", {"best": newer.name})
    assert runs.find_checkpoint(folder) == saved
    assert runs.load(folder).path == saved
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2  # one look, one line
    assert all(line.startswith(f"skipped: {newer} does not end") for line in told)
    files.write_json(folder / "manifest.json", {"best": saved.name})  # the control
    assert runs.find_checkpoint(folder) == saved
    assert capsys.readouterr().err == ""


def test_a_copy_by_another_name_is_no_checkpoint_of_the_run(saved: Path) -> None:
    folder = saved.parents[1]
    before = runs.newest_first(folder)
    for name in ("step-best.ckpt", "step-000000009-copy.ckpt"):
        (saved.parent / name).write_bytes(saved.read_bytes())
    assert runs.newest_first(folder) == before
    assert before


def test_what_is_no_file_states_no_digest(saved: Path) -> None:
    """To read a pipe is to wait, and /dev/zero has no end."""
    pipe, endless, gone = (saved.with_name(runs.checkpoint_name(n)) for n in (8, 9, 10))
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    gone.symlink_to(saved.with_name("nothing"))
    told = [runs.stated_digest(file) for file in runs.newest_first(saved.parent.parent)]
    assert told[:3] == ["", "", ""]
    assert told[3] == runs.load(saved).sha256 != ""


def test_plain_torch_reads_the_file_too(saved: Path) -> None:
    assert torch.load(saved, weights_only=True)["global_step"] == 7


def test_every_flipped_bit_is_found(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    rng = random.Random(0)
    missed_by_torch = 0
    for _ in range(60):
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[place] ^= bit
        saved.write_bytes(content)
        with pytest.raises(UsageError):
            runs.read_checkpoint(saved)
        try:  # the control: torch alone reads most damaged files without a word
            torch.load(io.BytesIO(content), weights_only=True)
            missed_by_torch += 1
        except Exception:
            pass
        content[place] ^= bit
    assert missed_by_torch > 0
    saved.write_bytes(content)
    runs.read_checkpoint(saved)


def test_every_truncation_is_found(saved: Path) -> None:
    content = saved.read_bytes()
    rng = random.Random(0)
    for _ in range(30):
        saved.write_bytes(content[: rng.randrange(len(content))])
        with pytest.raises(UsageError):
            runs.read_checkpoint(saved)


class Payload:
    def __reduce__(self) -> tuple:
        return (os.mkdir, (PAYLOAD,))


PAYLOAD = "executed-by-a-checkpoint"


@pytest.mark.parametrize("forced", [False, True])
def test_a_pickle_is_refused_and_not_run(
    forced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if forced:  # the switch that makes torch.load unsafe where it is not explicit
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    evil = {**checkpoint(), "payload": Payload()}
    path = tmp_path / "evil.ckpt"
    runs.write_checkpoint(evil, path)
    with pytest.raises(UsageError, match="not a checkpoint that is safe"):
        runs.load(path)
    assert not (tmp_path / PAYLOAD).exists()
    torch.load(path, weights_only=False)  # the control: it would have run
    assert (tmp_path / PAYLOAD).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"vocab_size": {"class_path": "os.mkdir", "init_args": {"path": "x"}}},
        {"vocab_size": 20, "_instantiator": "os.system"},
        {"vocab_size": 20, "context_length": {"init_args": {}}},
        {"vocab_size": 20, "unheard_of": 3},
        {"vocab_size": -1},
        {"vocab_size": torch.tensor(3)},
    ],
)
def test_arguments_that_could_name_code_are_refused(
    arguments: dict, tmp_path: Path
) -> None:
    evil = checkpoint()
    evil["lmzoo"]["arguments"] = arguments
    path = tmp_path / "evil.ckpt"
    runs.write_checkpoint(evil, path)
    with pytest.raises(UsageError):
        _ = runs.load(path).model


def test_an_unknown_model_says_to_give_the_plugin(tmp_path: Path) -> None:
    foreign = checkpoint()
    foreign["lmzoo"]["model"] = "somebodys-own"
    path = tmp_path / "foreign.ckpt"
    runs.write_checkpoint(foreign, path)
    with pytest.raises(UsageError, match="--plugin"):
        _ = runs.load(path).model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99}, "upgrade lmzoo"),
        (None, "was not written by lmzoo"),
    ],
)
def test_foreign_and_newer_files(
    change: dict | None, said: str, tmp_path: Path
) -> None:
    content = checkpoint()
    if change is None:
        del content["lmzoo"]
    else:
        content["lmzoo"].update(change)
    runs.write_checkpoint(content, tmp_path / "x.ckpt")
    with pytest.raises(UsageError, match=said):
        runs.load(tmp_path / "x.ckpt")


@pytest.mark.parametrize("path", ["https://host/x.ckpt", "s3://b/x", "nowhere"])
def test_only_local_files(path: str) -> None:
    with pytest.raises(UsageError):
        runs.load(path)


def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        files.write_json(path, {"a": 2})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_the_spans_of_a_run_are_found_from_its_folder_or_checkpoint(
    tmp_path: Path,
) -> None:
    file = tmp_path / "checkpoints" / runs.checkpoint_name(1)
    files.write_atomically(file, b"any")
    assert runs.read_spans(tmp_path) is runs.read_spans(file) is None

    spans = Spans.build(["It was the best of times"])
    files.write_atomically(tmp_path / runs.SPANS, spans.to_bytes())
    for path in (tmp_path, file, str(file)):
        found = runs.read_spans(path)
        assert found is not None
        assert found.occurs("the best of times") is True

    files.write_atomically(tmp_path / runs.SPANS, spans.to_bytes()[:-1])
    with pytest.raises(UsageError, match=r"spans\.bin is damaged"):
        runs.read_spans(file)


def test_json_has_no_nan(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf")]})
    assert "NaN" not in (tmp_path / "x.json").read_text()


def test_arrays_are_numbers_and_the_rest_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    files.write_json(file, {"one": np.float32(0.5), "two": np.arange(2)})
    assert json.loads(file.read_text()) == {"one": 0.5, "two": [0, 1]}

    with pytest.raises(UsageError, match=r"set .* cannot be written as JSON"):
        files.write_json(file, {"one": {1, 2}})
    assert json.loads(file.read_text())["two"] == [0, 1]
