"""Models from elsewhere: an installed package, a file, and everything that goes wrong.

The package under ``plugin_example`` is really installed, by pip, into a folder of its
own. What can go wrong needs no installation: a ``*.dist-info`` folder on the path is
all that an entry point is.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmzoo as package
from lmzoo import registry
from lmzoo.cli.new import class_name, files
from tests.cli.runner import lmzoo

ROOT = Path(__file__).parents[1]
EXAMPLE = Path(__file__).parent / "plugin_example"
BUILTINS = {"ngram", "ff", "lstm", "gpt"}


def install(source: Path, target: Path) -> Path:
    """Install a package for real, from a copy, without the network."""
    copy = target.parent / f"source-{target.name}"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", *options]
    subprocess.run([*pip, "--target", target, copy], check=True, timeout=120)
    return target


def run(*command: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a new process, which finds the packages in ``path``."""
    search = os.pathsep.join([str(path), str(Path(package.__file__).parents[1])])
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": search},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package in it, as pip leaves it."""
    return install(EXAMPLE, tmp_path_factory.mktemp("plugin") / "site")


@pytest.fixture(autouse=True)
def _registries_as_they_were() -> Iterator[None]:
    before = dict(registry.models._files)
    yield
    for name in set(registry.models._files) - set(before):
        registry.models.forget(name)


def names() -> dict[str, dict]:
    """What ``lmzoo models`` lists."""
    result = lmzoo("models --json")
    assert result.code == 0
    return {row["name"]: row for row in json.loads(result.out)}


# ---- a package that is really installed ----------------------------------------------


def test_the_example_is_small() -> None:
    lines = [p.read_text(encoding="utf-8").splitlines() for p in EXAMPLE.glob("*.*")]

    assert len(lines) == 2
    assert sum(map(len, lines)) <= 40


def test_an_installed_package_is_listed_without_being_imported(
    site: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from lmzoo.cli import main; main(['models']);"
        "assert 'lmzoo_neighbour' not in sys.modules and 'torch' not in sys.modules"
    )

    listed = run("-c", code, path=site, cwd=tmp_path)

    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^neighbour +from lmzoo-neighbour +", listed.stdout, re.M)
    assert listed.stderr == ""


def test_an_installed_model_fits_resumes_and_is_measured(
    site: Path, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    folder = tmp_path / "run"
    command = (
        f"fit --model neighbour --model.d_model 8 --data.path {story} "
        f"--data.batch_size 4 --trainer.default_root_dir {folder} --samples.length 8 "
    )

    first = lmzoo(f"{command} --trainer.max_steps 4")
    assert first.code == 0, first.err
    again = lmzoo(f"{command} --trainer.max_steps 8")
    assert again.code == 0, again.err
    measured = lmzoo(f"validate --ckpt_path {folder}")
    assert measured.code == 0, measured.err

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"] == 8
    assert "resuming" in again.err
    assert type(package.load(folder).model).__name__ == "Neighbour"


def test_an_installed_model_passes_check(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))

    result = lmzoo("check neighbour")

    assert result.code == 0, result.out


