"""Counting, against the definition written with dictionaries."""

import json
import math
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from lmzoo.models import ngram
from lmzoo.models.ngram import NGram
from lmzoo.testing import check_model
from tests.cli.runner import lmzoo

ORDERS = range(1, 7)
WORDS = ["the", "a", "cat", "dog", "fox", "sat", "ran", "over", "on", "mat", "hedge"]


class BruteForce:
    """The formula of the model's docstring, one dictionary per context length."""

    def __init__(self, text: list[int], order: int, vocab_size: int) -> None:
        self.order, self.vocab_size = order, vocab_size
        self.after: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for place, token in enumerate(text):
            for length in range(min(order, place + 1)):
                self.after[tuple(text[place - length : place])][token] += 1

    def probability(self, history: list[int], token: int) -> float:
        """p(token | history), from the shortest context to the longest."""
        p = 1 / self.vocab_size
        for length in range(min(self.order, len(history) + 1)):
            counts = self.after.get(tuple(history[len(history) - length :]))
            if not counts:
                break
            total, types = sum(counts.values()), len(counts)
            p = (counts[token] + types * p) / (total + types)
        return p


def random_text(length: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, length)


def sentences(count: int = 60, seed: int = 0) -> np.ndarray:
    """Text with the repetitions of language, 27 symbols."""
    picks = np.random.default_rng(seed).choice(WORDS, count)
    letters = " ".join(picks)
    return np.array([0 if letter == " " else ord(letter) - 96 for letter in letters])


def counted(text: np.ndarray, order: int, vocab_size: int) -> NGram:
    model = NGram(vocab_size, 16, order=order)
    model.count(text)
    return model


TEXTS = {
    "random": (random_text(300, 7), random_text(80, 7, seed=1), 7),
    "unseen": (random_text(200, 5), random_text(80, 9, seed=1), 9),
    "language": (sentences(), sentences(20, seed=1), 27),
    "one symbol": (np.zeros(50, np.int64), random_text(20, 2), 2),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", TEXTS)
def test_it_equals_the_definition(name: str, order: int) -> None:
    train, held_out, size = TEXTS[name]
    model, truth = (
        counted(train, order, size),
        BruteForce(train.tolist(), order, size),
    )

    text = torch.from_numpy(held_out)[None]
    given = model.target_log_probs(text[:, :-1], text[:, 1:])[0].tolist()

    history = held_out.tolist()
    expected = [
        math.log(truth.probability(history[: place + 1], history[place + 1]))
        for place in range(len(history) - 1)
    ]
    assert given == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_the_dense_rows_are_distributions_and_hold_the_targets(order: int) -> None:
    model = counted(sentences(), order, 27)
    text = torch.from_numpy(sentences(40, seed=2)[:120]).view(4, 30)
    tokens, targets = text[:, :-1], text[:, 1:]

    rows = model(tokens)  # (B, T, V)

    assert rows.shape == (4, 29, 27)
    torch.testing.assert_close(rows.exp().sum(-1), torch.ones(4, 29), atol=1e-5, rtol=0)
    picked = rows.gather(-1, targets[..., None])[..., 0]
    alone = model.target_log_probs(tokens, targets)
    torch.testing.assert_close(picked.double(), alone, atol=1e-5, rtol=0)


def test_the_loss_of_the_base_reads_the_rows_as_they_are() -> None:
    """Log-probabilities are logits whose normaliser is 1."""
    model = counted(sentences(), 3, 27)
    text = torch.from_numpy(sentences(10, seed=3))[None]
    tokens, targets = text[:, :-1], text[:, 1:]
    expected = -model.target_log_probs(tokens, targets)
    given = model.nll(model(tokens), targets)
    torch.testing.assert_close(given.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", ORDERS)
def test_sums_over_all_targets_are_one_in_float64(order: int) -> None:
    train, held_out, size = TEXTS["random"]
    model = counted(train, order, size)
    tokens = torch.from_numpy(held_out)[None]
    each = [
        model.target_log_probs(tokens, torch.full_like(tokens, token)).exp()
        for token in range(size)
    ]
    total = torch.stack(each).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


def test_before_counting_it_is_uniform() -> None:
    model = NGram(8, order=3)
    tokens = torch.arange(6)[None]
    expected = torch.full((1, 6), -math.log(8), dtype=torch.float64)
    torch.testing.assert_close(model.target_log_probs(tokens, tokens), expected)
    torch.testing.assert_close(model(tokens)[..., 0], expected.float())


def test_counting_again_starts_anew() -> None:
    once, twice = counted(sentences(), 4, 27), counted(random_text(500, 27), 4, 27)
    twice.count(sentences())
    assert_same_tables(once, twice)
    assert once.arguments["table_sizes"] == twice.arguments["table_sizes"]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32])
def test_the_dtype_of_the_store_does_not_matter(dtype: type) -> None:
    wide = counted(random_text(400, 300), 5, 300)
    assert_same_tables(wide, counted(random_text(400, 300).astype(dtype), 5, 300))


def assert_same_tables(one: NGram, other: NGram) -> None:
    left, right = dict(one.named_buffers()), dict(other.named_buffers())
    assert left.keys() == right.keys()
    for name, table in left.items():
        assert torch.equal(table, right[name]), name


def test_its_arguments_rebuild_the_tables_of_a_checkpoint() -> None:
    model = counted(sentences(), 5, 27)
    stored = json.loads(json.dumps(model.arguments))  # JSON-plain
    assert stored["table_sizes"][0][0] == 1  # the empty context
    assert model.hparams["table_sizes"] == stored["table_sizes"]

    other = NGram(**stored)
    other.load_state_dict(model.state_dict())

    assert_same_tables(model, other)
    text = torch.from_numpy(sentences(20, seed=4))[None]
    assert torch.equal(model(text), other(text))


