import hashlib
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmzoo.errors import UsageError
from lmzoo.text import spans as module
from lmzoo.text.datamodule import TextDataModule
from lmzoo.text.spans import CAP, MAGIC, SPAN, Spans, span_hashes, words

ANY = st.text(st.characters(codec=None), max_size=300)  # lone surrogates too
FEW = st.text("ab \nÉ_'", max_size=300)
TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, "
    "it was the age of foolishness, it was the epoch of belief.\n"
)


def random_text(length: int, seed: int = 0) -> str:
    codes = np.random.default_rng(seed).integers(97, 123, length, dtype=np.uint8)
    return codes.tobytes().decode()


@pytest.fixture
def small_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 4,096 spans and 512 words only."""
    monkeypatch.setattr(module, "SPAN_ROOM", 4096)
    monkeypatch.setattr(module, "WORD_ROOM", 512)


# ---- what is there is found ----------------------------------------------------------


@given(st.one_of(ANY, FEW))
def test_there_are_no_false_negatives(text: str) -> None:
    spans = Spans.build([text])
    assert spans.exact
    assert spans.present(text).shape == (max(0, len(text) - SPAN + 1),)
    assert spans.present(text).all()
    assert spans.occurs(text) is (True if len(text) >= SPAN else None)
    assert spans.longest(text) == ((0, len(text)) if len(text) >= SPAN else (0, 0))
    assert spans.word_share(text) == (1.0 if words(text) else None)


def test_nor_are_there_where_spans_are_sampled(small_room: None) -> None:
    text = random_text(30_000)
    spans = Spans.build([text])
    assert spans.spans.every == 8  # the smallest power that leaves at most 4,096
    assert 0.1 < spans.present(text).mean() < 0.15
    assert spans.occurs(text) is True
    assert spans.occurs(random_text(400, seed=1)) is False
    start, length = spans.longest("#" * 500 + text[9000:9500] + "#" * 500)
    assert 450 < length <= 500 + 2 * SPAN
    assert 480 < start < 550


def test_strangers_are_not_found() -> None:
    spans = Spans.build([TEXT])
    assert spans.occurs("it was the age of reason") is False
    assert spans.occurs("it was the age of wisdom") is True
    assert spans.occurs("the age") is None
    assert spans.word_share("The BEST, the worst; the zebra") == 5 / 6
    assert spans.present("short").tolist() == []
    text = "He said: it was the age of wisdom, or so."
    assert spans.longest(text) == (8, len(" it was the age of wisdom, "))
    assert spans.longest("nothing of this was ever read") == (0, 0)


def test_the_rate_holds_for_a_text_and_for_its_words() -> None:
    text, other = (random_text(300_000, seed) for seed in (0, 1))
    text, other = (" ".join(re.findall("." * 6, each)) for each in (text, other))
    spans = Spans.build([text])
    rate = spans.spans.false_positive_rate
    assert spans.present(other).mean() == pytest.approx(rate, rel=0.1)
    rate = spans.words.false_positive_rate
    assert spans.word_share(other) == pytest.approx(rate, rel=0.15)


# ---- size ----------------------------------------------------------------------------


def test_the_cap_holds_for_a_large_text_and_a_small_text_is_small() -> None:
    pieces = [random_text(1 << 20, seed) for seed in range(4)]
    spans = Spans.build(pieces)
    assert (spans.spans.every, spans.words.every) == (2, 1)
    assert not spans.exact
    assert spans.characters == 4 << 20
    assert CAP // 3 < len(spans.to_bytes()) <= CAP
    assert spans.occurs(pieces[2]) is True
    assert len(Spans.build([TEXT]).to_bytes()) < 1024


def test_the_cap_holds_for_many_words(small_room: None) -> None:
    text = " ".join(f"w{n}" for n in range(5000))
    spans = Spans.build([text])
    assert spans.words.every > 1
    assert len(spans.words.bits) <= 512
    assert spans.word_share(text) == 1.0
    assert spans.word_share(text.replace("w", "v")) < 0.1


@given(FEW, st.lists(st.integers(0, 300)))
def test_how_a_text_is_cut_changes_nothing(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 16)
        patch.setattr(module, "SPAN_ROOM", 64)
        patch.setattr(module, "WORD_ROOM", 8)
        cut = Spans.build(pieces)
        patch.setattr(module, "BLOCK", 1 << 17)
        assert Spans.build([text]).to_bytes() == cut.to_bytes()


def test_a_word_without_end_is_cut_alike_everywhere() -> None:
    text = "x" * 1000 + "é" * 63 + " end"
    whole = Spans.build([text]).to_bytes()
    assert Spans.build(iter(text)).to_bytes() == whole
    assert max(map(len, words(text))) == 64


# ---- the same on every machine -------------------------------------------------------


def by_definition(span: str) -> int:
    """The hash of one span, in Python's own integers."""
    every, value = (1 << 64) - 1, 0
    for character in span:
        value = (value * 0x9E3779B97F4A7C15 + ord(character)) & every
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 1):
        value ^= value >> 33
        value = value * factor & every
    return value


