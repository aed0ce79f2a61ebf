"""lmzoo compare, end to end on a small text: tables, failures, resuming, mistakes."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lmzoo.cli import main
from lmzoo.cli.compare_arguments import read
from lmzoo.compare import launchers, timekeeping
from lmzoo.compare.jobs import Job, Outcome, last_error
from lmzoo.compare.reading import Comparison
from lmzoo.errors import UsageError
from lmzoo.registry import models
from tests.cli.runner import Result, lmzoo
from tests.processes import apart

TINY = "--model.d_model 8 --model.context_length 16"
CHEAP = (
    "--data.batch_size 4 --samples.length 4 --budget.steps 6 --parallel 1 --threads 1 "
    "--timing false"
)
PLUGIN = '''
import torch
from torch import nn
from lmzoo import LanguageModel
from lmzoo.registry import register_model


@register_model("tame")
class Tame(LanguageModel):
    """Each token by itself."""

    def __init__(self, vocab_size: int, context_length: int = 16, d_model: int = 8):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


@register_model("moody")
class Moody(Tame):
    """Fails with one of the seeds."""

    def training_step(self, batch, batch_idx):
        if self.seed == 1338 and self.global_step >= 2:
            raise RuntimeError("no more of this")
        return super().training_step(batch, batch_idx)


@register_model("peeking")
class Peeking(Tame):
    """Sees the next token."""

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.head(x + x.roll(-1, 1))
'''


class Apart:
    """A launcher that runs the cells one after another, each in its own process."""

    def __init__(self, parallel: int = 1) -> None:
        assert parallel == 1

    def run(self, jobs: Sequence[Job], done: Callable[[Outcome], None]) -> None:
        for job in jobs:
            done(apart(job))


class Inside:
    """A launcher that runs the cells in this process, which is quicker."""

    interrupt_after = 10**6
    ran: list[str] = []

    def __init__(self, parallel: int = 1) -> None:
        assert parallel == 1

    def run(self, jobs: Sequence[Job], done: Callable[[Outcome], None]) -> None:
        for number, job in enumerate(jobs):
            if number == self.interrupt_after:
                raise KeyboardInterrupt
            job.folder.mkdir(parents=True, exist_ok=True)
            self.ran.append(job.name)
            done(Outcome(job.name, main(list(job.argv)), ""))


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> type[Inside]:
    """Cells run in this process."""
    monkeypatch.setitem(launchers.LAUNCHERS, "local", Inside)
    monkeypatch.setattr(Inside, "ran", [])
    return Inside


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A text and a plugin file."""
    folder = tmp_path_factory.mktemp("compare")
    lines = [f"{n} it was the best of times, it was {n * n}\n" for n in range(300)]
    (folder / "t.txt").write_text("".join(lines))
    (folder / "plugin.py").write_text(PLUGIN)
    yield folder
    for name in ("tame", "moody", "peeking"):
        models.forget(name)


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[Path, Result]:
    """Three models and two seeds, each cell in its own process."""
    line = (
        f"compare --plugin {folder}/plugin.py --models tame,moody,peeking --seeds 2 "
        f"--data.path {folder}/t.txt {TINY} {CHEAP} --out {folder}/whole"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launchers.LAUNCHERS, "local", Apart)
        return folder / "whole", lmzoo(line)


def document(folder: Path) -> dict:
    """results.json of a comparison."""
    return json.loads((folder / "results.json").read_text())


def cells(folder: Path) -> dict[str, dict]:
    """Its cells by name."""
    return {cell["name"]: cell for cell in document(folder)["cells"]}


# ---- a whole one ---------------------------------------------------------------------


def test_each_cell_is_a_run_and_a_record(whole: tuple[Path, Result]) -> None:
    folder, _ = whole
    done = [c for c in cells(folder).values() if c["status"] == "done"]

    assert [c["name"] for c in done] == ["tame-1337", "moody-1337", "tame-1338"]
    for cell in done:
        summary = json.loads((folder / cell["run"] / "summary.json").read_text())
        best = summary["best"]["metrics"]
        assert cell["best"]["bits_per_char"] == best["bits_per_char"]
        nll = sum(cell["blocks"]) / sum(cell["block_targets"])
        assert nll == pytest.approx(best["nll"], rel=1e-9)
        assert cell["steps"] == 6
        assert list((folder / cell["run"]).glob("events.out*"))


