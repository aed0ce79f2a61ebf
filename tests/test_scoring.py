"""Scores: against by hand, the validation pass, and transformers; every token once."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lmzoo.errors import UsageError
from lmzoo.metrics import LanguageModelMetrics
from lmzoo.models.base import LanguageModel
from lmzoo.models.feedforward import FeedForward
from lmzoo.models.gpt import GPT
from lmzoo.models.ngram import NGram
from lmzoo.models.recurrent import LSTM
from lmzoo.scoring import continuations, imported, next_tokens, score
from lmzoo.text.loader import EvalLoader
from lmzoo.text.symbols import ByteTokenizer, CharTokenizer, WordTokenizer
from lmzoo.text.tokenizers import read_tokenizer_file, train_tokenizer

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps.\n" * 3
SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
CHARS = CharTokenizer(TEXT)
ENDED = CharTokenizer(TEXT, end_of_document=True)


class Uniform(LanguageModel):
    """Knows nothing: every token costs ln V."""

    def __init__(self, vocab_size: int, context_length: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, tokens):
        return self.weight.expand(*tokens.shape, -1)


class Reach(Uniform):
    """Logit 0 is the place in the window: how much context a prediction had."""

    def forward(self, tokens):
        logits = torch.zeros(*tokens.shape, self.vocab_size)
        logits[..., 0] = torch.arange(tokens.shape[1], dtype=torch.float32)
        return logits


def gpt(tokenizer=CHARS, context: int = 16) -> GPT:
    torch.manual_seed(0)
    size = tokenizer.vocab_size
    return GPT(size, context, d_model=16, num_layers=2, num_heads=2, head_bias=True)


def lstm(tokenizer=CHARS) -> LSTM:
    torch.manual_seed(0)
    return LSTM(tokenizer.vocab_size, 16, d_model=8, d_hidden=12, num_layers=2)


def ngram(tokenizer=CHARS) -> NGram:
    model = NGram(tokenizer.vocab_size, 16, order=3)
    model.count(tokenizer.encode(TEXT))
    return model


def feedforward(tokenizer=CHARS) -> FeedForward:
    torch.manual_seed(0)
    return FeedForward(tokenizer.vocab_size, 16)


FAMILIES = [gpt, lstm, ngram, feedforward]


def validation(model: LanguageModel, ids: np.ndarray) -> LanguageModelMetrics:
    """The model's own full pass: fresh windows, as ``validate`` makes them."""
    metrics = LanguageModelMetrics()
    overlap = model.window - 1 if model.window else 0
    model.eval()
    with torch.inference_mode():
        for batch in EvalLoader(ids, model.context_length, 4, overlap=overlap):
            logits = model(batch.tokens)
            metrics.update(model.nll(logits, batch.targets), logits, batch.targets)
    return metrics


# ---- against what is known ---------------------------------------------------------


def test_a_uniform_model_by_hand() -> None:
    found = score(Uniform(CHARS.vocab_size), CHARS, "the dog").totals()
    v = CHARS.vocab_size

    assert found["tokens"] == found["characters"] == found["bytes"] == 6
    assert found["nats"] == pytest.approx(6 * math.log(v), abs=1e-6)
    assert found["bits"] == pytest.approx(6 * math.log2(v), abs=1e-6)
    assert found["perplexity"] == pytest.approx(v, rel=1e-6)
    assert found["bits_per_char"] == pytest.approx(math.log2(v), abs=1e-6)


@pytest.mark.parametrize("make", FAMILIES)
def test_one_window_equals_the_validation_pass(make) -> None:
    model, text = make(), TEXT[:17]
    metrics = validation(model, CHARS.encode(text))
    found = score(model, CHARS, text)

    assert found.tokens == metrics.counts()["tokens"] == 16
    assert found.nats == pytest.approx(float(metrics.nats), rel=1e-6)
    assert found.nats != pytest.approx(score(model, CHARS, text[::-1]).nats, rel=1e-5)


@pytest.mark.parametrize("make", [gpt, ngram, feedforward])
def test_a_stride_of_the_context_equals_the_validation_pass(make) -> None:
    model = make()
    metrics = validation(model, CHARS.encode(TEXT))

    found = score(model, CHARS, TEXT, stride=16)

    assert found.nats == pytest.approx(float(metrics.nats), rel=1e-6)


def test_an_unbounded_model_reads_the_text_in_one_stream() -> None:
    model, ids = lstm(), torch.from_numpy(CHARS.encode(TEXT)).long()
    with torch.inference_mode():
        logits = model.eval()(ids[None, :-1])
    whole = nn.functional.cross_entropy(logits[0].double(), ids[1:], reduction="sum")

    assert score(model, CHARS, TEXT).nats == pytest.approx(float(whole), rel=1e-6)


