import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.errors import UsageError
from lmzoo.text.corpora import END_OF_DOCUMENT
from lmzoo.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    WordTokenizer,
    encode_stream,
    from_state,
    read_tokenizer_file,
    train_tokenizer,
    whole_words,
)

TEXT = "The cat sat on the mat; the cat's 12 hats — é\U0001f600.\n\n  Then it's 2034!\n"
BPE = train_tokenizer("bpe", [TEXT * 9], documents=True, size=285)
SPLIT = train_tokenizer("bpe", [TEXT * 9], size=275, split_digits=True)
BYTE = ByteTokenizer(True)
WORD = train_tokenizer("word", [TEXT], documents=True)
CHAR = train_tokenizer("char", [TEXT], documents=True)
EVERY = [BPE, SPLIT, BYTE, WORD, CHAR]


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_byte_and_bpe_round_trip_everything(text):
    for tokenizer in (BPE, SPLIT, BYTE):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_chars[ids].sum() == len(text)
        assert tokenizer.token_bytes[ids].sum() == len(text.encode())


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=sorted(set(TEXT))))
def test_char_round_trips_what_it_knows(text):
    ids = CHAR.encode(text)
    assert CHAR.decode(ids) == text
    assert ids.tolist() == [CHAR.symbols().index(character) for character in text]


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_word_round_trips_its_own_text(text):
    if text:
        tokenizer = WordTokenizer.train([text])
        assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8")), st.characters(categories=["Cs"]))
def test_encoding_never_raises(text, surrogate):
    for tokenizer in EVERY:
        tokenizer.decode(tokenizer.encode(text + surrogate))


def test_unknown_symbols():
    ids = CHAR.encode("cZt")
    assert ids.tolist().count(CHAR.unk_id) == 1
    assert CHAR.decode(ids) == "c\ufffdt"
    assert CHAR.first_unknown("cZt") == "Z"
    assert WORD.decode(WORD.encode(" the dog")) == " the\ufffd"
    assert WORD.first_unknown(" the dog") == " dog"
    assert BYTE.first_unknown("Z") is None


def test_ids_are_in_the_stated_order():
    tokenizer = train_tokenizer("char", ["ba", END_OF_DOCUMENT, "c"], documents=True)
    assert tokenizer.symbols() == ["a", "b", "c", "<unk>", "<eod>"]
    assert (tokenizer.unk_id, tokenizer.eod_id, tokenizer.vocab_size) == (3, 4, 5)
    assert train_tokenizer("char", ["ba"]).symbols() == ["a", "b", "<unk>"]
    assert tokenizer.token_chars.tolist() == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("tokenizer", EVERY, ids=lambda each: each.kind)
def test_state_is_all_there_is(tokenizer):
    state = json.loads(json.dumps(tokenizer.state()))
    twin = from_state(state)
    assert type(twin) is type(tokenizer)
    assert twin.sha256() == tokenizer.sha256()
    assert np.array_equal(twin.encode(TEXT), tokenizer.encode(TEXT))
    assert twin.symbols() == tokenizer.symbols()
    assert len(twin.symbols()) == len(set(twin.symbols())) == twin.vocab_size
    assert (twin.unk_id, twin.eod_id) == (tokenizer.unk_id, tokenizer.eod_id)


@pytest.mark.parametrize("tokenizer", EVERY, ids=lambda each: each.kind)
def test_wrong_ids_are_refused(tokenizer):
    for ids in ([-1], [tokenizer.vocab_size]):
        with pytest.raises(ValueError, match="token ids must be in"):
            tokenizer.decode(ids)
    assert tokenizer.decode([]) == ""


def test_end_of_document_is_no_text():
    for tokenizer in (BPE, BYTE, WORD, CHAR):
        assert tokenizer.decode([tokenizer.eod_id]) == ""
        assert tokenizer.eod_id not in tokenizer.encode("a<eod>b<unk>")


def test_digits_can_be_split():
    assert len(SPLIT.encode("123.5")) == 5
    together = train_tokenizer("bpe", ["2034 " * 50], size=260)
    assert len(together.encode("2034")) < 4  # control: without the option they merge


def test_bpe_training_is_repeatable():
    code = (
        "import sys; from lmzoo.text.tokenizers import train_tokenizer as t;"
        "print(t('bpe', [sys.argv[1]] * 9, documents=True, size=285).sha256())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, TEXT], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == BPE.sha256()


def test_library_stays_on_one_thread_after_use():
    BPE.encode_batch([TEXT])
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_words_are_limited():
    words = WordTokenizer.train(["a a a b b c"], min_frequency=2)
    assert words.known == [" a", " b"]
    small = train_tokenizer("word", ["a b b c c c"], size=3)
    assert small.vocab_size == 3
    assert small.known == [" c", " b"]
    with pytest.raises(UsageError, match="min_frequency 9 leaves no word"):
        train_tokenizer("word", ["a b"], min_frequency=9)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("bpe", 255, "give 256 or more"),
        ("bpe", 60_000, "gives no more than"),
        ("syllable", None, "choose char, word, byte, bpe"),
    ],
)
def test_impossible_tokenizers(kind, size, message):
    with pytest.raises(UsageError, match=message):
        train_tokenizer(kind, [TEXT], size=size)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([TEXT, "it's", " ", "\n", "12", "—", "  a "])), st.data()
)
def test_a_stream_gives_the_ids_of_the_whole(parts, data):
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    for tokenizer in EVERY:
        whole = tokenizer.encode(text).tolist()
        streamed = [i for ids in encode_stream(tokenizer, pieces) for i in ids.tolist()]
        assert streamed == whole


