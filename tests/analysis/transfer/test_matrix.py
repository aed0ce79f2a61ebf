"""The matrix: its diagonal is the run's own validation; coverage; planted unknowns."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmzoo.analysis.history import History
from lmzoo.analysis.transfer.corpora import corpus_of
from lmzoo.analysis.transfer.matrix import matrix
from lmzoo.analysis.transfer.passes import (
    Losses,
    difference,
    interval,
    losses,
    neighbours,
    same_text,
)
from lmzoo.errors import UsageError
from tests.cli.runner import SMALL, fit, lmzoo

PLANTED = "the lazy dog % sleeps\n"  # one character in 22 is unknown to the other run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs whose texts differ in one character."""
    folder = tmp_path_factory.mktemp("matrix")
    texts = {"plain": "the lazy dog sleeps all day\n", "planted": PLANTED}
    for name, line in texts.items():
        (folder / f"{name}.txt").write_text(line * 3000)
        fit(
            f"--data.path {folder / name}.txt --trainer.max_steps 40 "
            f"--trainer.default_root_dir {folder / 'run'}-{name}"
        )
    return [f"{folder / 'run'}-{name}" for name in texts]


def cells(found) -> dict[tuple[str, str, str], dict]:
    return {(r["model"], r["corpus"], r["split"]): r for r in found.rows}


def test_the_diagonal_is_the_runs_own_validation(runs: list[str]) -> None:
    found = cells(matrix(runs))
    for run, name in zip(runs, ("plain", "planted"), strict=True):
        summary = json.loads((Path(run) / "summary.json").read_text())
        own = found[name, name, "val"]
        assert own["own_corpus"]
        assert own["nats_per_token"] == pytest.approx(
            summary["best"]["metrics"]["nll"], abs=1e-9
        )
        assert own["bits_per_char"] == pytest.approx(
            summary["best"]["metrics"]["bits_per_char"], abs=1e-9
        )
        assert own["coverage"] == 1
    other = found["plain", "planted", "val"]
    assert not other["own_corpus"]
    assert (
        other["nats_per_token"] > found["planted", "planted", "val"]["nats_per_token"]
    )


def test_planted_unknowns_are_counted_and_charged(runs: list[str]) -> None:
    found = cells(matrix(runs))["plain", "planted", "val"]
    assert found["coverage"] == pytest.approx(21 / 22, abs=1e-3)
    assert found["nats_per_char"] > found["nats_per_known_char"]
    skipped = cells(matrix(runs, policy="skip"))["plain", "planted", "val"]
    assert skipped["coverage"] == pytest.approx(21 / 22, abs=1e-3)
    assert skipped["nats_per_char"] == skipped["nats_per_known_char"]
    assert skipped["tokens"] == pytest.approx(found["tokens"] * 21 / 22, abs=2)
    control = cells(matrix(runs))["planted", "plain", "val"]
    assert control["coverage"] == 1
    assert control["nats_per_char"] == control["nats_per_known_char"]


def test_the_words_come_from_the_numbers(runs: list[str]) -> None:
    found = matrix(runs, split="both")
    words = " ".join(found.text)
    assert "held-out (validation) text: The diagonal is" in words
    assert "was trained on" in words
    assert "vocabulary of plain on planted (95.5 %)" in words
    assert any("blocks of text" in note for note in found.notes)
    assert set(found.figures) == {"train", "val"}
    assert {row["split"] for row in found.rows} == {"train", "val"}


def test_fewer_tokens_and_named_corpora(runs: list[str]) -> None:
    plain = Path(runs[0]).parent / "plain.txt"
    found = cells(matrix(runs, corpora=f"mine={plain},planted", max_tokens=500))
    assert set(found) == {
        (model, corpus, "val")
        for model in ("plain", "planted")
        for corpus in ("mine", "planted")
    }
    assert all(500 <= row["tokens"] + 16 < 532 for row in found.values())
    assert found["plain", "mine", "val"]["own_corpus"]
    assert not found["planted", "mine", "val"]["own_corpus"]


def test_bad_input(runs: list[str]) -> None:
    with pytest.raises(UsageError, match="given twice"):
        matrix([runs[0], runs[0]])
    with pytest.raises(UsageError, match="no-such"):
        matrix(runs, corpora="no-such")
    with pytest.raises(UsageError, match="stands there twice"):
        matrix(runs, corpora="plain,plain")


@pytest.mark.parametrize("model", ["lstm", "ff", "conv", "ngram"])
def test_any_member_is_measured_by_its_own_protocol(
    model: str, runs: list[str], tmp_path: Path
) -> None:
    text = Path(runs[0]).parent / "plain.txt"
    sizes = "" if model == "ngram" else "--trainer.max_steps 5"
    folder = tmp_path / "run"
    done = lmzoo(
        f"fit --model {model} --data.path {text} {sizes} "
        f"--trainer.default_root_dir {folder}"
    )
    assert done.code == 0, done.err
    summary = json.loads((folder / "summary.json").read_text())
    found = cells(matrix([str(folder)]))["plain", "plain", "val"]
    assert found["nats_per_token"] == pytest.approx(
        summary["best"]["metrics"]["nll"], rel=1e-6
    )