def test_what_all_cells_share_is_stated(whole: tuple[Path, Result]) -> None:
    found = document(whole[0])

    assert found["budget"] == {"kind": "steps", "value": 6}
    assert found["early_stopping"] == "off"
    assert (found["parallel"], found["threads"]) == (1, 1)
    assert found["axes"] == {}
    assert found["text"]["name"] == "t"
    assert {"uniform", "5-gram", "bz2", "xz"} <= set(found["floors"])
    assert found["machine"]["cores"] >= 1


def test_a_cell_that_fails_is_named_and_the_rest_goes_on(
    whole: tuple[Path, Result],
) -> None:
    folder, result = whole
    failed = cells(folder)["moody-1338"]

    assert result.code == 1
    assert failed["status"] == "failed"
    assert failed["reason"] == "RuntimeError: no more of this"
    assert "moody-1338 failed: RuntimeError: no more of this" in result.out


def test_a_model_that_sees_the_future_is_excluded_by_name(
    whole: tuple[Path, Result],
) -> None:
    folder, result = whole
    peeking = cells(folder)["peeking-1337"]

    assert peeking["status"] == "excluded"
    assert peeking["reason"].startswith("breaks causality")
    assert "peeking is excluded: breaks causality" in result.err
    assert not (folder / "cells" / "peeking-1337").exists()


def test_the_table_shows_every_label_and_the_floors(whole: tuple[Path, Result]) -> None:
    out = whole[1].out

    for word in ("tame", "moody", "peeking", "floor: 5-gram", "bits/char", "1 of 2"):
        assert word in out
    assert "early stopping off; 1 at a time, threads of each: 1" in out


def test_the_csv_holds_the_same(whole: tuple[Path, Result]) -> None:
    folder, _ = whole
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))

    assert [row["name"] for row in rows] == list(cells(folder))
    best = cells(folder)["tame-1337"]["best"]["nll"]
    assert float(rows[0]["best.nll"]) == best
    assert rows[2]["status"] == "excluded"


# ---- going on ------------------------------------------------------------------------


def test_interrupted_and_started_again_it_repeats_nothing(
    folder: Path, inside: type[Inside], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        f"compare --models bare,ngram --seeds 2 --data.path {folder}/t.txt "
        f"--model.context_length 16 {CHEAP} --out {folder}/again"
    )
    monkeypatch.setattr(inside, "interrupt_after", 1)
    first = lmzoo(line)
    assert first.code == 130
    assert "interrupted: 1 of 3 cells done" in first.out
    before = stamps(folder / "again" / "cells" / "bare-1337")

    monkeypatch.setattr(inside, "interrupt_after", 10**6)
    second = lmzoo(line)
    assert second.code == 0, second.err
    assert inside.ran == ["bare-1337", "ngram-1337", "bare-1338"]  # a count needs one
    assert "deterministic" in second.out
    assert stamps(folder / "again" / "cells" / "bare-1337") == before

    third = lmzoo(line)
    assert third.code == 0
    assert len(inside.ran) == 3
    found = cells(folder / "again")
    assert {cell["status"] for cell in found.values()} == {"done"}
    assert [c["mark"] for c in found.values()] == ["", "counting", ""]
    assert found["ngram-1337"]["steps"] == 1


def test_models_and_seeds_are_added_to_what_is_done(
    folder: Path, inside: type[Inside]
) -> None:
    line = (
        f"compare --data.path {folder}/t.txt --model.context_length 16 {CHEAP} "
        f"--out {folder}/grown"
    )
    assert lmzoo(f"{line} --models bare --seeds 1").code == 0
    before = stamps(folder / "grown" / "cells" / "bare-1337")

    result = lmzoo(f"{line} --models mlp,bare --seeds 2")
    assert result.code == 0, result.err
    assert sorted(inside.ran) == ["bare-1337", "bare-1338", "mlp-1337", "mlp-1338"]
    assert stamps(folder / "grown" / "cells" / "bare-1337") == before
    assert len(cells(folder / "grown")) == 4

    for less in ("--models mlp --seeds 2", "--models mlp,bare --seeds 1338,1337"):
        refused = lmzoo(f"{line} {less}")
        assert refused.code == 2
        assert "holds a comparison with" in refused.err