def test_a_run_of_a_model_that_is_gone_says_so(
    site: Path, story: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        done = lmzoo(
            f"fit --model neighbour --model.d_model 8 --data.path {story} "
            f"--data.batch_size 4 --trainer.default_root_dir {folder} "
            f"--trainer.max_steps 2 --samples.length 8"
        )
        assert done.code == 0, done.err

    result = lmzoo(f"validate --ckpt_path {folder}")

    assert result.code == 2
    assert "neighbour" in result.err
    assert result.err.count("\n") == 1


def test_installed_packages_are_read_once_for_each_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        registry, "entry_points", lambda group: asked.append(group) or ()
    )
    for folder in ("one", "other"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
        assert registry.models.class_path("gpt") == "lmzoo.models.gpt.GPT"
        assert "gpt" in registry.models.entries()[0]
    assert asked == ["lmzoo.models"] * 2


# ---- what goes wrong: one line each, built-ins unharmed ------------------------------


def distribution(
    folder: Path, name: str, points: dict[str, str], **modules: str
) -> Path:
    """What an installed package leaves behind: metadata, entry points, modules."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0")
    lines = "\n".join(f"{point} = {target}" for point, target in points.items())
    (info / "entry_points.txt").write_text(f"[lmzoo.models]\n{lines}\n")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    return folder


def refused(line: str, *parts: str) -> None:
    """``lmzoo LINE`` ends with 2 and one line that holds every part."""
    result = lmzoo(line)
    assert result.code == 2, result.out
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert not [part for part in parts if part not in result.err], result.err


def test_a_clash_with_a_built_in_leaves_the_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(distribution(tmp_path, "zoo-a", {"gpt": "a:A"})))

    result = lmzoo("models")

    assert result.err == (
        "warning: the model name 'gpt' is claimed by both lmzoo and zoo-a; rename or "
        "uninstall one of them\n"
    )
    assert names()["gpt"]["source"] == "lmzoo"
    assert registry.models.load("gpt").__name__ == "GPT"


def test_a_clash_of_two_packages_names_both_and_serves_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "zoo-a", {"twin": "a:A"})
    distribution(tmp_path, "zoo-b", {"twin": "b:B"})
    monkeypatch.syspath_prepend(str(tmp_path))

    warning = lmzoo("models").err

    assert warning.count("\n") == 1
    assert "'twin'" in warning
    assert "zoo-a" in warning
    assert "zoo-b" in warning
    assert "twin" not in names()
    assert set(names()) >= BUILTINS
    refused("check twin", "'twin'", "zoo-a", "zoo-b")


def test_a_package_that_fails_to_import_is_named_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"zoo_broken": "import nothing_of_that_name\n"}
    distribution(tmp_path, "zoo-broken", {"broken": "zoo_broken:M"}, **broken)
    monkeypatch.syspath_prepend(str(tmp_path))

    assert "broken" in names()  # listing imports nothing
    refused("check broken", "'broken'", "zoo-broken", "nothing_of_that_name")
    assert registry.models.load("gpt").__name__ == "GPT"


def test_an_entry_point_without_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "zoo-empty", {"empty": "zoo_empty:Gone"}, zoo_empty="")
    monkeypatch.syspath_prepend(str(tmp_path))

    refused("check empty", "'empty'", "zoo-empty", "Gone")


def test_a_class_that_is_no_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {"zoo_other": "class Other:\n    pass\n"}
    distribution(tmp_path, "zoo-other", {"other": "zoo_other:Other"}, **modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    refused("check other", "'other' of zoo-other is not a LanguageModel")


def test_a_bad_name_is_listed_as_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "zoo-loud", {"My Model": "a:A", "fine": "b:B"})
    monkeypatch.syspath_prepend(str(tmp_path))

    assert lmzoo("models").err == (
        "warning: zoo-loud: 'My Model' is no name for a model (lower-case letters, "
        "digits, '-' and '_')\n"
    )
    assert {"fine"} | BUILTINS <= set(names())


# ---- a plugin file -------------------------------------------------------------------

HEAD = "from lmzoo import LanguageModel, register_model\n"
CLASS = '@register_model("{}")\nclass Model(LanguageModel):\n    """Mine."""\n'


def test_a_file_is_listed_with_its_docstring(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + CLASS.format("mine"))

    result = lmzoo(f"models --plugin {file}")

    assert re.search(rf"^mine +Mine\. +{re.escape(str(file))}$", result.out, re.M)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HEAD + CLASS.format("gpt"), ["'gpt'", "lmzoo", "file.py"]),
        (HEAD + CLASS.format("Not A Name"), ["'Not A Name'", "file.py"]),
        (HEAD + '@register_model("x")\nclass X:\n    pass\n', ["not a LanguageModel"]),
        ("import nothing_of_that_name\n", ["file.py", "nothing_of_that_name"]),
        ("def (:\n", ["file.py", "SyntaxError"]),
        (HEAD + "1 / 0\n", ["file.py", "ZeroDivisionError"]),
        (
            HEAD + CLASS.format("half") + CLASS.format("half").replace("Model(", "N("),
            ["'half'"],
        ),
    ],
)
def test_a_file_that_cannot_be_used(
    text: str, parts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "file.py"
    file.write_text(text)
    before = set(names())

    refused(f"models --plugin {file}", *parts)

    assert set(names()) == before  # nothing half-registered


@pytest.mark.parametrize("file", ["nowhere.py", "folder", "text.txt"])
def test_a_path_that_is_no_python_file(file: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("")

    refused(f"models --plugin {tmp_path / file}", file, "no such Python file")


# ---- the README's section, and `lmzoo new` -------------------------------------------


def test_the_readme_s_model_passes_its_own_lines(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", readme, re.S)
        if "@register_model" in block
    ]
    file = code.split("\n")[0].removeprefix("# ")
    (name,) = re.findall(r'@register_model\("(.*?)"\)', code)
    check, fit = f"check {name} --plugin {file}", f"fit --model {name} --plugin {file}"
    assert f"lmzoo {check}\n" in readme
    assert f"lmzoo {fit}\n" in readme
    monkeypatch.chdir(tmp_path)
    Path(file).write_text(code, encoding="utf-8")

    checked = lmzoo(check)
    assert checked.code == 0, checked.out + checked.err
    fitted = lmzoo(
        f"{fit} --data.path {story} --data.batch_size 4 --trainer.max_steps 4 "
        f"--samples.length 8 --trainer.default_root_dir run"
    )
    assert fitted.code == 0, fitted.err


def test_new_writes_a_package_whose_tests_pass(tmp_path: Path) -> None:
    result = lmzoo(f"new two-layer --folder {tmp_path}")
    made = tmp_path / "lmzoo-two-layer"

    assert result.code == 0, result.err
    assert str(made) in result.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lmzoo-two-layer"]
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", path=made, cwd=made)
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout


def test_new_packages_install_and_are_listed(tmp_path: Path) -> None:
    assert lmzoo(f"new two-layer --folder {tmp_path}").code == 0
    site = install(tmp_path / "lmzoo-two-layer", tmp_path / "site")

    listed = run("-m", "lmzoo", "models", path=site, cwd=tmp_path)

    assert re.search(r"^two-layer +from lmzoo-two-layer +", listed.stdout, re.M)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("new Upper", "'Upper' is no name"),
        ("new ../up", "'../up' is no name"),
        ("new ends-", "'ends-' is no name"),
        ("new gpt", "'gpt' is taken by lmzoo"),
        ("new", "NAME"),
        ("new mine --folder nowhere", "nowhere: no such folder"),
        ("new mine --fodler x", "--fodler"),
    ],
)
def test_new_refuses(
    line: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    refused(line, part)

    assert not list(tmp_path.iterdir())


def test_new_never_overwrites(tmp_path: Path) -> None:
    made = tmp_path / "lmzoo-mine"
    made.mkdir()
    (made / "work.txt").write_text("a week of it")

    refused(f"new mine --folder {tmp_path}", "lmzoo-mine exists")

    assert [p.name for p in tmp_path.rglob("*")] == ["lmzoo-mine", "work.txt"]


def test_new_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)

    refused(f"new mine --folder {tmp_path}", "No space left on device")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["none", "true", "tensor", "language-model", "a-1"])
def test_new_gives_the_class_a_name_of_its_own(name: str) -> None:
    (text,) = [t for p, t in files(name).items() if re.fullmatch(r"lmzoo_\w+\.py", p)]

    compile(text, name, "exec")
    assert class_name(name).isidentifier()
    assert class_name(name) not in {"None", "True", "Tensor", "LanguageModel"}