def test_successors_are_the_counts() -> None:
    model = counted(np.array([0, 1, 0, 1, 0, 2]), 3, 4)
    assert model.successors([]) == {0: 3, 1: 2, 2: 1}
    assert model.successors([0]) == {1: 2, 2: 1}
    assert model.successors([1, 0]) == {1: 1, 2: 1}
    assert model.successors([2]) == {}  # the last token has no successor
    assert model.successors([3, 0]) == {}
    with pytest.raises(ValueError, match="expected at most 2 tokens, given 3"):
        model.successors([0, 1, 0])


# ---- large vocabularies -------------------------------------------------------------


@pytest.mark.parametrize("bound", [0, 5, 100])
def test_sorting_and_counting_give_the_same_tables(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = counted(sentences(), 6, 27)
    monkeypatch.setattr(ngram, "DIRECT", bound)
    assert_same_tables(direct, counted(sentences(), 6, 27))


@pytest.mark.parametrize("bound", [0, 100])
def test_distinct_values_and_their_numbers_either_way(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram, "DIRECT", bound)
    monkeypatch.setattr(ngram, "BLOCK", 7)
    values = random_text(200, 60)
    found, counts = ngram._distinct(values, 60)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == Counter(
        values.tolist()
    )
    ranks = values.copy()
    assert ngram._number(ranks, 60).tolist() == found.tolist() == sorted(set(found))
    assert found[ranks].tolist() == values.tolist()


def test_counting_takes_two_numbers_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the text and the tables, however many levels are counted."""

    def taken() -> float:
        tracemalloc.start()
        try:
            counted(text, 5, 4)
            return tracemalloc.get_traced_memory()[1] / (8 * len(text))
        finally:
            tracemalloc.stop()

    text = random_text(200_000, 4).astype(np.uint16)
    monkeypatch.setattr(ngram, "BLOCK", 1000)
    assert taken() < 2.2
    monkeypatch.setattr(ngram, "DIRECT", 0)
    assert taken() > 3  # the control: sorting, which numbers every token anew


def test_a_vocabulary_of_fifty_thousand() -> None:
    size, order = 50_257, 3
    text = random_text(3_000, size) // 500 * 500  # with repetitions
    model, truth = counted(text, order, size), BruteForce(text.tolist(), order, size)
    held_out = [*text[:60].tolist(), 50_256]
    tokens = torch.tensor(held_out)[None]
    given = model.target_log_probs(tokens[:, :-1], tokens[:, 1:])[0].tolist()
    expected = [
        math.log(truth.probability(held_out[: n + 1], held_out[n + 1]))
        for n in range(len(held_out) - 1)
    ]
    assert given == pytest.approx(expected, abs=1e-9)


# ---- the contract -------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 7, -1])
def test_an_order_out_of_range(order: int) -> None:
    with pytest.raises(ValueError, match=f"order must be 1 to 6, given {order}"):
        NGram(8, order=order)


def test_sizes_of_another_order() -> None:
    with pytest.raises(ValueError, match="table_sizes must have 3 levels, given 1"):
        NGram(8, order=3, table_sizes=[[1, 8]])


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_text_shorter_than_the_order(length: int) -> None:
    text = random_text(length, 5)
    model, truth = counted(text, 6, 5), BruteForce(text.tolist(), 6, 5)
    tokens = torch.from_numpy(text)[None]
    given = float(model.target_log_probs(tokens, torch.zeros_like(tokens))[0, -1])
    assert given == pytest.approx(math.log(truth.probability(text.tolist(), 0)))


@pytest.mark.parametrize("order", ORDERS)
def test_a_prediction_sees_order_minus_one_tokens(order: int) -> None:
    model = counted(random_text(400, 3), order, 3)
    assert model.window == max(1, order - 1)
    tokens = torch.from_numpy(random_text(40, 3, seed=5))[None]
    tail = tokens[:, -model.window :]
    torch.testing.assert_close(model(tokens)[:, -1], model(tail)[:, -1])


def test_the_check() -> None:
    report = check_model("ngram")
    assert report.ok, str(report)


def test_one_step_counts_the_training_text(tmp_path: Path, story: Path) -> None:
    folder = tmp_path / "run"
    result = lmzoo(
        f"fit --model ngram --data.path {story} --samples.length 8 "
        f"--trainer.default_root_dir {folder}"
    )
    assert result.code == 0, result.err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 1
    assert summary["counting"] is True
    best, floors = summary["best"]["metrics"], summary["floors"]
    for name in ("nll", "perplexity", "bits_per_char"):
        assert best[name] == pytest.approx(floors["5-gram"][name], rel=1e-4)
    again = lmzoo(f"validate --ckpt_path {folder}")  # the tables are in the checkpoint
    assert again.code == 0, again.err
    assert f"{best['bits_per_char']:.3f}" in again.out


@pytest.mark.parametrize("order", ORDERS)
def test_a_text_shorter_than_the_order_is_read_too(order: int) -> None:
    model = NGram(5, order=order)
    model.count(np.array([0, 1, 2, 3, 4, 0, 1, 2, 4, 4, 3] * 3))
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]])
    whole = model(tokens)
    for length in range(1, tokens.shape[1]):
        assert torch.allclose(model(tokens[:, :length]), whole[:, :length])
