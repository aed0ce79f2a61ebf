"""Few-shot: pairs, controls, verdicts, resuming, what is saved."""

import json
from pathlib import Path

import pytest

from lmzoo.analysis.transfer import fewshot as module
from lmzoo.analysis.transfer.fewshot import fewshot
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
    assert row["against_zero"]["verdict"] == "better"
    assert row["after"] < row["zero"]
    assert row["source_after"] > row["source_before"]
    assert row["against_latest"] is None
    assert rows[("day", "zoo"), 20]["against_latest"]["verdict"]
    words = " ".join(found.text)
    assert "better than zero-shot in 4 of 4 cases" in words
    assert "new weights" in words
    assert "Vocabulary (union)" in " ".join(found.notes)


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
