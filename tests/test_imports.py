"""Which way imports run: the house's table, walked over the source; and unsafe calls.

Every walker has a control: a snippet that it must object to.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmzoo

PACKAGE = Path(lmzoo.__file__).parent

# A room may import rooms of a lower floor, and of its own floor one way only. `text`
# and `models` are two towers: never one another.
FLOORS = [
    {"errors", "py.typed"},
    {"files"},
    {"registry", "metrics", "report"},
    {"text", "models"},
    {
        "training",
        "generation",
        "scoring",
        "runs",
        "classification",
        "foreign",
        "gguf",
        "gguf_header",
        "hub",
        "rebuild",
        "unpacking",
        "portable",
        "export",
        "onnx",
        "testing",
        "laws",
    },
    {"analysis", "compare", "web"},
    {"study"},
    {"selftest"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
TOWERS = {"text", "models"}
GROUND = {"errors", "registry"}  # the standard library and each other, nothing else
SHARED_BY_MODELS = {  # parts; an architecture file imports no other architecture's
    "attention",
    "base",
    "blocks",
    "caching",
    "described",
    "divergence",
    "gated",
    "grouped",
    "layers",
    "lora",
    "member",
    "networks",
    "norms",
    "projections",
    "rotary",
    "steps",
}
OPTIONAL = {
    "captum",
    "fastapi",
    "gguf",
    "gradio",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "optuna",
    "peft",
    "ray",
    "sklearn",
    "submitit",
    "transformers",
    "uvicorn",
}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
HARMLESS = {"pickle.UnpicklingError"}  # an error to catch, nothing that loads

Sources = dict[str, str]  # dotted module name -> text


@pytest.fixture(scope="module")
def sources() -> Sources:
    """Every file of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    assert len(found) > 10
    return found


