"""ONNX: every member of the zoo, or the reason why not."""

import importlib.util
from pathlib import Path

import pytest
import torch

from lmzoo.errors import UsageError
from lmzoo.export import export
from tests.test_export import made
from tests.zoo import BUILTINS

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None,
    reason="onnxruntime is not installed: pip install 'lmzoo[onnx]'",
)


@needs_onnx
@pytest.mark.parametrize("name", sorted({*BUILTINS} - {"ngram"}))
def test_onnxruntime_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    if name == "pretrained":
        pytest.importorskip("transformers")
    from onnxruntime import InferenceSession

    run, file = made(name), tmp_path / "x.onnx"
    notes = export(run, "onnx", file)
    assert "fixed" not in notes[0]  # both axes are free
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    session = InferenceSession(str(file))
    for rows, length in ((1, 1), (2, 7), (5, 16)):
        tokens = torch.randint(run.model.vocab_size, (rows, length))
        with torch.no_grad():
            ours = run.model(tokens)
        theirs = torch.from_numpy(session.run(None, {"tokens": tokens.numpy()})[0])
        assert (ours - theirs).abs().max() < 1e-4


def test_an_ngram_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a NGram looks .*searchsorted"):
        export(made("ngram"), "onnx", tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UsageError, match="pip install 'lmzoo\\[onnx\\]'"):
        export(made("mlp"), "onnx", tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
