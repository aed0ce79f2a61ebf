"""What a checkpoint's bytes may not be, whatever their hash says."""

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch

from lmzoo.errors import UsageError
from lmzoo.rebuild import rebuild
from lmzoo.unpacking import elements_held, require_form, require_tensors, unpack

HERE = Path("here.ckpt")


def saved(value: object) -> memoryview:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getbuffer()


def rewritten(body: memoryview, compression: int, **more: bytes) -> memoryview:
    """The same archive, its parts compressed or not, and further parts."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(body)) as source,
        zipfile.ZipFile(made, "w", compression) as archive,
    ):
        for entry in source.infolist():
            archive.writestr(entry.filename, source.read(entry))
        for name, content in more.items():
            archive.writestr(f"archive/{name}.pkl", content)
    return made.getbuffer()


def test_data_comes_back() -> None:
    value = {"a": torch.arange(3), "b": [1, "two", None]}
    found = unpack(saved(value), HERE)
    assert torch.equal(found["a"], value["a"])
    assert found["b"] == value["b"]
    stored = rewritten(saved(value), zipfile.ZIP_STORED)
    assert unpack(stored, HERE)["b"] == value["b"]


def test_a_call_is_named_and_no_way_round_it_is_advised() -> None:
    class Call:
        def __reduce__(self):
            return os.getcwd, ()

    with pytest.raises(UsageError, match=r"asks for posix\.getcwd") as caught:
        unpack(saved([Call()]), HERE)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        memoryview(b""),
        memoryview(b"\x80\x02}."),
        rewritten(saved([torch.zeros(9999)]), zipfile.ZIP_DEFLATED),
        rewritten(saved([]), zipfile.ZIP_STORED, x=b"cbuiltins\nbytearray\n"),
    ],
    ids=["empty", "no archive", "compressed", "asks for memory"],
)
def test_what_is_no_plain_archive_is_refused(body: memoryview) -> None:
    with pytest.raises(UsageError, match=r"here\.ckpt is not a checkpoint"):
        unpack(body, HERE)


def test_memory_is_counted_once_and_not_by_shape() -> None:
    one = torch.zeros(6)
    held = {"a": one, "b": one.view(2, 3), "c": torch.zeros(1).expand(9, 9)}
    assert elements_held(held) == 7
    assert elements_held({"x": torch.zeros(5, dtype=torch.bfloat16)}) == 5


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, device="meta"),
        torch.ones(3).to_sparse(),
        "weight",
        None,
    ],
)
def test_weights_are_plain_tensors(tensor: object) -> None:
    with pytest.raises(UsageError, match=r"here\.ckpt"):
        require_tensors({"w": tensor}, HERE)
    require_tensors({"w": torch.zeros(3)}, HERE)  # the control


def test_a_stretched_tensor_builds_no_model() -> None:
    width = 4096
    arguments = {"vocab_size": 9, "context_length": 8, "d_model": width}
    from lmzoo.models.recurrent import RNN  # the shapes that it asks for

    with torch.device("meta"):
        wanted = RNN(**arguments).state_dict()
    state = {key: torch.zeros(1).expand(one.shape) for key, one in wanted.items()}
    with pytest.raises(UsageError, match=r"asks for .* numbers, and it holds"):
        rebuild("rnn", arguments, state, HERE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("global_step", "many"),
        ("global_step", -1),
        ("global_step", True),
        ("loops", "fit"),
        ("state_dict", [1]),
        ("lmzoo", {"format": 1, "model": 7, "arguments": {}, "tokenizer": None}),
        ("lmzoo", {"format": 1, "model": "gpt", "arguments": [], "tokenizer": None}),
        ("lmzoo", {"format": 1, "model": "gpt", "arguments": {}}),
    ],
)
def test_a_checkpoint_has_its_form(key: str, value: object) -> None:
    stored = {"format": 1, "model": "gpt", "arguments": {}, "tokenizer": None}
    sound = {"lmzoo": stored, "state_dict": {}, "global_step": 3, "loops": {}}
    require_form(sound, HERE)
    with pytest.raises(UsageError, match=r"here\.ckpt"):
        require_form({**sound, key: value}, HERE)