def imports(name: str, text: str) -> Iterator[tuple[str, ast.stmt]]:
    """Dotted names that a module imports anywhere; ``from a import b`` is a.b."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield f"{base}.{alias.name}", node


def room(name: str) -> str:
    """``lmzoo.text.store`` -> ``text``; "" for the package itself."""
    return f"{name}.".split(".")[1]


def house(sources: Sources) -> dict[str, set[str]]:
    """Room -> the rooms it imports."""
    edges: dict[str, set[str]] = {}
    for name, text in sources.items():
        for target, _ in imports(name, text):
            if target.split(".")[0] == "lmzoo" and room(target) in FLOOR:
                edges.setdefault(room(name), set()).add(room(target))
    return {one: {other for other in to if other != one} for one, to in edges.items()}


def wrong_way(sources: Sources) -> list[str]:
    """Imports against the table."""
    edges = house(sources)
    found = [f"{name}: no such room in the table" for name in unknown(sources)]
    for one, targets in edges.items():
        for other in targets:
            if one not in FLOOR:
                continue
            if FLOOR[other] > FLOOR[one] or {one, other} == TOWERS:
                found.append(f"{one} imports {other}")
            if one in edges.get(other, set()):
                found.append(f"{one} and {other} import each other")
    return found


def unknown(sources: Sources) -> set[str]:
    """Modules whose room is not in the table."""
    return {name for name in sources if room(name) and room(name) not in FLOOR}


def family_ties(sources: Sources) -> list[str]:
    """Architecture files that import one another."""
    found = []
    for name, text in sources.items():
        if room(name) != "models" or name.count(".") < 2:
            continue
        for target, _ in imports(name, text):
            parts = target.split(".")
            if parts[:2] == ["lmzoo", "models"] and parts[2] not in SHARED_BY_MODELS:
                found.append(f"{name} imports {target}")
    return found


def heavy(sources: Sources) -> list[str]:
    """Imports that a room must not have at its door."""
    found = []
    for name, text in sources.items():
        local = local_lines(text)
        for target, node in imports(name, text):
            root = target.split(".")[0]
            if (room(name) in GROUND or name == "lmzoo") and not (
                root in sys.stdlib_module_names or target.startswith("lmzoo.errors")
            ):
                found.append(f"{name} imports {target}")
            if room(name) == "text" and target.startswith("torch.nn"):
                found.append(f"{name} imports {target}")
            if root in OPTIONAL and node.lineno not in local:
                found.append(f"{name} imports {target} at module level")
    return found


def silent_local_imports(sources: Sources) -> list[str]:
    """Imports inside a function without a comment on their line or the one above."""
    found = []
    for name, text in sources.items():
        lines = text.splitlines()
        for number in sorted(local_lines(text)):
            here, above = lines[number - 1], lines[number - 2]
            if "#" not in here and not above.strip().startswith("#"):
                found.append(f"{name}:{number}")
    return found


def local_lines(text: str) -> set[int]:
    """Numbers of the lines that hold an import inside a function."""
    return {
        node.lineno
        for outer in ast.walk(ast.parse(text))
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(outer)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }


def unsafe(sources: Sources) -> list[str]:
    """Code from data: pickles, eval, exec, torch.load that is not weights_only."""
    found = []
    for name, text in sources.items():
        for target, node in imports(name, text):
            if target.split(".")[0] in UNSAFE_MODULES - {"pickle"}:
                found.append(f"{name}:{node.lineno} imports {target}")
            if target.startswith("pickle.") and target not in HARMLESS:
                found.append(f"{name}:{node.lineno} imports {target}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and (why := _unsafe_call(node)):
                found.append(f"{name}:{node.lineno} {why}")
            if isinstance(node, ast.Attribute):
                spelled = ast.unparse(node)
                if spelled.startswith("pickle.") and spelled not in HARMLESS:
                    found.append(f"{name}:{node.lineno} {spelled}")
    return found


def _unsafe_call(call: ast.Call) -> str | None:
    spelled = ast.unparse(call.func)
    given = {k.arg: ast.unparse(k.value) for k in call.keywords}
    if spelled in ("eval", "exec", "__import__"):
        return spelled
    loads = spelled == "torch.load" or spelled.endswith("load_from_checkpoint")
    if loads and given.get("weights_only") != "True":
        return f"{spelled} without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        return f"{spelled} with allow_pickle"
    return None


WALKERS = {
    wrong_way: {
        "lmzoo.text.a": "from lmzoo.models import base",
        "lmzoo.models.b": "import lmzoo.text.store",
        "lmzoo.training.c": "from lmzoo import runs",
        "lmzoo.runs": "from lmzoo.training.c import f",
        "lmzoo.metrics": "def f():\n    from lmzoo.cli import main",
        "lmzoo.cellar": "",
    },
    family_ties: {"lmzoo.models.lstm": "from lmzoo.models.gpt import GPT"},
    heavy: {
        "lmzoo": "import torch",
        "lmzoo.registry": "import numpy",
        "lmzoo.text.a": "from torch import nn",
        "lmzoo.runs": "import matplotlib.pyplot as plt",
    },
    silent_local_imports: {"lmzoo.runs": "x = 1\ndef f():\n    import json\n"},
    unsafe: {
        "lmzoo.a": "import pickle\npickle.loads(b)",
        "lmzoo.i": "from pickle import Unpickler",
        "lmzoo.b": "from dill import loads",
        "lmzoo.c": "eval('1')",
        "lmzoo.d": "exec('1')",
        "lmzoo.e": "torch.load(f)",
        "lmzoo.f": "torch.load(f, weights_only=False)",
        "lmzoo.g": "M.load_from_checkpoint(f)",
        "lmzoo.h": "np.load(f, allow_pickle=True)",
    },
}


@pytest.mark.parametrize("walker", list(WALKERS))
def test_the_package_keeps_the_rule(walker, sources: Sources) -> None:
    assert walker(sources) == []


@pytest.mark.parametrize("walker", list(WALKERS))
def test_the_walker_objects_to_its_control(walker) -> None:
    control = WALKERS[walker]

    found = "\n".join(walker(control))

    if walker is wrong_way:
        assert set(found.split("\n")) == {
            "lmzoo.cellar: no such room in the table",
            "text imports models",
            "models imports text",
            "text and models import each other",
            "models and text import each other",
            "training and runs import each other",
            "runs and training import each other",
            "metrics imports cli",
        }
    else:
        assert not [name for name in control if name not in found]


def test_a_comment_makes_a_local_import_legal() -> None:
    above = "def f():\n    # optional: the plots extra\n    import matplotlib\n"
    beside = "def f():\n    import matplotlib  # optional: the plots extra\n"

    assert silent_local_imports({"a": above, "b": beside}) == []
    assert heavy({"lmzoo.a": above, "lmzoo.b": beside}) == []
    assert unsafe({"a": "torch.load(f, weights_only=True)\nmodel.eval()"}) == []


@pytest.mark.parametrize(
    "line",
    ["import lmzoo", "from lmzoo.cli import main; main(['models'])", "main([])"],
)
def test_light_commands_import_no_torch(line: str) -> None:
    if line.startswith("main"):
        line = f"from lmzoo.cli import main; {line}"
    heavy = "{'torch', 'lightning', 'numpy', 'jsonargparse', 'rich'}"

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{line}\nimport sys\nassert not {heavy} & {{*sys.modules}}",
        ],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


HELPS = """
import sys
from lmzoo.cli import COMMANDS, main
for command in sorted(COMMANDS):
    assert main([command, "--help"]) == 0, command
    loaded = {"torch", "lightning", "transformers", "gradio"} & {*sys.modules}
    assert not loaded, (command, loaded)
print("every help")
"""


@pytest.mark.parametrize(("before", "fine"), [("", True), ("import torch", False)])
def test_the_help_of_every_command_imports_no_torch(before: str, fine: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", before + HELPS],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout.endswith("every help\n") is fine, done.stderr