def test_ranks_and_top_k_are_those_of_the_logits() -> None:
    model, text = gpt(), TEXT[:17]
    found = score(model, CHARS, text, top_k=3)
    ids = torch.from_numpy(CHARS.encode(text)).long()
    with torch.inference_mode():
        logits = model(ids[None, :-1])[0]

    order = logits.argsort(-1, descending=True)
    ranks = [
        int((row == i).nonzero()) + 1 for row, i in zip(order, ids[1:], strict=True)
    ]
    assert found.rank is not None
    assert found.rank.tolist() == [0, *ranks]
    assert found.top is not None
    assert found.top[0][1:].tolist() == order[:, :3].tolist()
    assert np.allclose(found.top[1][1:, 0], logits.log_softmax(-1).amax(-1))


# ---- each token once ---------------------------------------------------------------


@pytest.mark.parametrize("stride", [None, 1, 3, 7, 8])
@pytest.mark.parametrize("length", [2, 8, 9, 10, 16, 17, 63, 64])
def test_every_token_is_scored_exactly_once(length: int, stride: int | None) -> None:
    model, text = Uniform(CHARS.vocab_size), TEXT[:length]
    for tokenizer in (CHARS, ENDED):
        model = Uniform(tokenizer.vocab_size)
        for many in (1, 30, 1 << 14):
            found = score(model, tokenizer, text, stride=stride, batch_tokens=many)
            first = int(tokenizer is CHARS)
            assert np.isnan(found.nll).sum() == found.first == first
            assert np.allclose(found.nll[first:], math.log(tokenizer.vocab_size))
            assert found.tokens == length - first


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_what_a_window_adds_has_the_context_that_is_promised(stride: int) -> None:
    model = Reach(CHARS.vocab_size, context_length=8)
    text = CHARS.known[0] * 60  # always token 0: its cost tells the place

    nll = score(model, CHARS, text, stride=stride).nll[1:]
    places = (math.log(CHARS.vocab_size - 1) - np.log(np.expm1(nll))).round()

    assert places[:8].tolist() == [*range(8)]
    assert places[8:].min() == 8 - stride
    assert places.max() == 7


@pytest.mark.parametrize("make", FAMILIES)
def test_the_sum_does_not_depend_on_the_batches(make) -> None:
    model = make()
    sums = [score(model, CHARS, TEXT, batch_tokens=n).nats for n in (1, 40, 1 << 14)]

    assert sums == pytest.approx([sums[0]] * 3, rel=1e-6)


@pytest.mark.parametrize("make", [ngram, feedforward, lstm])
def test_the_stride_changes_nothing_where_context_is_whole(make) -> None:
    model = make()
    sums = [score(model, CHARS, TEXT, stride=n).nats for n in (None, 1, 5, 16)]

    assert sums == pytest.approx([sums[0]] * 4, rel=1e-6)


def test_the_control_the_stride_changes_a_bounded_model() -> None:
    model = gpt()
    assert score(model, CHARS, TEXT, stride=1).nats != pytest.approx(
        score(model, CHARS, TEXT, stride=16).nats, rel=1e-5
    )


def test_training_mode_is_given_back_and_dropout_is_off() -> None:
    torch.manual_seed(0)
    model = GPT(CHARS.vocab_size, 16, d_model=16, num_layers=1, dropout=0.5).train()

    assert score(model, CHARS, TEXT).nats == score(model, CHARS, TEXT).nats
    assert model.training


# ---- the first token, unknown symbols, lengths ---------------------------------------


