"""``lmzoo export`` and back: from the command line, mistakes in one line."""

import csv
import importlib.util
from pathlib import Path

import pytest

import lmzoo as package
from tests.cli.runner import fit, lmzoo

TRANSFORMERS = importlib.util.find_spec("transformers") is not None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt trained for a few steps, and the text beside it."""
    folder = tmp_path_factory.mktemp("trained")
    text = "the quick brown fox jumps over the lazy dog\n" * 150
    (folder / "story.txt").write_text(text, encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.setenv("LMZOO_CACHE", str(folder / "cache"))
    fit(
        f"--data.path {folder / 'story.txt'} --trainer.max_steps 30 "
        f"--trainer.val_check_interval 30 --trainer.default_root_dir {folder / 'run'}"
    )
    patch.undo()
    return folder / "run"


def validations(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(r["val/nll"]) for r in csv.DictReader(file) if r["val/nll"]]


def test_there_and_back_goes_on_where_it_was(run: Path, tmp_path: Path) -> None:
    """GPT-2 out, init_from in: before any change the validation is the run's."""
    done = lmzoo(f"export {run} --to hf --out {tmp_path / 'hf'} --which last")
    assert done.code == 0, done.err
    assert "model.safetensors" in done.out
    result = lmzoo(
        f"fit --init_from {tmp_path / 'hf'} --data.path {run.parent / 'story.txt'} "
        f"--trainer.max_steps 1 --trainer.val_check_interval 1 --samples.length 8 "
        f"--optimizer.lr 1e-12 --trainer.default_root_dir {tmp_path / 'on'}"
    )
    assert result.code == 0, result.err
    assert "29 symbols shared, 0 new ones" in result.err
    assert package.load(tmp_path / "on").stored["model"] == "gpt"
    assert package.load(tmp_path / "on").tokenizer.kind == "hf"
    assert abs(validations(tmp_path / "on")[0] - validations(run)[-1]) < 1e-5


@pytest.mark.parametrize("to", ["safetensors", "hf"])
def test_a_model_folder_is_measured_like_its_run(
    to: str, run: Path, tmp_path: Path
) -> None:
    lmzoo(f"export {run} --to {to} --out {tmp_path / 'x'}")
    text = f"--data.path {run.parent / 'story.txt'}"
    lines = [
        lmzoo(f"validate --ckpt_path {path} {text}").out.splitlines()[1]
        for path in (run, tmp_path / "x")
    ]
    assert lines[0] == lines[1]
    assert lines[0].startswith("val")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("export {run} --to gguf --out x", "one of 'safetensors', 'hf', 'onnx'"),
        ("export {run} --to hf", "needs --out"),
        ("export {run} --to hf --out full", "is there already"),
        ("export {run} --to onnx --out full", "is there already"),
        ("export {run} --to hf --out full/file/x", "full/file"),
        ("export nowhere --to hf --out x", "no such run folder"),
        ("export full --to hf --out x", "is neither a run"),
        ("export https://host/x --out x", "only local files"),
        ("export pickle --out x", "is a pickle"),
        ("export bare --out x", "no tokenizer.json"),
        ("export torn --out x", "is damaged"),
        ("export {run} --out x --nonsense 1", "nonsense"),
        ("export", "path"),
        ("fit --init_from pickle", "is a pickle"),
        ("fit --init_from bare", "no tokenizer.json"),
        ("fit --ckpt_path {run}/../hf", "--init_from starts a new run"),
        ("validate --ckpt_path torn", "is damaged"),
    ],
)
def test_mistakes(
    line: str, said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not (run.parent / "hf").is_dir():
        lmzoo(f"export {run} --to hf --out {run.parent / 'hf'}")
    for name in ("full", "pickle", "bare", "torn"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    config = (run.parent / "hf" / "config.json").read_bytes()
    weights = (run.parent / "hf" / "model.safetensors").read_bytes()
    words = (run.parent / "hf" / "tokenizer.json").read_bytes()
    for name in ("pickle", "bare", "torn"):
        (tmp_path / name / "config.json").write_bytes(config)
    for name in ("pickle", "torn"):
        (tmp_path / name / "tokenizer.json").write_bytes(words)
    (tmp_path / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "bare" / "model.safetensors").write_bytes(weights)
    (tmp_path / "torn" / "model.safetensors").write_bytes(weights[:-5])
    before = sorted(tmp_path.rglob("*"))
    result = lmzoo(line.format(run=run))
    assert result.code == 2, result.out
    lines = [one for one in result.err.splitlines() if one.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in result.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not TRANSFORMERS, reason="needs transformers")
def test_a_folder_without_a_gpt2_is_refused_for_a_new_architecture(
    run: Path, tmp_path: Path
) -> None:
    lmzoo(f"export {run} --to hf --out {tmp_path / 'hf'}")
    result = lmzoo(f"fit --model lstm --init_from {tmp_path / 'hf'}")
    assert result.code == 2
    assert "contradicts" in result.err
