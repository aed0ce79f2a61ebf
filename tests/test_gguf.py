"""GGUF files are read as what they hold, or refused in one line."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lmzoo
from lmzoo import gguf_header
from lmzoo.errors import UsageError
from lmzoo.models.pretrained import Pretrained
from lmzoo.text.subword import BYTE_OF
from tests.cli.runner import lmzoo as command
from tests.models.test_pretrained import LLAMA

WIDTH, HEADS = 32, 2
SOURCE = {
    **LLAMA,
    "vocab_size": 259,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
}


def renamed(name: str) -> str:
    for theirs, own in NAMES.items():
        name = name.replace(theirs, own)
    return name.replace("model.layers.", "blk.")


def permuted(tensor: np.ndarray) -> np.ndarray:
    """Rows as llama.cpp has them: the two halves of a head's rotation interleaved."""
    split = tensor.reshape(HEADS, 2, -1, tensor.shape[1])
    return split.swapaxes(1, 2).reshape(tensor.shape)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Any]:
    """A small Llama over bytes as a GGUF file, and the model itself."""
    gguf = pytest.importorskip("gguf", reason="needs gguf, of the extra hf")
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = Pretrained(259, 32, source=SOURCE).eval()
    file = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("small")
    writer.add_context_length(32)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(259)
    writer.add_tokenizer_model("gpt2")
    tokens = [*sorted(BYTE_OF, key=lambda c: BYTE_OF[c]), "ab", "<s>", "</s>"]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3] * 2)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(True)
    for name, tensor in model.network.state_dict().items():
        array = tensor.numpy().astype(np.float32)
        if "q_proj" in name or "k_proj" in name:
            array = permuted(array)
        if name != "lm_head.weight":
            writer.add_tensor(renamed(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, model


def test_it_is_the_model_that_was_written(written: tuple[Path, Any]) -> None:
    file, model = written
    run = lmzoo.load(file)
    assert run.stored["model"] == "pretrained"
    assert run.model.context_length == 32
    tokens = torch.randint(256, (2, 32))
    with torch.no_grad():
        gap = (run.model(tokens) - model(tokens)[..., : run.model.vocab_size]).abs()
    assert gap.max() < 1e-5
    assert run.tokenizer.start_id == 257
    assert run.tokenizer.vocab_size == 259  # and no token of the library's own
    text = "caf\u00e9 at 10"
    assert run.tokenizer.decode(run.tokenizer.encode(text)) == text


def test_it_is_scored_trained_and_measured(
    written: tuple[Path, Any], story: Path, tmp_path: Path
) -> None:
    file, _ = written
    scored = command(f"score {file} --text fox")
    assert scored.code == 0, scored.err
    measured = command(f"validate --ckpt_path {file} --data.path {story}")
    assert measured.code == 0, measured.err
    trained = command(
        f"fit --model pretrained --model.source {file} --data.path {story} "
        f"--data.batch_size 2 --samples.length 4 --trainer.max_steps 2 "
        f"--trainer.default_root_dir {tmp_path / 'run'}"
    )
    assert trained.code == 0, trained.err
    assert "Converting" not in trained.err  # the library's progress bar
    resumed = command(f"fit --ckpt_path {file} --trainer.max_steps 2")
    assert resumed.code == 2
    assert "--init_from" in resumed.err


def test_a_damaged_file_is_one_line(written: tuple[Path, Any]) -> None:
    file, _ = written
    whole = file.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "lies beyond its end"),
        (whole[:100], "no sound GGUF file"),
        (b"PK" + whole[2:], "does not begin with GGUF"),
        (b"", "does not begin with GGUF"),
    ):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=said):
            lmzoo.load(file)