def test_a_run_that_ended_unseen_is_measured_not_repeated(
    folder: Path, inside: type[Inside]
) -> None:
    """The comparison was killed between a cell's end and its record."""
    line = (
        f"compare --models bare --seeds 1 --data.path {folder}/t.txt "
        f"--model.context_length 16 {CHEAP} --out {folder}/unseen"
    )
    assert lmzoo(line).code == 0
    measured = cells(folder / "unseen")["bare-1337"]
    (folder / "unseen" / "results.json").unlink()
    before = stamps(folder / "unseen" / "cells" / "bare-1337")

    assert lmzoo(line).code == 0
    assert cells(folder / "unseen")["bare-1337"] == measured
    assert stamps(folder / "unseen" / "cells" / "bare-1337") == before


def stamps(run: Path) -> dict[str, int]:
    """When each file of a run was written."""
    files = [file for file in [run, *run.rglob("*")] if file.is_file()]
    assert files
    return {str(f): f.stat().st_mtime_ns for f in files if f.name != ".lock"}


# ---- grids and files -----------------------------------------------------------------


def test_a_grid_from_a_file_with_tokenizers_and_overrides(
    folder: Path, inside: type[Inside]
) -> None:
    file = folder / "compare.yaml"
    file.write_text(
        f"models: [bare, mlp]\nseeds: [7]\nbudget: {{steps: 99}}\n"
        f"parallel: 1\nthreads: 1\n"
        f"data: {{path: {folder}/t.txt, batch_size: 4}}\n"
        f"model: {{context_length: 16}}\nsamples.length: 4\n"
        f"tokenizers: [char, 'bpe:300']\n"
        f"overrides: {{mlp: {{optimizer.lr: 2e-3}}}}\n"
    )
    file.write_text(file.read_text().replace("model: {context_length: 16}\n", ""))
    result = lmzoo(
        f"compare --config {file} --budget.steps 6 --model.context_length 16 "
        f"--out {folder}/grid"
    )
    assert result.code == 0, result.err
    found = cells(folder / "grid")

    assert list(found) == [
        "bare-char-7",
        "bare-bpe-300-7",
        "mlp-char-7",
        "mlp-bpe-300-7",
    ]
    assert {cell["steps"] for cell in found.values()} == {6}  # typed wins
    assert found["mlp-bpe-300-7"]["tokenizer"] == "bpe:300"
    assert {cell["oov_share"] for cell in found.values()} == {0}
    assert "bits/byte" in result.out
    for name, rate in (("mlp-char-7", 2e-3), ("bare-char-7", None)):
        manifest = folder / "grid" / "cells" / name / "manifest.json"
        identity = json.loads(manifest.read_text())["identity"]
        assert (identity["optimizer.lr"] == 2e-3) == (rate is not None)


def test_unknown_words_are_counted_and_said(folder: Path, inside: type[Inside]) -> None:
    result = lmzoo(
        f"compare --model bare --vary data.tokenizer=byte,word --seeds 1 {CHEAP} "
        f"--data.path {folder}/t.txt --model.context_length 16 --out {folder}/unknown"
    )
    assert result.code == 0, result.err
    shares = {
        c["tokenizer"]: c["oov_share"] for c in document(folder / "unknown")["cells"]
    }
    rows = (folder / "unknown" / "results.csv").read_text().splitlines()

    assert shares["byte"] == 0
    assert shares["word"] > 0.01  # every number is new
    assert f"bare word: {shares['word']:.2%} of the validation tokens" in result.out
    assert "oov_share" in rows[0].split(",")
    assert "Not ranked is bare word" in (folder / "unknown" / "report.md").read_text()


