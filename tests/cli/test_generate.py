"""``lmzoo generate``: what a person types and reads."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from lmzoo.registry import models
from tests.cli.runner import Result, fit, lmzoo

PLUGIN = Path(__file__).parents[1] / "plugin_example" / "lmzoo_neighbour.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt after a few steps on a small text; the text is then gone."""
    folder = tmp_path_factory.mktemp("generate")
    text = folder / "story.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 200)
    where = f"--data.path {text} --trainer.default_root_dir {folder}/r"
    fit(f"{where} --trainer.max_steps 20")
    text.unlink()
    return folder / "r"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    """Give bytes to standard input."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def made(line: str) -> Result:
    """``lmzoo generate``, which must succeed."""
    result = lmzoo(f"generate {line}")
    assert result.code == 0, result.err
    return result


def test_one_sample_is_plain_text(run: Path) -> None:
    result = made(f"{run} --prompt the --max_new_tokens 30 --temperature 0.5")
    assert result.out.startswith("the")
    assert len(result.out) == 3 + 30 + 1
    assert result.out.endswith("\n")
    assert result.err == ""


def test_pieces_are_flushed_as_they_come(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(
        "builtins.print", lambda text, **options: flushed.append((text, options))
    )
    assert lmzoo(f"generate {run} --prompt the --max_new_tokens 5").code == 0
    assert [len(text) for text, _ in flushed] == [3, 1, 1, 1, 1, 1, 1]
    assert all(options.get("flush") for _, options in flushed)


def test_several_samples_stand_under_headings(run: Path) -> None:
    result = made(f"{run} --prompt the --num_samples 3 --max_new_tokens 4 --seed 5")
    headings = re.findall(r"^--- sample (\d) of 3, seed (\d+)\nthe", result.out, re.M)
    assert headings == [("1", "5"), ("2", "6"), ("3", "7")]
    alone = made(f"{run} --prompt the --max_new_tokens 4 --seed 6").out
    assert f"seed 6\n{alone}\n--- sample 3" in result.out


def test_same_seed_same_text_with_the_cache_or_without(run: Path) -> None:
    line = f"{run} --prompt the --max_new_tokens 60 --seed"
    once = made(f"{line} 1").out
    assert once == made(f"{line} 1").out == made(f"{line} 1 --cache false").out
    assert once != made(f"{line} 2").out


def test_a_checkpoint_file_is_enough(run: Path) -> None:
    (file,) = (run / "checkpoints").glob("*.ckpt")
    assert made(f"{run} --seed 3").out == made(f"{file} --seed 3").out


def test_a_prompt_from_a_file_or_from_standard_input(
    run: Path, tmp_path: Path, typed
) -> None:
    file, line = tmp_path / "prompt.txt", f"generate {run} --max_new_tokens 20"
    file.write_bytes(b"\xef\xbb\xbfthe fox\r\n")
    typed(b"the fox\r\n")
    from_stdin = lmzoo(f"{line} --prompt_file -")
    from_file = lmzoo(f"{line} --prompt_file {file}")
    assert from_stdin.out == from_file.out
    assert "CRLF line ends read as LF" in from_stdin.err
    assert from_file.out.startswith("the fox\n")
    assert from_file.code == 0


def test_json_is_one_object_with_everything(run: Path) -> None:
    line = "--prompt the? --num_samples 2 --max_new_tokens 5 --top_k 3 --json"
    result = made(f"{run} {line}")
    (said,) = result.out.splitlines()
    report = json.loads(said)
    assert report["model"] == "gpt"
    assert report["prompt"] == "the?"
    assert report["settings"]["top_k"] == 3
    assert report["settings"]["device"] in ("cpu", "cuda")
    assert [len(sample["tokens"]) for sample in report["samples"]] == [5, 5]
    assert [sample["seed"] for sample in report["samples"]] == [42, 43]
    assert report["tokens"] == 10
    assert report["tokens_per_second"] > 0
    assert report["notes"] == [result.err.removeprefix("note: ").rstrip("\n")]


def test_a_stop_string_and_length_zero(run: Path) -> None:
    stopped = made(f"{run} --prompt the --stop o --max_new_tokens 200")
    assert "o" not in stopped.out.removeprefix("the")
    assert made(f"{run} --prompt the --max_new_tokens 0").out == "the\n"
    never = made(f"{run} --prompt the --stop never --max_new_tokens 9").out
    assert len(never) == 13


def test_notes_go_to_standard_error(run: Path) -> None:
    result = made(f"{run} --prompt the_fox_jumps_over_the_lazy_dog --max_new_tokens 2")
    unknown, cropped = result.err.splitlines()
    assert unknown == (
        "note: characters of the prompt that the vocabulary lacks, read as unknown: "
        "6 (the first: '_')"
    )
    assert cropped == (
        "note: the prompt has 31 tokens; the model sees the last 15 "
        "(past its edge a context moves on by halves)"
    )


def test_without_a_prompt_it_begins_a_text(run: Path) -> None:
    assert len(made(f"{run} --max_new_tokens 12").out) == 13


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_precisions(run: Path, precision: str) -> None:
    line = f"{run} --prompt the --max_new_tokens 40 --device cpu --temperature 0"
    result = made(f"{line} --precision {precision}")
    assert len(result.out) == 44


def test_a_model_from_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "neighbour.py"
    source = PLUGIN.read_text().replace(
        "\n\nclass ",
        '\nfrom lmzoo import register_model\n\n@register_model("beside")\nclass ',
    )
    file.write_text(source)
    text = tmp_path / "story.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 200)
    trained = lmzoo(
        f"fit --model beside --plugin {file} --data.path {text} --trainer.max_steps 5 "
        f"--trainer.default_root_dir {tmp_path}/r --samples.length 0"
    )
    assert trained.code == 0, trained.err
    models.forget("beside")
    try:
        without = lmzoo(f"generate {tmp_path}/r")
        assert without.code == 2
        assert "--plugin" in without.err
        assert made(f"{tmp_path}/r --plugin {file} --max_new_tokens 5").out
    finally:
        models.forget("beside")


def test_help_lists_every_option() -> None:
    result = lmzoo("generate --help")
    assert result.code == 0
    for option in ("--prompt_file", "--repetition_penalty", "--cache", "--plugin"):
        assert option in result.out


BAD = [
    ("RUN --temperature -1", "temperature must be 0 (greedy) or more, given -1"),
    ("RUN --temperature nan", "--temperature: expected a finite number, given nan"),
    ("RUN --temperature 1e999", "temperature must be 0 (greedy) or more, given inf"),
    ("RUN --temperature warm", "--temperature"),
    ("RUN --top_k -1", "top_k must be 0 (all) to"),
    ("RUN --top_k 100000", "given 100000"),
    ("RUN --top_k 1.5", "--top_k"),
    ("RUN --top_p 0", "top_p must be above 0 and at most 1, given 0"),
    ("RUN --top_p 1.01", "top_p must be above 0 and at most 1, given 1.01"),
    ("RUN --top_p nan", "--top_p: expected a finite number, given nan"),
    ("RUN --repetition_penalty 0", "repetition_penalty must be above 0"),
    ("RUN --repetition_penalty 1e999", "repetition_penalty must be above 0"),
    ("RUN --max_new_tokens -1", "max_new_tokens must be 0 to 1,000,000, given -1"),
    ("RUN --max_new_tokens 99999999999", "max_new_tokens must be 0 to 1,000,000"),
    ("RUN --num_samples 0", "num_samples must be 1 to"),
    ("RUN --num_samples 1000000000", "num_samples must be 1 to"),
    ("RUN --seed -1", "seed must be 0 to"),
    ("RUN --prompt a --prompt_file -", "both given"),
    ("RUN --prompt_file nowhere.txt", "nowhere.txt: no such file"),
    ("RUN --prompt_file RUN", "is a folder"),
    ("RUN --prompt_file latin1.txt", "not UTF-8: byte 0xe9 at offset 3"),
    ("RUN --prompt_file nul.txt", "NUL byte at offset 1"),
    ("RUN --device tpu", "--device tpu: give auto, cpu, cuda, cuda:n or mps"),
    ("RUN --precision 8", "--precision: expected one of"),
    ("RUN --device cpu --precision 16-mixed", "needs a GPU"),
    ("RUN --promt a", "unknown option --promt; did you mean --prompt"),
    ("RUN second", "second"),
    ("", "RUN"),
    ("nowhere", "nowhere: no such run folder or checkpoint file"),
    ("http://x/y.ckpt", "only local files are loaded"),
    ("empty", "is empty"),
    ("cut.ckpt", "is truncated"),
    ("newer.ckpt", "format 99"),
    ("other.ckpt", "the file is damaged"),
]


@pytest.mark.parametrize(("line", "part"), BAD)
def test_a_mistake_is_one_line_and_exit_2(
    line: str, part: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "nul.txt").write_bytes(b"a\0b")
    (tmp_path / "empty").mkdir()
    _damaged(run, tmp_path)

    result = lmzoo(f"generate {line}".replace("RUN", str(run)))

    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", result.err)
    assert part.lower() in result.err.lower()


def _damaged(run: Path, folder: Path) -> None:
    """Checkpoints that are cut, of the future, and of another model."""
    from lmzoo import runs  # after the test's own settings

    (file,) = (run / "checkpoints").glob("*.ckpt")
    content = file.read_bytes()
    (folder / "cut.ckpt").write_bytes(content[: len(content) // 2])
    checkpoint = runs.read_checkpoint(file)
    newer = {**checkpoint, "lmzoo": {**checkpoint["lmzoo"], "format": 99}}
    runs.write_checkpoint(newer, folder / "newer.ckpt")
    arguments = {**checkpoint["lmzoo"]["arguments"], "d_model": 32}
    other = {**checkpoint, "lmzoo": {**checkpoint["lmzoo"], "arguments": arguments}}
    runs.write_checkpoint(other, folder / "other.ckpt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_absent_is_refused(run: Path) -> None:
    result = lmzoo(f"generate {run} --device cuda")
    assert (result.code, result.out) == (2, "")
    assert "--device cuda: there is none here; give cpu" in result.err