def test_a_text_starts_after_the_end_of_a_document_where_there_is_one() -> None:
    model = gpt(ENDED)
    with_start, without = (score(model, t, "the dog") for t in (ENDED, CHARS))

    assert (with_start.tokens, without.tokens) == (7, 6)
    assert with_start.first_rule == "predicted after <eod>"
    assert without.first_rule == "not scored: nothing stands before it"
    ids = torch.tensor([[ENDED.eod_id, *ENDED.encode("the dog").tolist()]])
    with torch.inference_mode():
        own = model(ids[:, :-1])[0].log_softmax(-1).gather(-1, ids[0, 1:, None])
    assert np.allclose(with_start.nll, -own[:, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "tokenizer",
    [
        CHARS,
        WordTokenizer([" quick", "the"]),
        ByteTokenizer(),
        ENDED,
        train_tokenizer("bpe", [TEXT], size=280),
    ],
    ids=["char", "word", "byte", "char-ended", "bpe"],
)
def test_the_true_lengths_add_up_to_the_text(tokenizer) -> None:
    text = "the quick fox, ça 日本 va.\n"
    found = score(Uniform(tokenizer.vocab_size), tokenizer, text)
    totals, first = found.totals(), found.pieces(1)[0] if found.first else ""

    assert "".join(found.pieces()) == text
    assert totals["characters"] == len(text) - len(first)
    assert totals["bytes"] == len(text.encode()) - len(first.encode())
    unknown = 0 if tokenizer.unk_id is None else tokenizer.encode(text)
    assert totals["unknown"] == np.sum(unknown == tokenizer.unk_id)


def test_equal_models_of_bytes_and_characters_agree_per_character() -> None:
    sizes = {"char": CharTokenizer(TEXT, True), "byte": ByteTokenizer(True)}
    found = {}
    for name, tokenizer in sizes.items():
        model = Uniform(tokenizer.vocab_size)
        with torch.no_grad():  # all mass on the characters that both know
            model.weight.fill_(-1e4)
            model.weight[torch.from_numpy(tokenizer.encode(TEXT)).long()] = 0
        found[name] = score(model, tokenizer, TEXT).totals()["bits_per_char"]

    assert found["char"] == pytest.approx(found["byte"], abs=1e-6)
    assert found["char"] == pytest.approx(math.log2(len(set(TEXT))), abs=1e-5)


# ---- what comes next ---------------------------------------------------------------


def test_next_tokens_are_the_likeliest_of_the_last_position() -> None:
    model, ids = gpt(), torch.from_numpy(CHARS.encode("the do")).long()
    with torch.inference_mode():
        expected = model.eval()(ids[None])[0, -1].softmax(-1).topk(4)

    found = next_tokens(model, CHARS, "the do", k=4)

    assert [one.id for one in found] == expected.indices.tolist()
    assert [one.token for one in found] == [CHARS.known[i] for i in expected.indices]
    shares = [one.probability for one in found]
    assert shares == pytest.approx(expected.values.tolist(), rel=1e-5)
    every = next_tokens(model, CHARS, "the do", k=10**6)
    assert sum(one.probability for one in every) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("make", FAMILIES)
def test_continuations_cost_what_the_text_costs_more(make) -> None:
    model, texts = make(), ["g", "dy", "or is"]
    found = continuations(model, CHARS, "the do", texts)

    before = score(model, CHARS, "the do").nats
    for text, one in zip(texts, found, strict=True):
        whole = score(model, CHARS, "the do" + text)
        assert one.nats == pytest.approx(whole.nats - before, rel=1e-5)
        assert one.tokens == len(text)
        bits = one.nats / math.log(2) / len(text)
        assert one.bits_per_char == pytest.approx(bits, rel=1e-6)
    assert sum(one.share for one in found) == pytest.approx(1, abs=1e-12)
    ratio = found[0].share / found[1].share
    assert math.log(ratio) == pytest.approx(found[1].nats - found[0].nats, rel=1e-6)


def test_a_token_across_the_boundary_is_scored_for_all() -> None:
    words = WordTokenizer(["the", " dog", " do", "es", " dot"])
    found = continuations(Uniform(words.vocab_size), words, "the do", ["g", "t", " do"])

    # "the| dog", "the| dot", "the| do| do": common is "the" alone
    assert [one.tokens for one in found] == [1, 1, 2]
    assert found[0].bits_per_char == pytest.approx(math.log2(words.vocab_size) / 4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: score(m, CHARS, ""), "0 tokens"),
        (lambda m: score(m, CHARS, "t"), "1 token,"),
        (lambda m: score(m, CHARS, "the", stride=0), "stride"),
        (lambda m: score(m, CHARS, "the", stride=99), "stride must be 1 to"),
        (lambda m: score(m, CHARS, "the", top_k=-1), "top_k"),
        (lambda m: next_tokens(m, CHARS, ""), "0 tokens"),
        (lambda m: next_tokens(m, CHARS, "t", 0), "k must be 1"),
        (lambda m: continuations(m, CHARS, "the", []), "given an empty one"),
        (lambda m: continuations(m, CHARS, "the", ["a", ""]), "given an empty one"),
        (lambda m: continuations(m, CHARS, "", ["a"]), "longer prompt"),
    ],
)
def test_mistakes_are_named(call, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call(Uniform(CHARS.vocab_size))


def test_an_output_that_is_not_a_number_is_refused() -> None:
    model = Uniform(CHARS.vocab_size)
    model.weight.data[0] = math.nan
    with pytest.raises(UsageError, match="not a number"):
        score(model, CHARS, "the")


# ---- imported ----------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [CHARS, ENDED, ByteTokenizer()])
def test_our_own_column_comes_back_as_it_was(tokenizer) -> None:
    text = "the dog, ça va.\n"
    ours = score(gpt(tokenizer), tokenizer, text)
    column = json.loads(json.dumps(ours.column("mine")))
    rows = [
        {"token": token, "logprob": logprob}
        for token, logprob in zip(column["tokens"], column["logprobs"], strict=True)
    ]

    name, again = imported(column, text, "f.json")
    _, third = imported(rows, text, "f.json")

    assert name == "mine"
    for other in (again, third):
        assert np.array_equal(other.nll, ours.nll, equal_nan=True)
        theirs = other.totals()
        for key, value in ours.totals().items():
            assert key in ("unknown", "bytes", "bits_per_byte") or theirs[key] == value


def test_tokens_given_as_bytes() -> None:
    rows = [{"token": "?", "bytes": [b], "logprob": -1} for b in "é!".encode()]
    _, found = imported(rows, "é!", "f.json")

    assert found.totals()["characters"] == 2
    assert found.totals()["bytes"] == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"tokens": ["a", "b"], "logprobs": [-1]}, "2 tokens but 1 logprobs"),
        ({"tokens": ["a", "b"], "logprobs": [-1, 0.5]}, "logprob 1 must be"),
        ({"tokens": ["a", "b"], "logprobs": [-1, None]}, "logprob 1 must be"),
        ({"tokens": ["a", "b"], "logprobs": [-1, math.nan]}, "logprob 1 must be"),
        ({"tokens": ["a", "b"], "logprobs": [-1, -math.inf]}, "logprob 1 must be"),
        ({"tokens": ["a", "b"], "logprobs": [True, "x"]}, "logprob 0 must be"),
        ({"tokens": ["ab"], "logprobs": [None]}, "nothing to score"),
        (
            {"tokens": ["a", "c"], "logprobs": [-1, -1]},
            "at character 1 the text has 'b",
        ),
        ({"tokens": ["a"], "logprobs": [-1]}, "the tokens ''"),
        ({"tokens": ["a", 3], "logprobs": [-1, -1]}, "token 1 must be a string"),
        ([{"tok": "ab", "logprob": -1}], "token 0 must be a string"),
        ([1, 2], "expected"),
        ("ab", "expected"),
        ({"tokens": "ab", "logprobs": [-1]}, "expected"),
    ],
)
def test_columns_that_cannot_be_read(data: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        imported(data, "ab", "f.json")


# ---- against transformers ------------------------------------------------------------


class Borrowed(LanguageModel):
    """A transformers model behind our contract."""

    def __init__(self, vocab_size: int, context_length: int = 512) -> None:
        super().__init__()
        self.inner: Any = None

    def forward(self, tokens):
        return self.inner(tokens).logits


@pytest.fixture(scope="module")
def stories():
    """Model and tokenizer of stories260k: theirs, and ours around theirs."""
    folder = Path(os.environ.get("LMZOO_CORPORA") or SHARED) / "stories260k"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no stories260k here: set LMZOO_CORPORA to the corpora folder")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    model = Borrowed(theirs.config.vocab_size, 512)
    model.inner = theirs
    tokenizer = read_tokenizer_file(str(folder / "tokenizer.json"))
    return theirs, transformers.AutoTokenizer.from_pretrained(folder), model, tokenizer


PHRASES = [
    "Once upon a time, there was a little girl named Lily.",
    "The naïve café 日本 – 3.14!\nNew line,  two spaces.",
]


@pytest.mark.parametrize("text", PHRASES)
def test_phrase_perplexity_equals_transformers(stories, text: str) -> None:
    theirs, their_tokenizer, model, tokenizer = stories
    ids = their_tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        loss = float(theirs(ids, labels=ids).loss)

    found = score(model, tokenizer, text)

    assert found.ids is not None
    assert found.ids.tolist() == ids[0, 1:].tolist()
    assert found.first_rule == "predicted after <s>"
    totals = found.totals()
    assert totals["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert totals["characters"] == len(text)
    assert totals["bytes"] == len(text.encode())
    assert "".join(found.pieces()) == text


def test_a_long_text_equals_transformers_by_strides(stories) -> None:
    theirs, their_tokenizer, model, tokenizer = stories
    text = PHRASES[0] * 60
    quiet = {"return_tensors": "pt", "verbose": False}  # it is longer than the context
    ids = their_tokenizer(text, **quiet).input_ids
    total, done, n = 0.0, 0, ids.shape[1] - 1
    with torch.inference_mode():  # the usual recipe: windows, the new targets only
        for begin in range(0, n, 256):
            end = min(begin + 512, n)
            row = theirs(ids[:, begin:end]).logits[0].double()
            own = nn.functional.cross_entropy(
                row, ids[0, begin + 1 : end + 1], reduction="none"
            )
            total += float(own[done - begin :].sum())
            done = end
            if end == n:
                break

    assert score(model, tokenizer, text).nats == pytest.approx(total, rel=1e-5)