def test_an_axis_that_leaves_the_curves_alone_is_noted(
    folder: Path, inside: type[Inside]
) -> None:
    """The configuration differs, the training does not."""
    result = lmzoo(
        f"compare --model bare --vary early_stopping.patience=5,6 --seeds 1 "
        f"--data.path {folder}/t.txt --model.context_length 16 {CHEAP} "
        f"--out {folder}/twins"
    )
    assert result.code == 0, result.err
    notes = [cell["note"] for cell in cells(folder / "twins").values()]

    assert "bare-patience-6-1337" in notes[0]
    assert "bare-patience-5-1337" in notes[1]
    assert "this axis changed nothing" in result.out
    told = (folder / "twins" / "report.md").read_text()
    assert "bare patience=5 and bare patience=6 trained alike" in told


# ---- texts ---------------------------------------------------------------------------


def test_two_texts_of_one_name_are_two_texts(
    folder: Path, inside: type[Inside]
) -> None:
    """Neither is ranked against the other, and each has its floors."""
    for name in "AB":
        (folder / name).mkdir()
        lines = (folder / "t.txt").read_text().splitlines(True)
        (folder / name / "in.txt").write_text(
            "".join(lines[:: 1 if name == "A" else -2])
        )
    out = folder / "texts"
    result = lmzoo(
        f"compare --models bare,ngram --vary data.path={folder}/A/in.txt,"
        f"{folder}/B/in.txt --seeds 2 --model.context_length 16 {CHEAP} --out {out}"
    )
    assert result.code == 0, result.err
    made = document(out)
    assert len({cell["text"]["val_text_sha256"] for cell in made["cells"]}) == 2

    found = Comparison(made)
    assert len(found.corpora) == 2
    assert all(name.startswith("in #") for name in found.corpora)
    of = {row.label: row.corpus for row in found.rows}
    assert len(found.pairs) == 2
    assert all(of[pair.one] == of[pair.other] for pair in found.pairs)
    floors = [found.counted_floor(corpus) for corpus in found.corpora]
    assert floors[0] != floors[1]
    report = (out / "report.md").read_text()
    for corpus in found.corpora:
        assert f"floor: 5-gram, {corpus}" in report.replace("\\", "")
        assert f"floor: 5-gram, {corpus}" in result.out


def test_two_validation_parts_of_one_file_are_two_texts(
    folder: Path, inside: type[Inside]
) -> None:
    out = folder / "parts"
    result = lmzoo(
        f"compare --model bare --vary data.val_fraction=0.05,0.3 --seeds 2 "
        f"--data.path {folder}/t.txt --model.context_length 16 {CHEAP} --out {out}"
    )
    assert result.code == 0, result.err
    found = Comparison(document(out))
    assert (len(found.corpora), found.pairs) == (2, [])


def test_tokenizers_each_have_their_floors(folder: Path, inside: type[Inside]) -> None:
    """A count over characters is no floor of one over words; the text is one."""
    out = folder / "cuts"
    result = lmzoo(
        f"compare --model bare --vary data.tokenizer=char,word --seeds 2 "
        f"--data.path {folder}/t.txt --model.context_length 16 {CHEAP} --out {out}"
    )
    assert result.code == 0, result.err
    found = Comparison(document(out))
    assert found.corpora == ["t"]
    floors = found.floors()
    assert floors["5-gram (char)"] != floors["5-gram (word)"]
    assert {"bz2", "xz"} <= set(floors)


def test_a_text_that_changed_is_not_mixed_with_the_old_one(
    folder: Path, inside: type[Inside]
) -> None:
    text = folder / "moving.txt"
    text.write_text((folder / "t.txt").read_text())
    line = (
        f"compare --models bare --seeds 2 --data.path {text} "
        f"--model.context_length 16 {CHEAP} --out {folder}/moving"
    )
    assert lmzoo(line).code == 0
    assert lmzoo(line).code == 0  # the control: nothing changed
    before = stamps(folder / "moving")
    text.write_text(text.read_text().replace("best", "last"))

    result = lmzoo(line)

    assert result.code == 2
    assert "the text changed since bare-1337 was trained on it" in result.err
    assert stamps(folder / "moving") == before


