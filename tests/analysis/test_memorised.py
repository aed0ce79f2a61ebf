"""A model that has one text by heart, and texts that it has never seen."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lmzoo
from lmzoo.analysis.memorised import (
    memorised,
    memorised_by,
    training_text,
    wilson,
)
from lmzoo.errors import UsageError
from lmzoo.models.gpt import GPT
from lmzoo.models.ngram import NGram
from lmzoo.text.symbols import CharTokenizer
from tests.cli.runner import fit

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORT = {"prompt_tokens": 8, "continuation_tokens": 12, "num_prompts": 40}


def random_text(length: int, seed: int) -> str:
    codes = np.random.default_rng(seed).integers(97, 123, length, dtype=np.uint8)
    return codes.tobytes().decode()


TEXT, UNSEEN = random_text(3000, 1), random_text(3000, 2)


@pytest.fixture(scope="module")
def counted() -> tuple[NGram, CharTokenizer]:
    """An n-gram of order 6 knows every five letters' successor."""
    tokenizer = CharTokenizer(LETTERS)
    model = NGram(tokenizer.vocab_size, order=6)
    model.count(tokenizer.encode(TEXT))
    return model, tokenizer


def test_a_model_knows_by_heart_what_it_counted_and_nothing_else(counted) -> None:
    model, tokenizer = counted
    found = memorised(model, tokenizer, TEXT, UNSEEN, **SHORT)
    assert found.train.prompts == 40
    assert found.train.rate == 1.0
    assert found.train.mean_matched == 12
    assert found.train.low == pytest.approx(0.912, abs=1e-3)
    assert found.held_out is not None
    assert found.held_out.exact == 0
    assert found.held_out.mean_matched < 1
    assert found.held_out.high < found.train.low


def test_an_overfitted_gpt_too() -> None:
    torch.manual_seed(0)
    tokenizer = CharTokenizer(LETTERS)
    model = GPT(tokenizer.vocab_size, context_length=20, d_model=48, num_layers=1)
    ids = torch.from_numpy(tokenizer.encode(TEXT[:120])).long()
    windows = ids.unfold(0, 20, 1)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(120):
        logits = model(windows[:, :-1])
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), windows[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = memorised(model, tokenizer, TEXT[:120], UNSEEN, **SHORT)
    assert found.train.rate > 0.9
    assert found.held_out is not None
    assert found.held_out.exact == 0


def test_the_seed_decides_the_prompts(counted) -> None:
    model, tokenizer = counted
    half = TEXT[:1500] + UNSEEN[:1500]
    one, same, other = (
        memorised(model, tokenizer, half, seed=seed, **SHORT) for seed in (1, 1, 2)
    )
    assert one == same
    assert one.train != other.train
    assert 0.2 < one.train.rate < 0.8
    ids = memorised(model, tokenizer, tokenizer.encode(half), seed=1, **SHORT)
    assert ids == one


def test_a_short_text_gives_fewer_prompts(counted) -> None:
    model, tokenizer = counted
    found = memorised(model, tokenizer, TEXT[:24], "too short", **SHORT)
    assert found.train.prompts == 5
    assert found.held_out is None
    assert "no control" in str(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prompts": 0}, "num_prompts 0: give 1 or more"),
        ({"prompt_tokens": 0}, "prompt_tokens 0: give 1 or more"),
        ({"continuation_tokens": -1}, "continuation_tokens -1: give 1 or more"),
        ({"prompt_tokens": 2990, "continuation_tokens": 11}, "fewer tokens than"),
    ],
)
def test_bad_numbers_are_refused(counted, options, message) -> None:
    with pytest.raises(UsageError, match=message):
        memorised(*counted, TEXT, **options)


def test_the_table_and_the_json_say_the_same(counted) -> None:
    found = memorised(*counted, TEXT, UNSEEN, source="letters", **SHORT)
    plain = found.plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["train"]["rate"] == 1.0
    text = str(found)
    assert "40 of 40" in text
    assert "91.2% to 100.0%" in text
    assert text.endswith("text: letters")


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_that_of_the_literature(successes, trials, low, high) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


# ---- the text of a run ---------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "t.txt").write_text(TEXT)
    fit(
        f"--data.path {tmp_path / 't.txt'} --trainer.max_steps 2 "
        f"--trainer.default_root_dir {tmp_path / 'run'}"
    )
    return tmp_path / "run"


def test_the_text_of_a_run_is_found_again(run: Path, tmp_path: Path) -> None:
    loaded, text = lmzoo.load(run), tmp_path / "t.txt"
    found = training_text(loaded)
    assert loaded.tokenizer.decode(found.train) == TEXT[:2700]
    assert loaded.tokenizer.decode(found.held_out) == TEXT[2700:2850]
    probed = memorised_by(loaded, prompt_tokens=4, continuation_tokens=4)
    assert probed.source == "t"
    assert probed.train.prompts == 100
    assert probed.held_out is not None

    moved = text.rename(tmp_path / "moved.txt")
    with pytest.raises(
        UsageError, match=r"not found: .*no such file.*--probe_text FILE"
    ):
        training_text(loaded)
    again = training_text(loaded, str(moved))
    assert np.array_equal(again.train, found.train)
    assert again.name == "moved"

    text.write_text(UNSEEN)
    with pytest.raises(UsageError, match="changed since"):
        training_text(loaded)
    other = training_text(loaded, str(text))
    assert loaded.tokenizer.decode(other.train) == UNSEEN
    assert other.name == "t, which is not the text of the run"
    assert memorised_by(loaded, str(text)).held_out is None
    with pytest.raises(UsageError, match="no such file"):
        training_text(loaded, str(tmp_path / "nothing"))


def test_a_run_on_something_else_has_no_prefixes(run: Path) -> None:
    loaded = lmzoo.load(run)
    loaded.stored["data"]["name"] = "labelled"
    with pytest.raises(UsageError, match="only a run on text"):
        training_text(loaded)
    loaded.stored.update(data={"name": "text", "arguments": {"class_path": "os"}})
    with pytest.raises(UsageError, match="could name code"):
        training_text(loaded)
