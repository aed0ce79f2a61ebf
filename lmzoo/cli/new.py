"""``lmzoo new``: a new model as an installable package, with a test that passes."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from lmzoo.cli.options import Options
from lmzoo.errors import UsageError
from lmzoo.registry import models

NAME = re.compile(r"[a-z]([a-z0-9_-]*[a-z0-9])?")
TAKEN = {"None", "True", "False", "Tensor", "LanguageModel"}  # no names for the class


def run(argv: list[str]) -> int:
    """Write the package and say what to do next."""
    parser = Options(
        "new",
        "Write a package with one new model: its file, its test, its entry point.",
    )
    parser.add_argument("name", metavar="NAME", help="the model's name in the zoo")
    parser.add_argument(
        "--folder", default=".", help="where the package's folder is put (default: .)"
    )
    options = parser.read(argv)
    if options is None:
        return 0
    package = write_package(options.name, Path(options.folder))
    print(
        f"wrote {package}; next:\n"
        f"  pip install -e {package}\n"
        f"  lmzoo check {options.name}\n"
        f"  lmzoo fit --model {options.name}"
    )
    return 0


def write_package(name: str, folder: Path) -> Path:
    """Write ``lmzoo-NAME`` into ``folder``, whole or not at all.

    Raises:
        UsageError: a name that cannot be used or is taken, a folder that is not there
            or cannot be written, a package that exists.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a model: lower-case letters, digits, '-', '_', "
            f"beginning with a letter and ending with a letter or digit"
        )
    if entry := models.entries()[0].get(name):
        raise UsageError(
            f"the name {name!r} is taken by {entry.source}; choose another"
        )
    target = folder / f"lmzoo-{name}"
    if not folder.is_dir():
        raise UsageError(f"--folder {folder}: no such folder; make it first")
    if os.path.lexists(target):
        raise UsageError(f"{target} exists; choose another name or --folder")
    try:
        half = Path(tempfile.mkdtemp(prefix=".lmzoo-new-", dir=folder))
    except OSError as error:
        raise UsageError(
            f"--folder {folder}: cannot be written ({error.strerror})"
        ) from error
    try:
        for path, text in files(name).items():
            (half / path).parent.mkdir(exist_ok=True)
            (half / path).write_text(text, encoding="utf-8")
        half.chmod(0o755)  # mkdtemp's folders are private
        half.rename(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(half)
    return target


def files(name: str) -> dict[str, str]:
    """The package's files, path -> text."""
    words = {
        "NAME": name,
        "MODULE": "lmzoo_" + name.replace("-", "_"),
        "CLASS": class_name(name),
    }
    module, test = f"{words['MODULE']}.py", f"tests/test_{words['MODULE']}.py"
    sheets = {
        "pyproject.toml": PYPROJECT,
        module: MODEL,
        test: TEST,
        "README.md": README,
    }
    return {
        path: re.sub(r"@(\w+)@", lambda m: words[m[1]], text)
        for path, text in sheets.items()
    }


def class_name(name: str) -> str:
    """``two-layer`` -> ``TwoLayer``, kept apart from Python's words and lmzoo's."""
    camel = "".join(part.capitalize() for part in re.split("[-_]", name) if part)
    return f"{camel}Model" if camel in TAKEN else camel


PYPROJECT = """\
[build-system]
requires = ["setuptools>=77.0.3"]
build-backend = "setuptools.build_meta"

[project]
name = "lmzoo-@NAME@"
version = "0.1.0"
description = "The model @NAME@ for lmzoo."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["lmzoo"]

[project.entry-points."lmzoo.models"]
@NAME@ = "@MODULE@:@CLASS@"

[tool.setuptools]
py-modules = ["@MODULE@"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
"""

MODEL = '''\
"""@CLASS@: a start for a model of your own."""

import torch.nn.functional as F
from lmzoo import LanguageModel
from torch import Tensor, nn


class @CLASS@(LanguageModel):
    """Each token and the three before it, through one hidden layer."""

    def __init__(
        self, vocab_size: int, context_length: int = 64, d_model: int = 64
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.hidden = nn.Conv1d(d_model, 4 * d_model, kernel_size=4)
        self.head = nn.Linear(4 * d_model, vocab_size)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each next token; (B, T) -> (B, T, V)."""
        x = self.embedding(tokens).transpose(1, 2)  # (B, D, T)
        x = F.gelu(self.hidden(F.pad(x, (3, 0))))  # padded on the left: causal
        return self.head(x.transpose(1, 2))
'''

TEST = '''\
"""The model keeps the contract of the zoo."""

from @MODULE@ import @CLASS@
from lmzoo.testing import check_model


def test_contract() -> None:
    report = check_model(@CLASS@)

    assert report.ok, str(report)
'''

README = """\
# lmzoo-@NAME@

The model `@NAME@` for lmzoo: `@MODULE@.py` holds it.

```
pip install -e .
pytest
lmzoo check @NAME@
lmzoo fit --model @NAME@
```
"""
