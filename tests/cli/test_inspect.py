"""``lmzoo inspect``: help, files and JSON of each probe; every mistake is one line."""

import json
from pathlib import Path

import pytest

from lmzoo import registry
from tests.cli.runner import fit, lmzoo

PROBES = {  # name -> (what follows it, figures that it draws)
    "frequencies": ("{text} {other}", {"story", "other", "together"}),
    "samples": ("{run} --max_new_tokens 20", {"words", "distinct", "marks"}),
    "curve": ("{run}", {"loss"}),
    "softmax": ("{run} --prompt the", {"entropy", "choices"}),
}
WRONG = [  # (what follows inspect, what the line says)
    ("softmx {run}", "unknown probe 'softmx'; did you mean 'softmax'?"),
    ("--prompt x softmax", "name a probe before --prompt"),
    ("frequencies nosuch", "nosuch: no such corpus"),
    ("frequencies {folder}/none.txt", "no such file"),
    ("frequencies {text} --top x", "--top"),
    ("frequencies", "corpora"),
    ("curve {folder}/none", "no such run folder"),
    ("curve {single}", "one checkpoint"),
    ("curve {run} --checkpoints 3", "no checkpoint of step 3"),
    ("curve {run} --checkpoints some", "--checkpoints some"),
    ("curve {run} --corpus nosuch", "nosuch"),
    ("softmax {run}", "the prompt is empty"),
    ("softmax {run} --prompt the --checkpoints 7", "no checkpoint of step 7"),
    ("softmax {run} --prompt the --charactres 3", "--characters"),
    ("samples {run} --num_samples 0", "num_samples"),
    ("samples {run} --checkpoints ~0", "~0"),
    ("samples {run} --max_new_tokens 9 --out {text}", "{text}"),
    ("--extra-probe", "needs a Python file"),
    ("--extra-probe {folder}/none.py mine", "none.py: no such Python file"),
    ("--extra-probe {folder}/broken.py mine {run}", "ZeroDivisionError"),
    ("--extra-probe {folder}/taken.py curve {run}", "claimed by both"),
]
EXTRA = '''
from lmzoo.registry import register_probe
from lmzoo.report.finding import Finding


@register_probe("{name}")
def mine(run: str, *, times: int = 2) -> Finding:
    """Count what there is.

    Args:
        run: a run folder
        times: how often
    """
    return Finding("mine", "Mine", text=["x" * times], data={{"times": times}})
'''


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with two checkpoints, one with a single one, texts and probe files."""
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "story.txt").write_text("the lazy dog sleeps, and a fox jumps.\n" * 200)
    (folder / "other.txt").write_text("def f(x): return x + 1\n" * 50)
    (folder / "extra.py").write_text(EXTRA.format(name="mine"))
    (folder / "taken.py").write_text(EXTRA.format(name="curve"))
    (folder / "broken.py").write_text("1 / 0\n")
    line = f"--data.path {folder / 'story.txt'} --trainer.default_root_dir {folder}"
    fit(f"{line}/run --trainer.max_steps 8 --checkpoints.every_n_steps 4")
    fit(f"{line}/single --trainer.max_steps 4")
    found = {"folder": folder, "text": folder / "story.txt"}
    found |= {name: folder / name for name in ("run", "single")}
    return found | {"other": folder / "other.txt"}


@pytest.fixture(autouse=True)
def _probes_as_they_were():
    before = set(registry.probes._files)
    yield
    for name in set(registry.probes._files) - before:
        registry.probes.forget(name)


def test_help_names_every_probe() -> None:
    shown = lmzoo("inspect --help")
    assert shown.code == 0
    for name in PROBES:
        assert f"\n  {name} " in shown.out
    assert "--extra-probe" in shown.out
    assert lmzoo("inspect").out == shown.out


@pytest.mark.parametrize("name", PROBES)
def test_each_probe_says_what_it_takes(name: str) -> None:
    shown = lmzoo(f"inspect {name} --help")
    assert shown.code == 0
    for option in ("--out", "--png", "--json"):
        assert option in shown.out
    assert "(default:" in shown.out or "default" in shown.out


@pytest.mark.parametrize("name", PROBES)
def test_words_files_and_json(
    name: str, places: dict[str, Path], tmp_path: Path
) -> None:
    given, figures = PROBES[name]
    line = f"inspect {name} {given.format(**places)} --out {tmp_path / 'out'}"
    shown = lmzoo(line)
    assert shown.code == 0, shown.err
    assert "written" in shown.out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = {f"{name}-{figure}.svg" for figure in figures}
    assert files == {f"{name}.json", f"{name}.csv", *drawn}
    plain = lmzoo(f"{line} --json")
    assert json.loads(plain.out) == json.loads(
        (tmp_path / "out" / f"{name}.json").read_text()
    )
    assert plain.out.count("\n") == 1


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_a_mistake_is_one_line(
    given: str, message: str, places: dict[str, Path]
) -> None:
    before = sorted(places["folder"].rglob("*"))
    refused = lmzoo(f"inspect {given.format(**places)}")
    assert refused.code == 2
    assert message.format(**places) in refused.err
    assert refused.err.startswith("error: ")
    assert refused.err.count("\n") == 1
    assert refused.out == ""
    assert sorted(places["folder"].rglob("*")) == before


def test_results_lie_beside_the_run(places: dict[str, Path]) -> None:
    shown = lmzoo(f"inspect samples {places['run']} --max_new_tokens 9")
    assert shown.code == 0, shown.err
    assert (places["run"] / "inspect" / "samples.json").is_file()


def test_a_probe_of_ones_own(places: dict[str, Path], tmp_path: Path) -> None:
    extra = f"--extra-probe {places['folder'] / 'extra.py'}"
    line = f"inspect {extra} mine {places['run']} --out {tmp_path}"
    shown = lmzoo(f"{line} --times 5")
    assert shown.code == 0, shown.err
    assert "xxxxx" in shown.out
    assert json.loads((tmp_path / "mine.json").read_text())["times"] == 5
    assert "  mine " in lmzoo(f"inspect {extra}").out
    assert "how often" in lmzoo(f"inspect {extra} mine --help").out