def test_naive_pieces_would_not():  # the control of the test above
    pieces = ["the c", "at sat"]
    naive = [i for piece in pieces for i in BPE.encode(piece).tolist()]
    assert naive != BPE.encode("the cat sat").tolist()


def test_documents_in_a_stream():
    pieces = ["the", END_OF_DOCUMENT, "cat"]
    for tokenizer in (BPE, BYTE, CHAR):
        ids = np.concatenate(list(encode_stream(tokenizer, pieces)))
        assert (ids == tokenizer.eod_id).sum() == 1
        assert tokenizer.decode(ids) == "thecat"
    ids = np.concatenate(list(encode_stream(SPLIT, pieces)))  # it has no such token
    assert SPLIT.decode(ids) == "the\ncat"


@pytest.mark.parametrize("text", ["x" * 3_000_000, " " * 3_000_000])
def test_text_without_a_place_to_cut_is_bounded(text):
    chunks = list(whole_words([text]))
    assert "".join(chunks) == text
    assert max(map(len, chunks)) <= 1 << 20


def test_bpe_of_text_without_white_space_is_not_quadratic():
    noise = np.random.default_rng(0).integers(0, 10, 300_000)
    text = "".join(map(str, noise.tolist())).translate(str.maketrans("0123", "abcd"))
    tokenizer = train_tokenizer("bpe", [text], size=300)  # minutes, were it so
    ids = np.concatenate(list(encode_stream(tokenizer, [text])))
    assert tokenizer.decode(ids) == text


# tokenizer.json of other makers


@pytest.fixture
def wordpiece(write):
    vocabulary = {"[UNK]": 0, "the": 1, "cat": 2, "##s": 3, "</s>": 4}
    library = hf.Tokenizer(hf.models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.pre_tokenizer = hf.pre_tokenizers.Whitespace()
    library.add_special_tokens(["</s>"])
    library.enable_truncation(2)
    return write("tokenizer.json", library.to_str())


def test_any_tokenizer_json(wordpiece):
    tokenizer = read_tokenizer_file(wordpiece, documents=True)
    assert tokenizer.kind == "hf"
    assert (tokenizer.unk_id, tokenizer.eod_id, tokenizer.vocab_size) == (0, 4, 5)
    assert tokenizer.encode("the cats dog the").tolist() == [1, 2, 3, 0, 1]
    assert tokenizer.token_chars.tolist() == [1, 3, 3, 1, 0]
    assert from_state(tokenizer.state()).sha256() == tokenizer.sha256()


def test_a_byte_level_tokenizer_json_is_exact(write):
    path = write("tokenizer.json", BPE.state()["tokenizer"])
    tokenizer = read_tokenizer_file(path, documents=True)
    assert tokenizer.eod_id == tokenizer.vocab_size - 1
    ids = tokenizer.encode(TEXT)
    assert tokenizer.token_chars[ids].sum() == len(TEXT)
    assert tokenizer.decode(ids) == TEXT


CHAR_STATE = {"kind": "char", "version": 1, "end_of_document": False}
BPE_STATE = {"kind": "bpe", "version": 1, "end_of_document": False}


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"kind": "pickle"},
        CHAR_STATE,
        CHAR_STATE | {"symbols": "abc"},
        CHAR_STATE | {"symbols": []},
        CHAR_STATE | {"symbols": ["b", "a"]},
        CHAR_STATE | {"symbols": ["a", "a"]},
        CHAR_STATE | {"symbols": ["ab"]},
        CHAR_STATE | {"symbols": [1]},
        CHAR_STATE | {"symbols": ["a"], "class_path": "os.system"},
        CHAR_STATE | {"symbols": ["a"], "version": 2},
        CHAR_STATE | {"symbols": ["a"], "end_of_document": 1},
        BPE_STATE | {"tokenizer": 3},
        BPE_STATE | {"tokenizer": "no json"},
        BPE_STATE | {"tokenizer": "[" * 100_000},
        BPE_STATE | {"tokenizer": "[]"},
        BPE_STATE | {"tokenizer": "{}"},
        BPE_STATE | {"tokenizer": '{"model": {"type": "BPE", "vocab": {"a": -1}}}'},
        {**BPE_STATE, "kind": "hf", "tokenizer": '{"model": 1}'},
    ],
)
def test_malformed_states_are_refused(state):
    with pytest.raises(UsageError, match="tokenizer") as caught:
        from_state(state)
    assert "\n" not in str(caught.value)


def test_a_well_formed_state_is_not():
    assert from_state(CHAR_STATE | {"symbols": ["a", "b"]}).vocab_size == 3


def test_a_numbering_with_a_hole_the_size_of_memory_is_refused(write):
    spec = json.loads(BPE.state()["tokenizer"])
    token = next(iter(spec["model"]["vocab"]))
    spec["model"]["vocab"][token] = 4_000_000_000
    with pytest.raises(UsageError, match="numbering"):
        read_tokenizer_file(write("tokenizer.json", json.dumps(spec)))
    with pytest.raises(UsageError, match="no such file"):
        read_tokenizer_file("absent.json")


def test_kinds_are_the_documented_classes():
    kinds = {each.kind: type(each) for each in EVERY}
    assert kinds == {
        "bpe": BPETokenizer,
        "byte": ByteTokenizer,
        "word": WordTokenizer,
        "char": CharTokenizer,
    }