def test_a_plugin_that_changed_is_another_comparison(
    folder: Path, inside: type[Inside]
) -> None:
    file = folder / "own.py"
    file.write_text(PLUGIN.split('@register_model("moody")')[0].replace("tame", "mild"))
    line = (
        f"compare --plugin {file} --models mild --seeds 1 --data.path {folder}/t.txt "
        f"{TINY} {CHEAP} --out {folder}/own"
    )
    assert lmzoo(line).code == 0
    cell = cells(folder / "own")["mild-1337"]
    assert cell["versions"]["torch"]
    assert "commit" in cell
    models.forget("mild")
    file.write_text(f"{file.read_text()}# another\n")

    result = lmzoo(line)

    models.forget("mild")
    assert result.code == 2
    assert "plugin.sha256" in result.err


# ---- time against length -------------------------------------------------------------


def test_what_was_trained_is_timed_against_length(
    folder: Path, inside: type[Inside]
) -> None:
    """Each architecture with its sizes once, kept for the next sitting."""
    out = folder / "growth"
    line = (
        f"compare --models bare,ngram,gpt --vary optimizer.lr=1e-3,2e-3 --seeds 1 "
        f"--data.path {folder}/t.txt --model.context_length 16 "
        f"{CHEAP.replace('--timing false', '--match.params 4k')} --out {out}"
    )
    assert lmzoo(line).code == 0
    found = document(out)

    assert list(found["timing"]) == ["bare lr=0.001", "gpt lr=0.001"]
    trained = cells(out)["gpt-lr-0.001-1337"]
    for label, timing in found["timing"].items():
        assert timing["lengths"] == [16, 32, 64, 128, 256]
        assert all(seconds > 0 for seconds in timing["forward"] + timing["backward"])
        assert (timing["threads"], timing["model"]) == (1, label.split()[0])
    sizes = found["timing"]["gpt lr=0.001"]
    assert sizes["parameters"][0] == trained["parameters"]  # at 16: the matched sizes
    report = (out / "report.md").read_text()
    assert "time grows as length to the power" in report
    assert (
        "Forward and backward time against length" in (out / "report.html").read_text()
    )

    before = stamps(out / "timing.json")
    assert lmzoo(line).code == 0
    assert stamps(out / "timing.json") == before
    assert document(out)["timing"] == found["timing"]


# ---- time ----------------------------------------------------------------------------


def test_all_seeds_of_a_model_take_the_steps_of_the_first(
    folder: Path, inside: type[Inside]
) -> None:
    """Whether or not this machine was quiet enough to keep the second."""
    out = folder / "timed"
    result = lmzoo(
        f"compare --models bare,ngram --seeds 2 --data.path {folder}/t.txt "
        f"--parallel 1 --threads 1 "
        f"--model.context_length 16 --data.batch_size 4 --samples.length 4 "
        f"--budget.seconds 1 --timing false --out {out}"
    )
    assert result.code == 0, result.err
    found = cells(out)
    one, two = found["bare-1337"], found["bare-1338"]
    for cell in (one, two):
        assert cell["deviation"] == pytest.approx(cell["seconds"] - 1)
        assert ("not ranked" in cell["note"]) == (abs(cell["deviation"]) > 0.05)
        aside = len(list((out / "outside").glob(f"{cell['name']}*")))
        assert inside.ran.count(cell["name"]) == 1 + aside
        last = aside == timekeeping.ATTEMPTS - 1  # which may take other steps
        if cell is two and abs(one["deviation"]) <= 0.05 and not last:
            assert one["steps"] == two["steps"]
    assert found["ngram-1337"]["deviation"] is None
    assert "Measured seconds differ from the budget by up to" in (
        out / "report.md"
    ).read_text().replace("\\", "")


# ---- mistakes ------------------------------------------------------------------------