def test_other_tokenizers_compare_in_bits(runs: list[str], tmp_path: Path) -> None:
    text = Path(runs[0]).parent / "plain.txt"
    done = lmzoo(
        f"fit --model gpt {SMALL} --data.path {text} --data.tokenizer byte "
        f"--trainer.max_steps 5 --trainer.default_root_dir {tmp_path / 'bytes'}"
    )
    assert done.code == 0, done.err
    found = matrix([runs[1], str(tmp_path / "bytes")])
    assert any("bits per character only" in note for note in found.notes)
    assert "bits per character" in found.figures["val"]


# ---- blocks --------------------------------------------------------------------------


def made(nats: list[float]) -> Losses:
    ones = [1.0] * len(nats)
    return Losses(np.array(nats), np.array(ones), np.zeros(len(nats), bool))


def test_blocks_share_out_every_nat() -> None:
    found = made([float(i % 7) for i in range(4321)])
    nats, chars = found.blocks(4)
    assert nats.sum() == pytest.approx(found.nats.sum())
    assert chars.sum() == 4321
    assert max(chars) - min(chars) <= 1


def test_a_difference_is_told_and_none_is_not() -> None:
    one = made([1.0 + 0.1 * math.sin(i / 50) for i in range(9000)])
    worse = made([value + 0.2 for value in one.nats])
    low, high = difference(worse, one).interval or (0, 0)
    assert low > 0
    assert high == pytest.approx(0.2 / math.log(2), abs=1e-6)
    same = difference(one, one).interval or (1, 1)
    assert same[0] <= 0 <= same[1]
    assert interval(made([1.0] * 900)).interval is None  # one block says nothing


def test_neighbours_are_seen_to_go_together() -> None:
    assert neighbours([1, 2, 3, 4, 5, 6, 7, 8]) > 0.5
    assert neighbours([1, -1, 1, -1, 1, -1]) < 0


def test_the_protocol_of_a_carried_state(runs: list[str], tmp_path: Path) -> None:
    text, folder = Path(runs[0]).parent / "plain.txt", tmp_path / "run"
    done = lmzoo(
        f"fit --model lstm --model.d_model 8 --model.d_hidden 8 --model.context_length "
        f"16 --model.carry_state true --data.path {text} --data.batch_size 4 "
        f"--trainer.max_steps 20 --trainer.default_root_dir {folder}"
    )
    assert done.code == 0, done.err
    summary = json.loads((folder / "summary.json").read_text())
    own = cells(matrix([str(folder)]))["plain", "plain", "val"]
    assert own["nats_per_token"] == pytest.approx(
        summary["best"]["metrics"]["nll"], rel=1e-6
    )
    assert "state carried along" in own["context"]
    history = History(folder)
    model = history.at(history.best)
    model.carry_state = False  # the control: fresh windows give another number
    fresh = losses(model, corpus_of(history).under(history), "val")
    assert "fresh windows" in fresh.context
    assert abs(fresh.nats_per_token - own["nats_per_token"]) > 1e-4


def test_the_note_says_whether_all_was_measured(runs: list[str]) -> None:
    def told(most: int) -> bool:
        found = matrix(runs[:1], max_tokens=most)
        return any("evenly spread" in note for note in found.notes)

    assert told(500)
    assert not told(0)
    assert not told(10**6)  # more than there is


def test_only_the_same_text_is_paired(runs: list[str], tmp_path: Path) -> None:
    text, longer = Path(runs[0]).parent / "plain.txt", tmp_path / "longer"
    done = lmzoo(
        f"fit --model gpt {SMALL} --model.context_length 40 --data.path {text} "
        f"--trainer.max_steps 5 --trainer.default_root_dir {longer}"
    )
    assert done.code == 0, done.err
    places = [runs[0], str(longer)]
    whole, part = (
        [
            losses(
                history.at(history.last), corpus_of(history).under(history), "val", n
            )
            for history in map(History, places)
        ]
        for n in (0, 500)
    )
    assert same_text(*whole)
    assert same_text(part[0], part[0])
    assert not same_text(*part)
    assert not same_text(whole[0], part[0])
    assert "two intervals" in " ".join(matrix(places, max_tokens=3000).text)
    assert "two intervals" not in " ".join(matrix(places).text)


def test_an_unpaired_difference_knows_less() -> None:
    one = made([1.0 + 0.1 * math.sin(i / 50) for i in range(9000)])
    worse = made([value + 0.2 for value in one.nats])
    elsewhere = replace(worse, places=np.array([[0, 9000]]))
    paired, apart = difference(worse, one), difference(elsewhere, one)
    assert apart.mean == pytest.approx(paired.mean)
    assert (apart.half or 0) > 10 * (paired.half or 1)