@given(ANY)
def test_the_hash_is_the_one_defined(text: str) -> None:
    expected = [by_definition(text[i : i + SPAN]) for i in range(len(text) - SPAN + 1)]
    assert span_hashes(text).tolist() == expected


def test_the_file_never_changes() -> None:
    """Another value here means that old runs can no longer be asked."""
    digest = hashlib.sha256(Spans.build([TEXT]).to_bytes()).hexdigest()
    assert digest[:16] == "256929eb558c2352"


# ---- as a file -----------------------------------------------------------------------


@given(FEW)
def test_a_file_gives_back_what_was_written(text: str) -> None:
    spans = Spans.build([text])
    again = Spans.from_bytes(spans.to_bytes())
    assert again.to_bytes() == spans.to_bytes()
    assert again.present(text).all()
    assert again.characters == len(text)


@given(st.data())
def test_any_damage_is_refused(data: st.DataObject) -> None:
    good = bytearray(Spans.build([TEXT]).to_bytes())
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UsageError):
        Spans.from_bytes(bytes(good))
    with pytest.raises(UsageError):
        Spans.from_bytes(bytes(good[:place]))
    with pytest.raises(UsageError):
        Spans.from_bytes(data.draw(st.binary(max_size=99)))


PART = {"bytes": 8, "count": 1, "every": 1}
SOUND = {"span": 12, "hashes": 5, "characters": 3, "spans": PART, "words": PART}


def forged(header: object, bits: int = 16) -> bytes:
    """A file whose digest is right, whatever it says."""
    line = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = MAGIC + line + b"\n" + bytes(bits)
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[" * 3000,
        b" " * 5000,
        [],
        {},
        {**SOUND, "span": 8},
        {**SOUND, "hashes": 10**9},
        {**SOUND, "characters": -1},
        {**SOUND, "spans": 1},
        {**SOUND, "spans": {**PART, "bytes": 10**15}},
        {**SOUND, "spans": {**PART, "bytes": 0}, "words": {**PART, "bytes": 16}},
        {**SOUND, "words": {**PART, "bytes": True}},
        {**SOUND, "words": {**PART, "every": 3}},
        {**SOUND, "words": {**PART, "every": 0}},
        {**SOUND, "words": {**PART, "every": 1 << 64}},
        {**SOUND, "words": {**PART, "count": "many"}},
        {**SOUND, "words": {**PART, "count": 10**400}},
    ],
)
def test_a_header_that_lies_is_refused(header: object) -> None:
    assert Spans.from_bytes(forged(SOUND)).characters == 3
    with pytest.raises(UsageError, match=r"^x\.bin: not a span file"):
        Spans.from_bytes(forged(header), "x.bin")


def test_a_file_too_large_is_not_read(tmp_path) -> None:
    path = tmp_path / "spans.bin"
    with path.open("wb") as file:
        file.write(MAGIC)
        file.truncate(1 << 34)  # sparse: 16 GiB that would not fit memory
    with pytest.raises(UsageError, match="not a span file"):
        Spans.read(path)
    with pytest.raises(UsageError, match="No such file"):
        Spans.read(tmp_path / "nothing")


# ---- of a data module's training split -----------------------------------------------


def test_only_what_is_trained_on_is_kept(write) -> None:
    rows = ["the first of all documents", "another document here", "held out text"]
    path = write("rows.jsonl", "".join(json.dumps({"text": r}) + "\n" for r in rows))
    data = TextDataModule(path=path, val_fraction=0.21, test_fraction=0)
    assert data.spans().occurs("all documents\nanother") is True
    assert data.spans().occurs("held out text") is False
    assert "".join(data.prepared.pieces("val")) == "held out text"

    for limit in (2, 20, 30):
        data = TextDataModule(path=path, max_train_tokens=limit)
        text = "".join(data.prepared.pieces("train"))
        assert text.replace("\n", "") == data.text("train")
        assert len(text) == data.spans().characters


def test_the_spans_of_a_text_are_built_once(write, monkeypatch) -> None:
    options = {"path": write("text.txt", TEXT), "val_fraction": 0, "test_fraction": 0}
    first = TextDataModule(**options).spans().to_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Spans, "build", None)
        assert TextDataModule(**options).spans().to_bytes() == first
    kept = TextDataModule(**options).prepared.store.path.with_suffix(".spans")
    kept.write_bytes(b"damaged")
    assert TextDataModule(**options).spans().to_bytes() == first
    assert kept.read_bytes() == first
    kept.unlink()
    kept.mkdir()  # cannot be written
    assert TextDataModule(**options).spans().to_bytes() == first
