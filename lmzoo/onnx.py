"""A model's ``forward`` as an ONNX file, proved equal before it is kept.

Both axes of the tokens (B, T) stay free where the exporter can: three ways are tried,
and the first whose file gives the model's logits at several batch sizes and lengths is
taken. A model whose operations ONNX does not have is refused with the exporter's words.
"""

import contextlib
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmzoo.errors import UsageError, first_line
from lmzoo.models.base import LanguageModel

TOLERANCE = 1e-4  # largest difference of a logit
ONE_FILE = 1 << 30  # bytes of weights; ONNX itself ends at two gigabytes
OPSET = 18
AXES = {0: "batch", 1: "time"}


class Forward(nn.Module):
    """``forward`` alone: none of what else a LightningModule has."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        return self.model(tokens)


def write(model: LanguageModel, file: Path) -> str:
    """Write ``model.forward`` to ``file``: ``tokens`` int64 (B, T) -> ``logits``.

    Returns:
        A line that says what was checked.

    Raises:
        UsageError: onnx, onnxscript or onnxruntime is missing, or no way of exporting
            gives the model's logits.
    """
    if model.counting:
        raise UsageError(
            f"--to onnx: a {type(model).__name__} looks its tables up by binary search "
            f"(searchsorted), which ONNX does not have; --to safetensors takes every "
            f"model"
        )
    _require_packages()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if size > ONE_FILE:
        raise UsageError(
            f"--to onnx: {size / 1e9:.1f} GB of weights do not fit into one ONNX file; "
            f"--to safetensors has no such limit"
        )
    length = max(1, min(model.context_length, 9))
    example = _tokens(model, 2, length)
    whole = _tokens(model, 2, model.context_length)
    failures = []
    for dynamo, free, tokens in (
        (False, AXES, example),
        (True, AXES, example),
        (True, {0: "batch"}, whole),
    ):
        try:
            with _quiet(), torch.no_grad():
                _export(model, tokens, file, dynamo, free)
            gap = _gap(model, file, _shapes(model, 1 in free))
        except Exception as error:  # the exporters raise anything, onnxruntime as well
            failures.append(first_line(error))
            continue
        if gap <= TOLERANCE:
            fixed = "" if 1 in free else f"; T is fixed at {model.context_length}"
            return f"onnxruntime gives the same logits to {gap:.1g}{fixed}"
        failures.append(f"its logits differ by {gap:.2g}")
    raise UsageError(
        f"--to onnx: a {type(model).__name__} cannot be expressed ({failures[0]}); "
        f"--to safetensors takes every model"
    )


def _require_packages() -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--to onnx needs {name}: pip install 'lmzoo[onnx]'")


def _export(
    model: LanguageModel, tokens: Tensor, file: Path, dynamo: bool, free: dict[int, str]
) -> None:
    if dynamo:
        axes: dict[str, Any] = {"dynamic_shapes": {"tokens": free}}
    else:  # TorchScript's: quick, and with recurrent layers as single operations
        axes = {"dynamic_axes": {"tokens": free, "logits": free}}
    torch.onnx.export(
        Forward(model).eval(),
        (tokens,),
        str(file),
        input_names=["tokens"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=dynamo,
        external_data=False,
        verbose=False,
        **axes,
    )


def _gap(model: LanguageModel, file: Path, shapes: list[tuple[int, int]]) -> float:
    """Largest difference between the file's logits and the model's."""
    runtime = importlib.import_module("onnxruntime")  # optional: the onnx extra
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst = 0.0
    for rows, length in shapes:
        tokens = _tokens(model, rows, length)
        given = torch.from_numpy(session.run(None, {"tokens": tokens.numpy()})[0])
        with torch.no_grad():
            gap = float((given - model(tokens)).abs().max())
        worst = max(worst, gap) if gap == gap else float("inf")  # NaN is no equality
    return worst


def _shapes(model: LanguageModel, free: bool) -> list[tuple[int, int]]:
    longest = model.context_length
    lengths = (1, max(1, longest // 2), longest) if free else (longest,) * 3
    return list(zip((3, 1, 2), lengths, strict=True))


def _tokens(model: LanguageModel, rows: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(model.vocab_size, (rows, length), generator=generator)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print and warn about what the check will find out."""
    logging.disable(logging.ERROR)
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)  # what is written below Python, too
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
        logging.disable(logging.NOTSET)