BASE = "--models bare --budget.steps 6"
MISTAKES = {
    "--budget.steps 6": "nothing to compare",
    "--models baer --budget.steps 6": "did you mean 'bare'",
    "--models bare": "how long may each cell train",
    f"{BASE} --budget.seconds 5": "give one budget",
    f"{BASE} --seeds x": "--seeds x",
    f"{BASE} --seeds 1,1": "given twice",
    f"{BASE} --model mlp": "--model and --models",
    f"{BASE} --vary nothing=1,2": "no option of fit",
    f"{BASE} --vary model.layers=1,2": "unknown option --model.layers",
    f"{BASE} --vary data.batch_size": "give KEY=VALUE,VALUE",
    f"{BASE} --vary data.batch_size=4,4": "changes nothing",
    f"{BASE} --vary trainer.enable_progress_bar=true,false": "are the same run",
    f"{BASE} --data.batchsize 3": "did you mean --data.batch_size",
    f"{BASE} --model.context_length many": "context_length",
    f"{BASE} --trainer.max_steps 3": "--budget.steps",
    f"{BASE} --seed_everything 3": "--seeds",
    f"{BASE} --parralel 2": "did you mean 'parallel'",
    f"{BASE} --parallel 0": "--parallel 0",
    f"{BASE} --parallel ²": "--parallel ²",
    f"{BASE} --threads {'9' * 5000}": "give 1 or more",
    f"{BASE} --seeds {'9' * 5000}": "give how many",
    f"{BASE} --vary data.batch_size={'[' * 9000}": "batch_size",
    f"{BASE} --vary data.batch_size=,": "give values",
    f"{BASE} --vary optimizer.betas=[0.9,0.9],[0.9,0.9]": "changes nothing",
    f"{BASE} --threads 99999": "cores",
    f"{BASE} --launcher here": "--launcher here",
    f"{BASE} --launcher.address x": "local launcher reads no options",
    f"{BASE} --config missing.yaml": "missing.yaml",
    f"{BASE} --plugin missing.py": "missing.py",
    f"{BASE} --data.path missing.txt": "missing.txt",
    f"{BASE} --data.val_fraction 0": "validation part",
    f"{BASE} --overrides.bare.optimizer.lr 1": "overrides stand in a file",
    f"{BASE} --timing maybe": "--timing maybe",
    f"{BASE} --out .": "holds no comparison",
}


