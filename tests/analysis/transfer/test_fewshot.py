"""Few-shot: pairs, controls, verdicts, resuming, what is saved."""

import json
import math
import shutil
from pathlib import Path

import pytest

from lmzoo.analysis.history import History
from lmzoo.analysis.transfer import fewshot as module
from lmzoo.analysis.transfer.cells import file_name
from lmzoo.analysis.transfer.fewshot import fewshot
from lmzoo.analysis.transfer.story import _forgotten
from lmzoo.analysis.transfer.verdicts import verdict
from lmzoo.errors import UsageError
from tests.cli.runner import fit, lmzoo


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs with a history, on two texts."""
    folder = tmp_path_factory.mktemp("fewshot")
    texts = {"day": "the lazy dog sleeps all day\n", "zoo": "zebras vex 12 + 7!\n"}
    for name, line in texts.items():
        (folder / f"{name}.txt").write_text(line * 1500)
        fit(
            f"--data.path {folder / name}.txt --trainer.max_steps 60 "
            f"--checkpoints.every_n_steps 20 "
            f"--trainer.default_root_dir {folder / 'run'}-{name}"
        )
    return [f"{folder / 'run'}-{name}" for name in texts]


QUICK = {"at": "0,1,30", "length": 12, "max_tokens": 4000, "seeds": 2, "lr": 4e-3}


@pytest.fixture(scope="module")
def found(runs: list[str]):
    return fewshot(runs, start="20,last", **QUICK)


def test_every_ordered_pair_start_and_seed(found) -> None:
    trainings = {
        (t["source"], t["target"], t["start"], t["seed"])
        for t in found.data["trainings"]
    }
    pairs = [("day", "zoo"), ("zoo", "day")]
    assert trainings == {
        (*pair, start, seed)
        for pair in pairs
        for start in (20, 60, None)
        for seed in (1337, 1338)
    }
    assert set(found.figures) == {"day-to-zoo", "zoo-to-day"}
    first = found.data["trainings"][0]
    assert set(first["steps"]) == {"0", "1", "30"}
    assert set(first["samples"]) == {"0", "1", "30"}
    assert all(text for text in first["samples"].values())


def test_verdicts_and_forgetting(found) -> None:
    rows = {(tuple(r["pair"]), r["start"]): r for r in found.data["verdicts"]}
    row = rows[("day", "zoo"), 60]
    assert row["against_unadapted"]["verdict"] == "better"
    assert row["after"] < row["unadapted"]
    assert row["source_after"] > row["source_before"]
    assert row["source_before"] < row["source_step_0"] < row["source_after"]
    heads = [head for table in found.tables for head in table.heads]
    assert {"zero-shot", "step 0", "against before", "against step 0"} <= set(heads)
    assert row["against_latest"] is None
    assert rows[("day", "zoo"), 20]["against_latest"]["verdict"]
    words = " ".join(found.text)
    assert "better than zero-shot in 4 of 4 cases" in words
    assert "new weights" in words
    assert "Vocabulary (union)" in " ".join(found.notes)


def test_worse_is_worse_than_before_and_than_step_0() -> None:
    def case(start: int, *words: str) -> dict:
        keys = ("source_against_before", "source_against_step_0")
        gaps = {"better": -1.0, "worse": 1.0}
        told = {
            key: verdict([[gaps[word]] * 4] * 2, [[0.0] * 4] * 2)
            for key, word in zip(keys, words, strict=True)
        }
        sizes = {"source_before": 2.0, "source_after": 3.0}
        return {"pair": ("a", "b"), "start": start, **told, **sizes}

    rows = [case(10, "worse", "worse"), case(20, "worse", "better")]
    (both,) = _forgotten(rows)
    assert "got worse in 1 of 2 cases; most in a → b from 10, by 1.000" in both
    assert "one of the two only in 1 (a → b from 20)" in both
    (none,) = _forgotten(rows[1:])  # what the rows alone cost is not forgetting
    assert "got worse in no case" in none
    (alone,) = _forgotten(rows[:1])
    assert "one of the two" not in alone


def test_each_other_text_is_a_target_once(runs: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(runs[0], copy)  # a second run on the text of the first
    opened = [History(run) for run in (*runs, copy)]
    pairs = [(j.source, j.target) for j in module._jobs(opened, "last", range(1))]
    first, second, third = dict.fromkeys(source for source, _ in pairs)
    assert set(pairs) == {(first, "zoo"), (second, "day"), (third, "zoo")}
    assert len(pairs) == 2 * 3  # each with its control
    assert file_name(f"{third}-to-zoo") == "gpt_on_day_again_-to-zoo"


def test_the_small_print_follows_what_was_done(found, runs: list[str]) -> None:
    notes = " ".join(found.notes)
    assert "evenly spread" not in notes  # the control: all of both texts
    assert "rows for new symbols" in notes
    assert "day → zoo: outside the vocabulary and read as <unk>" in notes
    quick = {**QUICK, "at": "0", "seeds": 1, "max_tokens": 300, "prompt": "day"}
    other = " ".join(fewshot(runs, vocabulary="unk", **quick).notes)
    assert "about 300 tokens, evenly spread" in other
    assert "rows for new symbols" not in other
    assert "day → zoo: outside" not in other


def test_the_vocabulary_is_recorded(found, runs: list[str]) -> None:
    told = found.data["trainings"][0]["vocabulary"]
    assert told["rule"] == "union"
    assert told["new"] > 0
    mapped = fewshot(runs, vocabulary="unk", **{**QUICK, "at": "0", "seeds": 1})
    other = mapped.data["trainings"][0]["vocabulary"]
    assert other["new"] == 0
    assert other["unknown"] > 0


def test_an_interrupted_call_goes_on(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {**QUICK, "seeds": 1, "kept": str(tmp_path / "kept")}
    real, done = module.result, []

    def stops(job, *rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job)
        return real(job, *rest)

    monkeypatch.setattr(module, "result", stops)
    with pytest.raises(KeyboardInterrupt):
        fewshot(runs, **quick)
    kept = {p.name: p.read_bytes() for p in (tmp_path / "kept").iterdir()}
    assert len(kept) == 2
    monkeypatch.setattr(module, "result", real)
    whole = fewshot(runs, **quick)
    assert len(whole.data["trainings"]) == 4
    for name, content in kept.items():
        assert (tmp_path / "kept" / name).read_bytes() == content
    again = fewshot(runs, **quick)
    assert again.data == whole.data  # seconds too: nothing was trained again
    changed = fewshot(runs, **{**quick, "lr": 1e-3})  # the control: another study
    assert changed.data != whole.data


def test_what_is_saved_is_read(runs: list[str], tmp_path: Path) -> None:
    fewshot(runs, save=str(tmp_path / "adapted"), **{**QUICK, "seeds": 1})
    (saved,) = (tmp_path / "adapted").glob("day-to-zoo-*")
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["best"] == "step-000000090.ckpt"
    assert lmzoo(f"generate {saved} --max_new_tokens 5").code == 0
    assert lmzoo(f"score {saved} --text zebras").code == 0
    measured = lmzoo(f"transfer matrix {saved} --out {tmp_path / 'm'} --json")
    assert measured.code == 0, measured.err
    (cell,) = json.loads(measured.out)["cells"]
    assert cell["corpus"] == "zoo"
    assert cell["own_corpus"]


def test_verdict() -> None:
    other = [[2.0, 2.1, 2.2, 2.3], [2.0, 2.1, 2.3, 2.2]]
    better = [[v - 0.5 + 0.01 * i for i, v in enumerate(row)] for row in other]
    assert verdict(better, other).word == "better"
    assert verdict(other, better).word == "worse"
    assert verdict(other, other).word == "no difference shown"
    noisy = [[1.5, 1.6, 1.7, 1.8], [2.4, 2.5, 2.7, 2.6]]  # the seeds disagree
    assert verdict(noisy, other).word == "no difference shown"
    assert verdict([[1.0]], [[2.0]]).word == "no difference shown"  # no interval
    both = verdict(noisy, other)
    halves = [(b - a) / 2 for a, b in (both.over_blocks, both.over_seeds)]
    low, high = both.interval
    assert (high - low) / 2 == pytest.approx(math.hypot(*halves))
    assert (low + high) / 2 == pytest.approx(both.mean)


def test_bad_input(runs: list[str]) -> None:
    for given, said in (
        ({"runs": runs[:1]}, "2 are needed"),
        ({"runs": [runs[0], runs[0]]}, "given twice"),
        ({"runs": runs, "start": "35"}, "no checkpoint of step 35"),
        ({"runs": runs, "start": "first"}, "--start first"),
        ({"runs": runs, "start": "last,60"}, "is one checkpoint here"),
        ({"runs": runs, "at": "0;5"}, "--at"),
        ({"runs": runs, "prompt": ""}, "--prompt"),
        ({"runs": runs, "seeds": 0}, "seeds must be"),
    ):
        with pytest.raises(UsageError, match=said):
            fewshot(**given)
