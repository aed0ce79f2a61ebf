"""Running the command in this process, as a person would type it."""

import contextlib
import io
from dataclasses import dataclass

from lmzoo.cli import main

SMALL = (
    "--model.d_model 16 --model.num_layers 1 --model.num_heads 2 "
    "--model.context_length 16 --data.batch_size 4 --samples.length 8"
)


@dataclass
class Result:
    """What one call printed and returned."""

    code: int
    out: str
    err: str


def lmzoo(line: str | list[str]) -> Result:
    """Run ``lmzoo`` with the words of ``line``, or these words."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line.split() if isinstance(line, str) else line)
    return Result(code, out.getvalue(), err.getvalue())


def fit(line: str) -> Result:
    """Run ``lmzoo fit`` with a very small gpt, and require success."""
    result = lmzoo(f"fit --model gpt {SMALL} {line}")
    assert result.code == 0, result.err
    return result