@pytest.mark.parametrize("line", list(MISTAKES))
def test_a_mistake_is_one_line_and_nothing_is_written(
    line: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text((folder / "t.txt").read_text())
    text = "" if "data.path" in line else " --data.path here.txt"

    result = lmzoo(f"compare {line}{text}")

    assert result.code == 2, result.out
    assert MISTAKES[line] in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["here.txt"]


FILES = {  # a YAML file, and what is said of it
    "vary: [model.num_layers]": "vary: give KEY: [VALUE, VALUE]",
    "vary: 3": "vary: give KEY: [VALUE, VALUE]",
    "vary: {data.batch_size: null}": "--vary data.batch_size: give values",
    "vary: {data.batch_size: []}": "--vary data.batch_size: give values",
    "corpora: null": "corpora: nothing is listed",
    "tokenizers: []": "tokenizers: nothing is listed",
    "models: null": "nothing to compare",
    "overrides: [bare]": "overrides: give a section for each model",
    "overrides: {bare: null}": "overrides: bare: give options",
    "overrides: {1: {optimizer.lr: 1}}": "overrides: '1' is not compared",
    "rows: [wide]": "rows: give a section for each row",
    "rows: {wide: 3}": "rows: wide: give options",
    "rows: {wide: {d_model: 3}}": "rows: wide: d_model is no option of fit",
    "budget: {seconds: null}": "--budget.seconds None",
    "threads: null": "--threads None",
    "seeds: {a: 1}": "unknown option --seeds.a",
    "- models": "compare.yaml",
}


@pytest.mark.parametrize("content", list(FILES))
def test_a_mistake_in_a_file_is_one_line_too(
    content: str, tmp_path: Path, folder: Path
) -> None:
    file = tmp_path / "compare.yaml"
    file.write_text(content)
    models = "" if "models:" in content else "--models bare "
    budget = "" if "budget:" in content else "--budget.steps 6 "
    text = "" if "corpora:" in content else f"--data.path {folder}/t.txt "

    result = lmzoo(
        f"compare {models}{budget}--config {file} {text}--out {tmp_path}/out"
    )

    assert result.code == 2, result.out
    assert FILES[content] in result.err
    assert result.err.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["compare.yaml"]


DAMAGED = {  # a file of a comparison's folder, and what is said of it
    ("comparison.json", "[]"): "cannot be read",
    ("comparison.json", "{}"): "cannot be read ('identity')",
    ("comparison.json", '{"identity": 3}'): "its identity is no table",
    ("comparison.json", "{"): "cannot be read",
    ("results.json", "[]"): "remove it: the runs are kept",
    ("results.json", '{"format": 1, "cells": [{}]}'): "a cell has no name",
    ("results.json", '{"format": 1, "cells": [3]}'): "remove it",
    ("results.json", '{"format": 1, "cells": 3}'): "remove it",
}


@pytest.mark.parametrize(("name", "content"), list(DAMAGED))
def test_a_damaged_folder_is_one_line_too(
    name: str, content: str, folder: Path, inside: type[Inside]
) -> None:
    line = (
        f"compare --models ngram --seeds 1 --data.path {folder}/t.txt "
        f"--samples.length 4 --budget.steps 6 --parallel 1 --threads 1 "
        f"--out {folder}/damaged"
    )
    assert lmzoo(line).code == 0
    file = folder / "damaged" / name
    whole = file.read_text()
    file.write_text(content)

    result = lmzoo(line)

    assert result.code == 2
    assert DAMAGED[name, content] in result.err
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.err
    file.write_text(whole)


def test_lists_are_values_too() -> None:
    betas = "[0.9,0.95],[0.9, 0.99]"
    argv = [
        "--models",
        "bare",
        "--budget.steps",
        "6",
        f"--vary=optimizer.betas={betas}",
    ]

    comparison = read(argv).comparison

    assert comparison.axes == {"optimizer.betas": [[0.9, 0.95], [0.9, 0.99]]}
    assert len({cell.name for cell in comparison.cells()}) == 6


def test_small_machines_train_one_cell_on_each_core(monkeypatch) -> None:
    """Two threads on one cell do less in all than one on each of two."""

    def shares(cores: int, more: str = "", gpu: bool = False) -> tuple[int, int]:
        monkeypatch.setattr("os.cpu_count", lambda: cores)
        monkeypatch.setattr("torch.accelerator.is_available", lambda: gpu)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        argv = f"--models bare --budget.steps 6 {more}".split()
        comparison = read(argv).comparison
        return comparison.parallel, comparison.threads

    assert [shares(cores) for cores in (1, 2, 4, 16)] == [
        (1, 1),
        (2, 1),
        (4, 1),
        (4, 4),
    ]
    assert shares(4, "--threads 2") == (2, 2)
    assert shares(4, "--parallel 1") == (1, 4)
    assert shares(4, gpu=True) == (1, 4)
    assert shares(4, "--trainer.accelerator cpu", gpu=True) == (4, 1)
    assert shares(4, "--launcher ray") == (1, 4)
    with pytest.raises(UsageError, match="--parallel 1 with 8 threads each"):
        shares(4, "--threads 8")


def test_another_comparison_in_the_folder_is_refused(
    folder: Path, inside: type[Inside]
) -> None:
    line = (
        f"compare --models bare --seeds 1 --data.path {folder}/t.txt "
        f"--model.context_length 16 {CHEAP} --out {folder}/taken"
    )
    assert lmzoo(line).code == 0
    before = stamps(folder / "taken")

    other = lmzoo(f"{line} --data.batch_size 2")

    assert other.code == 2
    assert "data.batch_size = 4, this one has 2" in other.err
    assert stamps(folder / "taken") == before


def test_help_answers_without_torch() -> None:
    result = lmzoo("compare --help")

    assert result.code == 0
    assert "--budget.seconds" in result.out


def test_the_reason_is_the_last_sittings(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("$ lmzoo fit a\nerror: an old one\n$ lmzoo fit a\nValueError: new\n")
    assert last_error(tmp_path) == "ValueError: new"
    log.write_text("$ lmzoo fit a\nerror: a line\nand more\n$ lmzoo fit a\n")
    assert last_error(tmp_path) == "no output"


def test_equal_parameters_and_searched_rates(
    folder: Path, inside: type[Inside]
) -> None:
    pytest.importorskip("optuna")
    line = (
        f"compare --models ngram,ff,gpt --seeds 1 --budget.steps 8 --parallel 1 "
        f"--threads 1 --data.path {folder}/t.txt --data.batch_size 4 "
        f"--samples.length 4 --match.params 20k --tune.trials 2 --timing false "
        f"--out {folder}/fair"
    )
    result = lmzoo(line)
    assert result.code == 0, result.err
    assert "ngram counts and has nothing to size" in result.err
    document = json.loads((folder / "fair" / "results.json").read_text())
    assert document["match"] == {"params": 20_000}
    found = cells(folder / "fair")
    for model in ("ff", "gpt"):
        cell = found[f"{model}-1337"]
        assert abs(cell["parameters"] - 20_000) <= 400  # 2 %
        assert cell["steps"] == 6  # a quarter of the budget went to the search
        assert len(document["tuned"]["sweeps"][model]) == 2
        rates = [row["lr"] for row in document["tuned"]["sweeps"][model]]
        chosen = document["tuned"]["chosen"][model]["optimizer.lr"]
        assert cell["recipe"]["optimizer"]["lr"] == pytest.approx(chosen)
        assert chosen in rates
        manifest = json.loads(
            (folder / "fair" / cell["run"] / "manifest.json").read_text()
        )
        assert manifest["identity"]["optimizer.lr"] == pytest.approx(chosen)
    assert found["ngram-1337"]["status"] == "done"
    report = (folder / "fair" / "report.md").read_text().replace("\\", "")
    assert f"d_model {found['gpt-1337']['recipe']['model']['d_model']}" in report
    ran = len(inside.ran)
    assert lmzoo(line).code == 0
    assert len(inside.ran) == ran  # neither the search nor the cells are repeated
    assert (folder / "fair" / "report.html").is_file()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--match.params 3", "the nearest is"),
        ("--match.params x", "--match.params x"),
        (
            "--match.params 20k --models ff,tame --plugin {plugin}",
            "--match.params: tame names no size arguments",
        ),
        ("--match.params 20k --models ngram", "none of the models can be sized"),
        ("--match.params 20k --vary model.d_model=16,32", "give one of them"),
        ("--tune.trials 0", "--tune.trials 0"),
        ("--tune.trials 2 --vary optimizer.lr=1e-3,1e-2", "give one of them"),
        ("--tune.trials 2", "a quarter of 4 steps is less than 1 for each"),
        ("--tune.trials 1 --optimizer.lr 1e-3", "optimizer.lr, which is given too"),
        ("--tune.trials 1 --config {tuned}", "optimizer.lr, which is given too"),
    ],
)
def test_what_matching_and_tuning_refuse(more: str, said: str, folder: Path) -> None:
    out, tuned = folder / "never", folder / "tuned.yaml"
    tuned.write_text("overrides: {ff: {optimizer: {lr: 1e-3}}}")
    more = more.format(tuned=tuned, plugin=folder / "plugin.py")
    models = "" if "--models" in more else "--models ff "
    result = lmzoo(
        f"compare {models}--budget.steps 4 --data.path {folder}/t.txt {more} "
        f"--out {out}"
    )
    assert result.code == 2
    assert said in result.err
    assert not out.exists()


def test_what_is_excluded_is_not_searched(folder: Path, inside: type[Inside]) -> None:
    pytest.importorskip("optuna")
    result = lmzoo(
        f"compare --plugin {folder}/plugin.py --models peeking,bare --seeds 1 "
        f"--budget.steps 8 --parallel 1 --threads 1 --tune.trials 1 "
        f"--data.batch_size 4 --samples.length 4 --model.context_length 16 "
        f"--data.path {folder}/t.txt --out {folder}/searched"
    )

    assert result.code == 0, result.err
    assert inside.ran == ["bare-trial-0", "bare-1337"]
    assert list(document(folder / "searched")["tuned"]["sweeps"]) == ["bare"]
