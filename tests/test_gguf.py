"""GGUF files are read as what they hold, or refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lmzoo
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
        (whole[: len(whole) // 2], "cannot read this GGUF file"),
        (b"PK" + whole[2:], "is no GGUF file"),
        (b"", "is no GGUF file"),
    ):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=said):
            lmzoo.load(file)
