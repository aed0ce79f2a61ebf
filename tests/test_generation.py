"""The decoding loop over the whole zoo, the filters, and text in and text out."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.generation import (
    Decoder,
    continue_text,
    filter_logits,
    generate,
    generate_texts,
    penalise,
)
from lmzoo.models.base import LanguageModel
from lmzoo.models.gpt import GPT
from lmzoo.registry import models
from lmzoo.text.symbols import ByteTokenizer, CharTokenizer, WordTokenizer
from lmzoo.text.tokenizers import Tokenizer, read_tokenizer_file, train_tokenizer
from tests.plugin_example.lmzoo_neighbour import Neighbour
from tests.zoo import BUILTINS

VOCABULARY, CONTEXT = 11, 8
# a cache says nothing about a model that sees the future
ZOO = [n for n in sorted(BUILTINS) if models.load(n).exhibit != "causality"]


class Forgets(GPT):
    """A control: its state loses what came before the newest tokens."""

    def advance(self, tokens, state=None):
        return super().advance(tokens, None)


def member(name: str, vocab_size: int = VOCABULARY) -> LanguageModel:
    """A small member, its weights large enough that its logits differ."""
    own = {"neighbour": Neighbour, "forgets": Forgets}
    cls = own.get(name) or models.load(name)
    torch.manual_seed(0)
    net = cls(vocab_size=vocab_size, context_length=CONTEXT)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2) if parameter.ndim > 1 else None
    if net.counting:
        text = np.random.default_rng(0).integers(0, vocab_size, 400)
        net.count(text)  # type: ignore[operator]
    return net.eval()


def model() -> GPT:
    torch.manual_seed(0)
    return GPT(VOCABULARY, CONTEXT, d_model=16, num_layers=2, num_heads=2)


def made(net: LanguageModel, prompt: Tensor, count: int = 20, **options) -> Tensor:
    """``count`` new tokens of each row, (B, count)."""
    stream = generate(net, prompt, **options)
    return torch.stack(list(itertools.islice(stream, count)), dim=1)


# ---- every member of the zoo ---------------------------------------------------------


@pytest.mark.parametrize("name", [*ZOO, "neighbour"])
@pytest.mark.parametrize("length", [3, 30])
def test_same_seed_same_text_with_cache_or_not_alone_or_in_a_batch(
    name: str, length: int
) -> None:
    net = member(name)
    prompt = torch.randint(VOCABULARY, (1, length))
    five = made(net, prompt.expand(5, -1), seed=7)
    assert torch.equal(five, made(net, prompt.expand(5, -1), seed=7))
    assert torch.equal(five, made(net, prompt.expand(5, -1), seed=7, cache=False))
    for i in range(5):
        assert torch.equal(five[i : i + 1], made(net, prompt, seed=7 + i))
    assert len({tuple(row) for row in five.tolist()}) > 1


def largest_difference(net: LanguageModel, length: int = 40) -> float:
    """Between cached logits and those of the window alone, at every length."""
    tokens = torch.randint(VOCABULARY, (3, length))
    state, worst = None, 0.0
    with torch.no_grad():
        for n in range(1, length + 1):
            given, state = net.step(tokens[:, n - 1 : n], state)
            start = 0 if net.unbounded else net.window_start(n)
            expected = net(tokens[:, start:n])[:, -1]
            worst = max(worst, float((given - expected).abs().max()))
    return worst


@pytest.mark.parametrize("name", [*ZOO, "neighbour"])
def test_cached_logits_are_the_uncached_ones_past_the_edge(name: str) -> None:
    assert largest_difference(member(name)) < 1e-5


def test_a_cache_that_loses_the_past_is_found() -> None:
    assert largest_difference(member("forgets")) > 1e-2
    prompt = torch.randint(VOCABULARY, (1, 3))
    net = member("forgets")
    assert not torch.equal(made(net, prompt), made(net, prompt, cache=False))


# ---- the loop ------------------------------------------------------------------------


def test_another_seed_gives_another_text() -> None:
    prompt = torch.tensor([[1, 2, 3]])
    assert not torch.equal(made(model(), prompt, seed=1), made(model(), prompt, seed=2))


def test_temperature_zero_takes_the_likeliest_at_every_step() -> None:
    net, seen = model().eval(), [1, 2, 3]
    produced = made(net, torch.tensor([seen]), count=12, temperature=0)[0].tolist()
    for token in produced:
        window = torch.tensor([seen[net.window_start(len(seen)) :]])
        assert int(net(window)[0, -1].argmax()) == token
        seen.append(token)


def test_the_smallest_temperature_is_greedy() -> None:
    prompt = torch.tensor([[1, 2, 3]])
    greedy = made(model(), prompt, temperature=0)
    assert torch.equal(greedy, made(model(), prompt, temperature=5e-324))


def test_the_global_generator_is_not_touched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    net, prompt = model(), torch.tensor([[1]])
    torch.manual_seed(5)
    list(itertools.islice(generate(net, prompt), 5))
    assert torch.equal(torch.rand(3), expected)


def test_training_mode_is_given_back() -> None:
    net = model().train()
    stream = generate(net, torch.tensor([[1]]))
    next(stream)
    assert not net.training
    stream.close()
    assert net.training


def test_a_long_prompt_is_read_in_chunks_by_a_model_without_a_limit() -> None:
    net = member("lstm")
    prompt = torch.randint(VOCABULARY, (2, 2500))
    assert torch.equal(made(net, prompt, 3), made(net, prompt, 3, cache=False))


def test_banned_tokens_are_never_made() -> None:
    net, prompt = model(), torch.tensor([[4]]).expand(200, 1)
    assert (made(net, prompt, 5) == 3).any()
    assert not (made(net, prompt, 5, banned=[3]) == 3).any()
    assert not (made(net, prompt, 5, banned=[3, 10], top_k=2) == 10).any()


def test_broken_weights_are_named() -> None:
    net = model()
    net.norm.weight.data.fill_(torch.nan)
    with pytest.raises(UsageError, match="not finite"):
        next(generate(net, torch.tensor([[1]])))


def test_ids_without_a_token_are_never_made_and_missing_ones_refused() -> None:
    net = member("gpt")
    (text,) = generate_texts(net, CharTokenizer("abc"), "a", temperature=5.0)
    assert set(text) == set("abc")
    with pytest.raises(UsageError, match="the tokenizer has 12 tokens, the model only"):
        continue_text(net, CharTokenizer("abcdefghijk"), "a")


# ---- filters, penalty, frequencies ---------------------------------------------------


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log()

    def kept(**options) -> list[bool]:
        return filter_logits(logits, **options).isfinite().tolist()[0]

    assert kept(top_k=2) == [False, True, True, False]
    assert kept(top_p=0.6) == [False, True, True, False]
    assert kept(top_p=0.3) == [False, True, False, False]
    assert kept(top_k=3, top_p=0.99) == [False, True, True, True]
    assert torch.equal(filter_logits(logits), logits)
    assert torch.equal(filter_logits(logits, top_k=4), logits)


def test_of_equal_logits_top_k_keeps_k() -> None:
    assert filter_logits(torch.zeros(2, 9), top_k=4).isfinite().sum() == 8


def test_the_penalty_lowers_what_was_seen_and_nothing_else() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.5]])
    seen = torch.tensor([[True, True, False, False]])
    assert penalise(logits, seen, 2.0).tolist() == [[1.0, -4.0, 1.0, 0.5]]
    assert torch.equal(penalise(logits, seen, 1.0), logits)


def test_a_large_penalty_repeats_nothing() -> None:
    prompt = torch.tensor([[1, 2, 3]])
    plain = made(model(), prompt, 8, temperature=0)[0].tolist()
    hard = made(model(), prompt, 8, temperature=0, repetition_penalty=1e9)
    new = hard[0].tolist()
    assert len(set(plain)) < 8
    assert len(set(new[:3])) == 3
    assert not set(new[:3]) & {1, 2, 3}
    assert torch.equal(
        hard,
        made(model(), prompt, 8, temperature=0, repetition_penalty=1e9, cache=False),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 4},
        {"top_p": 0.7},
    ],
)
def test_sampling_follows_the_distribution(options: dict) -> None:
    net, draws = member("gpt"), 8_000
    with torch.no_grad():
        logits = net(torch.tensor([[4]]))[:, -1].double()
    kept = filter_logits(
        logits / options.get("temperature", 1.0),
        options.get("top_k", 0),
        options.get("top_p", 1.0),
    )
    expected = draws * kept.softmax(-1)[0]
    prompt = torch.tensor([[4]]).expand(draws, 1)
    drawn = next(generate(net, prompt, seed=3, **options))
    counts = torch.bincount(drawn, minlength=VOCABULARY)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert chi_square(counts[possible], expected[possible]) < 29.6  # 10 df, p 0.001
    if not options:  # a control: another temperature is another distribution
        other = draws * (logits * 1.3).softmax(-1)[0]
        assert chi_square(counts, other) > 29.6


def test_one_sample_over_time_follows_the_distribution() -> None:
    net, draws = member("bare"), 8_000
    tokens = torch.cat([torch.tensor([[4]]), made(net, torch.tensor([[4]]), draws)], 1)
    before, after = tokens[0, :-1], tokens[0, 1:]
    with torch.no_grad():
        each = net(torch.arange(VOCABULARY)[:, None])[:, 0].softmax(-1)
    for token in range(VOCABULARY):
        counts = torch.bincount(after[before == token], minlength=VOCABULARY)
        assert chi_square(counts, counts.sum() * each[token]) < 35.6  # p 0.0001


def chi_square(counts: Tensor, expected: Tensor) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"temperature": float("inf")}, "temperature must be 0"),
        ({"top_k": -1}, "top_k must be 0"),
        ({"top_k": VOCABULARY + 1}, "the size of the vocabulary, given 12"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"top_p": 1.1}, "top_p must be above 0"),
        ({"top_p": float("nan")}, "top_p must be above 0"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty must be above 0"),
        ({"seed": -1}, "seed must be 0"),
        ({"num_samples": 0}, "num_samples must be 1"),
        ({"max_new_tokens": -1}, "max_new_tokens must be 0"),
        ({"max_new_tokens": 10**9}, "max_new_tokens must be 0"),
        ({"stop": ""}, "a stop string must have a character"),
        ({"stop": ["a", ""]}, "a stop string must have a character"),
    ],
)
def test_ranges_are_checked_before_anything_is_made(options: dict, part: str) -> None:
    tokenizer = CharTokenizer("abcdefghij")
    with pytest.raises(UsageError, match=part):
        continue_text(model(), tokenizer, "a", **options)


def test_an_empty_prompt_of_ids_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt"):
        next(generate(model(), torch.zeros(1, 0, dtype=torch.long)))


# ---- text ----------------------------------------------------------------------------


class Recites(LanguageModel):
    """Says its tokens again and again, whatever it is given."""

    def __init__(self, vocab_size: int, context_length: int = 99) -> None:
        super().__init__()
        self.script: list[int] = []

    def advance(self, tokens, state=None):
        place = 0 if state is None else state
        logits = torch.zeros(*tokens.shape, self.vocab_size)
        logits[..., self.script[place % len(self.script)]] = 50.0
        return logits, place + 1


def reciting(tokenizer: Tokenizer, tokens: list[int]) -> Recites:
    net = Recites(tokenizer.vocab_size)
    net.script = tokens
    return net


LETTERS = CharTokenizer("abcdefghij \n")


def recited(text: str, **options) -> SimpleNamespace:
    net = reciting(LETTERS, LETTERS.encode(text).tolist())
    made = continue_text(net, LETTERS, "a", **options)
    pieces = [piece for _, piece in made]
    sample = made.samples[0]
    assert "".join(pieces) == sample.text
    return SimpleNamespace(pieces=pieces, **vars(sample))


def test_pieces_come_token_by_token() -> None:
    made = recited("abc", max_new_tokens=5)
    assert made.pieces == ["a", "b", "c", "a", "b"]
    assert (made.ended, len(made.tokens)) == ("length", 5)


@pytest.mark.parametrize(
    ("stop", "text", "ended"),
    [
        ("d", "abc", "stop string"),
        ("cde", "ab", "stop string"),
        (["ef", "de"], "abc", "stop string"),
        ("a", "", "stop string"),
        ("fab", "abcde", "stop string"),
        ("cdx", "abcdefab", "length"),
        ("never", "abcdefab", "length"),
        ("fabc", "abcdefab", "length"),  # its beginning is given back at the end
    ],
)
def test_a_stop_string_ends_the_text_before_it(stop, text: str, ended: str) -> None:
    made = recited("abcdef", stop=stop, max_new_tokens=8)
    assert (made.text, made.ended) == (text, ended)


def test_no_token_at_all_is_a_length() -> None:
    made = recited("abc", max_new_tokens=0)
    assert (made.pieces, made.text, made.ended) == ([], "", "length")


def test_the_end_of_a_document_ends_a_sample() -> None:
    tokenizer = CharTokenizer("abc", end_of_document=True)
    net = reciting(tokenizer, [0, 1, tokenizer.eod_id, 2])
    (sample,) = (made := continue_text(net, tokenizer, "c")).samples
    list(made)
    assert (sample.text, sample.ended, sample.tokens) == (
        "ab",
        "end of document",
        [0, 1],
    )
    assert made.prompt == [tokenizer.start_id, 2]


@pytest.mark.parametrize("name", ["gpt", "lstm", "ff", "ngram", "neighbour"])
def test_the_unknown_is_never_made_and_samples_are_what_they_are_alone(
    name: str,
) -> None:
    tokenizer = CharTokenizer("abcdefgh")
    net = member(name, tokenizer.vocab_size)
    several = generate_texts(net, tokenizer, "ab?", num_samples=5, seed=3)
    alone = [generate_texts(net, tokenizer, "ab?", seed=3 + i)[0] for i in range(5)]
    assert several == alone
    assert {len(text) for text in several} == {200}
    assert not any("\ufffd" in text for text in several)


def test_what_an_empty_prompt_starts_after() -> None:
    def start(tokenizer: Tokenizer) -> list[int]:
        net = reciting(tokenizer, [0])
        return continue_text(net, tokenizer, "").prompt

    ends = CharTokenizer("ab\n", end_of_document=True)
    assert start(ends) == [ends.eod_id]
    assert start(CharTokenizer("\nab")) == [0]
    assert start(CharTokenizer("\tab\n")) == [1]
    assert start(CharTokenizer("ab")) == [0]
    assert start(WordTokenizer(["one", "\n"])) == [1]
    assert start(ByteTokenizer()) == [10]


def test_notes_say_what_a_prompt_lost() -> None:
    net, tokenizer = model(), CharTokenizer("abcdefghij")
    assert continue_text(net, tokenizer, "abc").notes == []
    unknown, cropped = continue_text(net, tokenizer, "a?b!" * 5).notes
    assert "lacks, read as unknown: 10 (the first: '?')" in unknown
    assert "20 tokens; the model sees the last 8" in cropped
    unlimited = member("lstm")
    assert continue_text(unlimited, tokenizer, "ab" * 50).notes == []


def test_a_prompt_longer_than_the_context_is_continued_from_its_end() -> None:
    net, tokenizer = model(), CharTokenizer("abcdefghij")
    whole, end = "jihgfedc" * 8 + "abcdefgh", "abcdefgh"
    assert generate_texts(net, tokenizer, whole) == generate_texts(net, tokenizer, end)


# ---- whole characters ----------------------------------------------------------------

FOREIGN = "naïve Ω日本 👩‍🚀 z\u0301\n"


def subword() -> Tokenizer:
    return train_tokenizer("bpe", ["plain text only, to split the rest"], size=260)


def words() -> Tokenizer:
    return WordTokenizer.train([FOREIGN])


@pytest.fixture(params=[ByteTokenizer, subword, words, lambda: CharTokenizer(FOREIGN)])
def tokenizer(request: pytest.FixtureRequest) -> Iterator[Tokenizer]:
    return request.param()


def test_no_piece_is_half_a_character(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(FOREIGN).tolist()
    decoder = Decoder(tokenizer, tokenizer.encode("na").tolist())
    pieces = [decoder.feed(token) for token in ids]
    assert "".join(pieces) == FOREIGN
    assert not any("\ufffd" in piece for piece in pieces)
    assert decoder.flush() == ""
    if isinstance(tokenizer, ByteTokenizer):  # a control: token by token it is broken
        assert any("\ufffd" in tokenizer.decode([token]) for token in ids)


CORPORA = os.environ.get("LMZOO_CORPORA") or Path(__file__).parents[2] / "shared/data"
STORIES = Path(CORPORA) / "stories260k" / "tokenizer.json"


@pytest.mark.skipif(not STORIES.is_file(), reason="stories260k is not on this machine")
@pytest.mark.parametrize(("prompt", "text"), [("", "Once upon"), ("Hi.", " Once upon")])
def test_the_space_before_a_word_is_kept_except_at_the_start(prompt, text) -> None:
    tokenizer = read_tokenizer_file(str(STORIES))
    ids = tokenizer.encode("Once upon").tolist()
    net = reciting(tokenizer, ids)
    assert generate_texts(net, tokenizer, prompt, max_new_tokens=len(ids)) == [text]


def test_an_incomplete_character_is_shown_as_such_at_the_end() -> None:
    net = reciting(ByteTokenizer(), [0x61, 0xE2, 0x82])
    (text,) = generate_texts(net, ByteTokenizer(), "a", max_new_tokens=3)
    assert text == "a\ufffd"


def test_random_bytes_join_to_the_text_of_all() -> None:
    tokenizer = ByteTokenizer()
    for seed in range(20):
        ids = np.random.default_rng(seed).integers(0, 256, 300).tolist()
        decoder = Decoder(tokenizer)
        text = "".join(map(decoder.feed, ids)) + decoder.flush()
        assert text == tokenizer.decode(ids)
