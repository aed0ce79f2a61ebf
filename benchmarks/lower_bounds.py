"""Does lmzoo work with the oldest releases that pyproject.toml lets in, but torch's?

python benchmarks/lower_bounds.py --out benchmarks/results/lower_bounds.md

In a fresh virtual environment, torch as constraints.txt pins it: the core dependencies
all at their bounds, then each extra at its own on top of them, each time with the tests
that use it; pip moves the core only as far as an extra asks. The control installs a
release below its bound (``--below``), and must fail.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
TOOLS = ("torch", "pytest", "hypothesis")  # as constraints.txt pins them
OTHERS = ("dev", "bench")  # a clone's own extras, pinned by constraints.txt
FIT = (
    "-m lmzoo fit --model gpt --data.corpus pydoc --trainer.max_steps 20 "
    "--trainer.accelerator cpu --samples.length 0 --trainer.default_root_dir"
)
TESTS = {
    "core": "tests/test_metrics.py tests/test_portable.py tests/test_export.py "
    "tests/test_runs.py tests/cli/test_arguments.py tests/text/test_tokenizers.py "
    "tests/text/test_ranks.py tests/text/test_exchange.py "
    "tests/text/test_datamodule.py",
    "plots": "tests/report/test_png.py",
    "hf": "tests/models/test_pretrained.py tests/test_gguf.py "
    "tests/models/test_described.py",
    "app": "tests/web",
    "ray": "tests/compare/test_launchers.py",
    "slurm": "tests/compare/test_launchers.py",
    "tune": "tests/compare/test_tuning.py",
    "inspect": "tests/analysis/test_attributions.py",
    "baselines": "tests/training/test_baselines.py",
    "onnx": "tests/test_onnx.py",
    "cloud": "tests/text/test_shared_cache.py",
}


@dataclass(frozen=True)
class Row:
    """What came of one set of bounds."""

    name: str
    versions: dict[str, str]
    passed: int
    said: str  # why it failed; empty where it works

    @property
    def line(self) -> str:
        shown = ", ".join(" ".join(pair) for pair in self.versions.items())
        return f"| {self.name} | {shown} | {self.passed} | {self.said or 'works'} |"


class Environment:
    """A virtual environment, and what is run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / "venv" / "bin" / "python"
        if not self.python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)

    def run(self, *words: str) -> tuple[int, str]:
        """Exit status and output."""
        variables = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
        variables |= {"PYTHONPATH": str(ROOT), "LMZOO_CACHE": str(self.folder / "c")}
        done = subprocess.run(
            [str(self.python), *words],
            cwd=ROOT,
            env=variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout

    def install(self, versions: dict[str, str], *options: str) -> str:
        """Nothing, or what pip says against it."""
        pins = [f"{name}=={version}" for name, version in versions.items()]
        code, said = self.run("-m", "pip", "install", "--quiet", *options, *pins)
        wrong = [line for line in said.splitlines() if line.startswith("ERROR")]
        return (wrong or [f"pip ended with {code}"])[0] if code else ""

    def trial(self, name: str, versions: dict[str, str], *options: str) -> Row:
        """Install, and run the tests; for the core also a short training."""
        if said := self.install(pins() | versions, *options):
            return Row(name, versions, 0, said)
        options = ("-q", "-p", "no:cacheprovider", "-W", "default")
        tests = TESTS.get(name, TESTS["core"]).split()
        code, said = self.run("-m", "pytest", *options, *tests)
        passed = int((re.findall(r"(\d+) passed", said) or [0])[-1])
        if code or not passed:
            return Row(name, versions, passed, first_failure(said))
        for words in () if name in TESTS and name != "core" else self.typed():
            code, said = self.run(*words)
            if code:
                last = said.strip().splitlines()[-1]
                return Row(name, versions, passed, f"{words[1]}: {last}")
        return Row(name, versions, passed, "")

    def typed(self) -> list[list[str]]:
        """A fit, and the program that it names as the next step."""
        run = tempfile.mkdtemp(dir=self.folder)
        return [[*FIT.split(), run], ["-m", "tensorboard.main", "--version"]]


def first_failure(said: str) -> str:
    """The line of pytest's summary that names it."""
    lines = [x for x in said.splitlines() if x.startswith(("FAILED", "ERROR"))]
    return (lines or said.strip().splitlines()[-1:] or ["nothing was tested"])[0][:150]


def bounds(project: dict) -> dict[str, dict[str, str]]:
    """Core or extra -> package -> the oldest release that it lets in.

    Raises:
        SystemExit: a package without a bound.
    """
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, dict[str, str]] = {}
    for group in sorted(groups.keys() - {*OTHERS}, key=list(groups).index):
        found[group] = {}
        for line in groups[group]:
            one = Requirement(line)
            name = one.name + ("[" + ",".join(one.extras) + "]" if one.extras else "")
            least = [s.version for s in one.specifier if s.operator in (">=", "==")]
            if not least:
                raise SystemExit(f"pyproject.toml: {group}: {line} has no lower bound")
            if one.name != "torch":
                found[group][name] = least[0]
    return found


def pins() -> dict[str, str]:
    """What the tests are run with: torch and the test tools."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = (line.split("==") for line in text.splitlines() if "==" in line)
    return {name: version for name, version in lines if name in TOOLS}


def trials(
    place: Environment, wanted: dict[str, dict[str, str]], below: str
) -> list[Row]:
    """Every set at its bounds; the control is the last."""
    rows = []
    for name, versions in wanted.items():
        rows.append(place.trial(name, versions))
        print(rows[-1].line, flush=True)
        if name == "core" and not rows[-1].said:
            package, _, version = below.partition("==")
            control = place.trial("control", {package: version}, "--no-deps")
            place.install(versions)
    if "core" in wanted and not rows[0].said:
        rows.append(control)
        print(control.line, flush=True)
    return rows


def page(rows: list[Row], seconds: float) -> str:
    """The result as Markdown."""
    table = "\n".join(row.line for row in rows)
    now, python = time.strftime("%Y-%m-%d"), sys.version.split()[0]
    return f"""# The lower bounds of the dependencies

{now}, Python {python}, {seconds:.0f} s in all. The control is below its bound, and must
fail.

    python benchmarks/lower_bounds.py --out benchmarks/results/lower_bounds.md

| set | at | tests passed | |
|---|---|---|---|
{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the environment here")
    parser.add_argument("--only", help="core or extras, with commas between")
    parser.add_argument("--below", default="tokenizers==0.21.1", metavar="NAME==X.Y.Z")
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args()
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = bounds(tomllib.loads(text)["project"])
    if options.only:
        wanted = {name: wanted[name] for name in options.only.split(",")}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        rows = trials(Environment(folder), wanted, options.below)
    shown = page(rows, time.monotonic() - began)
    if options.out:
        options.out.write_text(shown, encoding="utf-8")
    if "core" in wanted and rows[-1].name != "control":
        print("the core fails, so its control was not run", file=sys.stderr)
    right = [bool(row.said) == (row.name == "control") for row in rows]
    raise SystemExit(not all(right))


if __name__ == "__main__":
    main()