# ---- headers that lie, of a file that the package would read without end -----------


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def entry(name: str, kind: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


def tensor(axes: int = 1, size: int = 4, offset: int = 0, name: str = "w") -> bytes:
    sizes = struct.pack("<Q", size) * min(axes, 9)
    return (
        string(name) + struct.pack("<I", axes) + sizes + struct.pack("<IQ", 0, offset)
    )


def header(
    entries: bytes = b"",
    tensors: bytes = b"",
    counts: tuple[int, int] | None = None,
    version: int = 3,
) -> bytes:
    found = (int(bool(tensors)), int(bool(entries))) if counts is None else counts
    start = b"GGUF" + struct.pack("<IQQ", version, *found) + entries + tensors
    return start + bytes(-len(start) % 32) + bytes(32)


LONG = struct.pack("<Q", 1 << 40)
MANY = (1 << 22) + 1
LIES = {
    "entries": (header(counts=(0, 1 << 40)), "entries are announced"),
    "tensors": (header(counts=(1 << 40, 0)), "tensors are announced"),
    "name": (header(LONG + bytes(40)), "the name of an entry has"),
    "string": (header(entry("a", 8, LONG)), "'a' has 1,099,511,627,776 bytes"),
    "array": (header(entry("a", 9, struct.pack("<I", 4) + LONG)), "'a' announces"),
    "strings": (header(entry("a", 9, struct.pack("<I", 8) + LONG)), "'a' announces"),
    "bytes": (
        header(entry("a", 9, struct.pack("<IQ", 0, MANY) + bytes(MANY))),
        "'a' announces 4,194,305 entries",
    ),
    "string in an array": (
        header(entry("a", 9, struct.pack("<IQ", 8, 1) + LONG)),
        "'a' has 1,099,511,627,776 bytes",
    ),
    "array in an array": (
        header(entry("a", 9, struct.pack("<IQ", 9, 1) + bytes(30))),
        "array of the unknown kind 9",
    ),
    "kind": (header(entry("a", 77, bytes(20))), "unknown kind 77"),
    "version": (header(version=99), "version 99"),
    "alignment": (
        header(entry("general.alignment", 4, struct.pack("<I", 0))),
        "alignment 0",
    ),
    "large alignment": (
        header(entry("general.alignment", 4, struct.pack("<I", 1 << 31)), tensor()),
        "the tensor 'w' lies beyond",
    ),
    "axes": (header(tensors=tensor(axes=1 << 30)), "has 1,073,741,824 axes"),
    "size": (header(tensors=tensor(size=1 << 40)), "the tensor 'w' lies beyond"),
    "sizes": (header(tensors=tensor(3, 1 << 60)), "the tensor 'w' lies beyond"),
    "offset": (header(tensors=tensor(offset=1 << 40)), "the tensor 'w' lies beyond"),
    "end": (header()[:20], "it ends inside of its header"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_refused_at_once(case: str, tmp_path: Path) -> None:
    content, said = LIES[case]
    file = tmp_path / "lie.gguf"
    file.write_bytes(content)

    with pytest.raises(UsageError) as caught:
        lmzoo.load(file)

    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sound_header_is_walked_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "sound.gguf"
    values = entry("a", 8, string("text")) + entry("b", 12, bytes(8))
    values += entry("c", 9, struct.pack("<IQ", 8, 2) + string("x") + string(""))
    values += entry("d", 9, struct.pack("<IQ", 5, 3) + bytes(12))
    values += entry("general.alignment", 4, struct.pack("<I", 64))
    file.write_bytes(header(values, tensor(2) + tensor(0), (2, 5)) + bytes(64))
    assert gguf_header.check(file) == 2


def test_more_blocks_than_there_are_tensors_for_are_not_built(written: Any) -> None:
    file, _ = written
    said = b"llama.block_count" + struct.pack("<I", 4)
    whole = file.read_bytes()
    place = whole.index(said) + len(said)
    lie = struct.pack("<I", 1 << 30)
    file.write_bytes(whole[:place] + lie + whole[place + 4 :])

    with pytest.raises(UsageError, match="ask for more than"):
        lmzoo.load(file)
