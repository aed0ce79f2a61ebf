"""Losses from checkpoints alone, against what the run logged while it was trained."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from lmzoo.analysis.history import History
from lmzoo.analysis.passes import half_width, losses, passage, uncertainty
from lmzoo.analysis.probes.curve import curve
from lmzoo.analysis.texts import text_for
from lmzoo.errors import UsageError
from tests.analysis.probes.conftest import MEMBERS, Zoo


@pytest.mark.parametrize("name", [*MEMBERS, "carried"])
def test_the_losses_are_those_that_were_logged(zoo: Zoo, name: str) -> None:
    found = curve(str(zoo(name)))

    points = found.data["points"]
    assert [point["step"] for point in points] == [10, 20, 30]
    for point in points:
        assert point["held_out_nll"] == pytest.approx(point["logged_val_nll"], abs=1e-6)
        assert point["gap"] == point["held_out_nll"] - point["train_nll"]
        bits = point["held_out_nll"] / math.log(2)  # a character is a token here
        assert point["held_out_bits_per_char"] == pytest.approx(bits)
        assert point["held_out_half_width"] > 0
    assert points[-1]["train_nll"] < points[0]["train_nll"]
    assert "agrees at 3 of 3" in " ".join(found.notes)
    assert list(found.figures) == ["loss"]
    assert found.figures["loss"].count("<polyline") == 2


def test_nothing_is_read_from_the_log(zoo: Zoo, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(zoo("gpt"), copy)
    with_log = curve(str(copy))
    log = (copy / "metrics.csv").read_text().splitlines()
    where = log[0].split(",").index("val/nll")
    rows = [line.split(",") for line in log]
    for row in rows[1:]:
        row[where] = row[where] and "1.5"
    (copy / "metrics.csv").write_text("\n".join(",".join(row) for row in rows))
    forged = curve(str(copy))
    (copy / "metrics.csv").unlink()
    without = curve(str(copy))

    assert "DIFFERS" in " ".join(forged.notes)  # the control
    assert "no logged validation loss" in " ".join(without.notes)
    for one in (forged, without):
        assert [row["held_out_nll"] for row in one.rows] == [
            row["held_out_nll"] for row in with_log.rows
        ]


def test_a_part_stands_for_a_long_text_and_says_so(zoo: Zoo) -> None:
    found = curve(str(zoo("ff")), max_tokens=100, checkpoints="10,30")

    assert 6 * 16 < found.data["tokens"]["val"] <= 7 * 16  # the last may be shorter
    assert "evenly spread" in found.notes[0]
    assert "no logged" in " ".join(found.notes)
    assert [row["step"] for row in found.rows] == [10, 30]


@pytest.mark.parametrize("name", ["gpt", "ff", "carried"])
def test_a_passage_has_every_target_once(zoo: Zoo, name: str) -> None:
    history = History(zoo(name))
    data, model = text_for(history.run), history.at(30)
    tokens = np.asarray(data.train_tokens)

    whole = passage(model, data, "train", 10**9)
    assert whole.whole
    assert np.array_equal(whole.targets, tokens[1:])
    few = passage(model, data, "train", 300)
    assert not few.whole
    assert 300 - 16 < len(few.targets) < 300 + max(16, len(few.begins))
    assert (np.diff(few.begins) >= few.size).all()
    assert few.begins[-1] > 0.9 * len(tokens)

    every, part = losses(model, whole), losses(model, few)
    assert (len(every), len(part)) == (len(whole.targets), len(few.targets))
    if name != "carried":  # where windows are the same, so are their losses
        places = np.concatenate(
            [np.arange(a, b) for a, b in zip(few.begins, few.ends, strict=True)]
        )
        assert np.allclose(every[places], part, atol=1e-5)
        assert not np.allclose(every[: len(part)], part, atol=1e-5)
    entropy, cost = uncertainty(model, few)
    assert np.allclose(cost * math.log(2), part)
    assert (entropy >= 0).all()
    assert (entropy <= math.log2(model.vocab_size) + 1e-5).all()


def test_carried_losses_come_in_the_order_of_the_text(zoo: Zoo) -> None:
    history = History(zoo("carried"))
    data, model = text_for(history.run), history.at(30)
    where = passage(model, data, "val", 10**9)
    found = losses(model, where)

    begin, end = int(where.begins[1]), int(where.ends[1])
    row = np.asarray(where.tokens[begin : end + 1]).astype(np.int64)
    from_score = history.run.score(history.tokenizer.decode(row)).nll[1:]
    assert np.allclose(found[begin:end], from_score, atol=1e-5)
    assert not np.allclose(found[: end - begin], from_score, atol=1e-5)


def test_the_interval_is_that_of_the_block_means() -> None:
    assert half_width(np.ones(100)) == 0
    assert half_width(np.ones(1)) is None
    blocks = np.repeat([0.0, 2.0], 50)  # mean 1, deviation sqrt 2, t(1) = 12.706
    assert half_width(blocks, 2) == pytest.approx(12.7062, rel=1e-4)


def test_one_checkpoint_has_no_curve(zoo: Zoo) -> None:
    with pytest.raises(UsageError, match="one checkpoint"):
        curve(str(zoo("ngram")))
    with pytest.raises(UsageError, match="max_tokens"):
        curve(str(zoo("gpt")), max_tokens=0)


def test_another_text_can_be_named(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("jumps over the lazy fox and waits\n" * 60)
    found = curve(str(zoo("bigram")), corpus=str(tmp_path / "other.txt"))
    assert found.data["corpus"] == "other"
    assert found.name == "curve-other"  # beside that of its own text
    assert found.title.endswith("read on other")
    assert "was not trained on other" in found.text[0]
    own = curve(str(zoo("bigram")))
    assert own.name == "curve"
    assert not any("not trained on" in line for line in own.text)
    assert all(row["logged_val_nll"] is None for row in found.rows)
