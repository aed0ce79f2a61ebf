"""The floors: ordered, cached, and the very numbers that the model itself reaches."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lmzoo.models.ngram import NGram
from lmzoo.text.datamodule import TextDataModule
from lmzoo.text.preparation import Prepared
from lmzoo.training import floors as module
from lmzoo.training.floors import floors
from tests.training.tiny import trainer

COUNTED = ("uniform", "unigram", "trigram", "5-gram")
COMPRESSORS = ("bz2", "xz")
WORDS = ["the", "a", "café", "cat", "dog", "fox", "ran", "over", "on", "mat", "hedge"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LMZOO_CACHE", str(folder))
    return folder


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    """Random words, some accents: more to say per character than ``story``."""
    picks = np.random.default_rng(0).choice(WORDS, (400, 6))
    path = tmp_path / "varied.txt"
    path.write_text("".join(" ".join(row) + ".\n" for row in picks), encoding="utf-8")
    return path


def data(path: Path, **options) -> TextDataModule:
    return TextDataModule(path=str(path), context_length=16, batch_size=4, **options)


def test_a_longer_context_is_a_lower_floor(varied: Path) -> None:
    rows = floors(data(varied))

    assert set(rows) == {*COUNTED, *COMPRESSORS}
    values = [rows[name]["nll"] for name in ("uniform", "unigram", "trigram")]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 3
    assert rows["5-gram"]["nll"] < rows["trigram"]["nll"]


def test_every_figure_is_a_plain_finite_number(varied: Path) -> None:
    rows = floors(data(varied))

    for name in COUNTED:
        assert set(rows[name]) == {
            "nll",
            "perplexity",
            "bits_per_char",
            "bits_per_byte",
        }
    for name in COMPRESSORS:
        assert set(rows[name]) == {"bits_per_char", "bits_per_byte"}
    for row in rows.values():
        for value in row.values():
            assert type(value) is float
            assert math.isfinite(value)
            assert value > 0
        assert row["bits_per_byte"] < row["bits_per_char"]  # é is one, or two
    assert json.loads(json.dumps(rows)) == rows


def test_the_units_belong_together(story: Path) -> None:
    part = data(story)
    rows = floors(part)

    assert rows["uniform"]["nll"] == pytest.approx(math.log(part.vocab_size))
    for name in COUNTED:
        row = rows[name]
        assert row["perplexity"] == pytest.approx(math.exp(row["nll"]))
        assert row["bits_per_char"] == pytest.approx(row["nll"] / math.log(2))


def test_the_unigram_floor_by_hand(story: Path) -> None:
    part = data(story)
    train, held_out = np.asarray(part.train_tokens), np.asarray(part.val_tokens)
    counts = np.bincount(train, minlength=part.vocab_size)
    types = np.count_nonzero(counts)
    p = (counts + types / part.vocab_size) / (len(train) + types)
    expected = -np.log(p[held_out[1:]]).mean()

    assert floors(part)["unigram"]["nll"] == pytest.approx(expected, abs=1e-9)


def test_a_second_call_reads_the_cache(
    varied: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = floors(data(varied))
    (file,) = cache.glob("*.floors.json")

    def refuse(*_: object) -> None:
        raise AssertionError("counted again")

    monkeypatch.setattr(module, "_counted", refuse)
    monkeypatch.setattr(module, "_compressed", refuse)
    assert floors(data(varied)) == first
    assert json.loads(file.read_text()) == first
    with pytest.raises(AssertionError, match="counted again"):
        floors(data(varied, max_val_tokens=100))
    with pytest.raises(AssertionError, match="counted again"):
        floors(data(varied), "test")


def test_a_torn_cache_file_is_replaced(varied: Path, cache: Path) -> None:
    first = floors(data(varied))
    (file,) = cache.glob("*.floors.json")
    file.write_text('{"uniform": {"nl')
    assert floors(data(varied)) == first
    assert json.loads(file.read_text()) == first


@pytest.mark.parametrize("split", ["val", "test"])
def test_each_split_has_its_own(varied: Path, split: str) -> None:
    part = data(varied, val_fraction=0.1, test_fraction=0.2)
    text = torch.from_numpy(np.asarray(getattr(part, f"{split}_tokens")).astype(int))
    model = NGram(part.vocab_size, order=5)
    model.count(part.train_tokens)
    log_probs = model.target_log_probs(text[None, :-1], text[None, 1:])

    given = floors(part, split)["5-gram"]["nll"]

    assert given == pytest.approx(-float(log_probs.mean()), abs=1e-9)


def test_chunks_change_nothing(varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = data(varied)
    whole = module._counted(part, "val")
    for chunk in (1, 7, 100):
        monkeypatch.setattr(module, "CHUNK", chunk)
        cut = module._counted(part, "val")
        for name in COUNTED:
            assert cut[name]["nll"] == pytest.approx(whole[name]["nll"], abs=1e-9)


def test_a_capped_text_says_so(varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module._counted(data(varied), "val")
    assert not any("capped" in row for row in whole.values())
    for cap in ("COUNTED", "MEASURED"):
        with monkeypatch.context() as patch:
            patch.setattr(module, cap, 300)
            rows = module._counted(data(varied), "val")
        assert all(row["capped"] is True for row in rows.values())
        assert rows["5-gram"]["nll"] != whole["5-gram"]["nll"]


@pytest.mark.parametrize("cap", [1, 99, 300, 10**6])
def test_compressors_take_the_end_of_the_training_text_and_no_more(
    cap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(json.dumps({"text": "né " * n}) + "\n" for n in range(1, 60))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    part = data(tmp_path / "rows.jsonl")
    train, val = part.text("train"), part.text("val")
    monkeypatch.setattr(module, "COMPRESSED", cap)
    monkeypatch.setattr(Prepared, "text", None)  # a long one does not fit into memory

    assert module._last(part.prepared.stretches("train"))[0] == train[-cap:]
    assert module._first(part.prepared.stretches("val"))[0] == val[:cap]
    row = module._compressed(part, "val")["xz"]
    assert row.get("capped", False) == (cap < max(len(train), len(val)))


@pytest.mark.parametrize(("name", "order"), [("trigram", 3), ("5-gram", 5)])
def test_the_model_reaches_its_own_floor(
    varied: Path, tmp_path: Path, name: str, order: int
) -> None:
    """Windows of 16 with the overlap that the model asks for see the same contexts."""
    part = data(varied)
    model = NGram(part.vocab_size, 16, order=order)
    model.count(part.train_tokens)

    (row,) = trainer(tmp_path).validate(model, datamodule=part, verbose=False)

    expected = floors(part)[name]
    for figure in ("nll", "perplexity", "bits_per_char", "bits_per_byte"):
        assert row[f"val/{figure}"] == pytest.approx(expected[figure], rel=1e-5)


def test_compressors_measure_the_growth(story: Path, varied: Path) -> None:
    """A text that repeats the training part costs nearly nothing."""
    same, other = floors(data(story)), floors(data(varied))
    for name in COMPRESSORS:
        assert 0 <= same[name]["bits_per_char"] < 0.5
        assert 1 < other[name]["bits_per_char"] < 4
