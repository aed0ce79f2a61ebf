"""``lmzoo export``: a run in a form for others."""

from pathlib import Path
from typing import Literal

from lmzoo.cli.command import call
from lmzoo.errors import UsageError


def run(argv: list[str]) -> int:
    """Read what was typed and write."""
    return call("export", export, argv)


def export(
    path: str,
    *,
    to: Literal["safetensors", "hf", "onnx"] = "safetensors",
    out: str | None = None,
    which: Literal["best", "last"] = "best",
) -> int:
    """Write a run in a form for others.

    Args:
        path: a run folder, a checkpoint file, or a model folder.
        to: safetensors (any model, for lmzoo), hf (gpt and pretrained, for plain
            transformers) or onnx (any model's forward, for onnxruntime).
        out: the folder, or for onnx the file, to be made.
        which: of a run folder, the best or the last checkpoint.
    """
    # torch is for the work, and not for the help
    from lmzoo import runs

    # as above
    from lmzoo.export import export as write

    if not out:
        raise UsageError("lmzoo export needs --out, the folder or file to be made")
    loaded = runs.load(path, which)
    notes = write(loaded, to, out)
    target = Path(out)
    files = sorted(target.iterdir()) if target.is_dir() else [target]
    for file in files:
        print(f"{file}  {file.stat().st_size:,} bytes")
    for note in notes:
        print(note)
    return 0
