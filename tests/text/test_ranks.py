"""tiktoken on the ranks of a trained BPE: equal ids on any text, or not used at all."""

import sys
from unicodedata import category

import pytest
import tiktoken
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.text import ranks as module
from lmzoo.text.ranks import agreed, ranks
from lmzoo.text.subword import BPETokenizer, _Library, _words
from lmzoo.text.tokenizers import from_state

TEXT = "The cat sat on the mat; the cat's 12 hats — é\U0001f600.\n\n  Then it's 2034!\n"
BPE = BPETokenizer.train([TEXT * 9], end_of_document=True, size=290)
PLAIN = _words(split_digits=False)
ODD = [
    *("a", "the", " the", "The cat", " ", "   ", "\n", "\r\n", "\t", "'s", "'S", "'"),
    *("1", "2034", "²", "Ⅷ", "½", "é", "ß", "ſ", "中", "े", "़", "_", "--", "...", "—"),
    *("\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "\x00", "\u200b", "\ufeff"),
    *("<|endoftext|>", "<eod>", "<unk>", "</s>", "\U0001f600", "\ue000", "\u0378"),
]


def by_library(tokenizer: BPETokenizer, texts: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids in _Library.encode_batch(tokenizer, texts)]


def by_either(tokenizer: BPETokenizer, texts: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids in tokenizer.encode_batch(texts)]


pieces = st.tuples(st.sampled_from(ODD), st.integers(1, 4)).map(lambda p: p[0] * p[1])
arbitrary = st.text(st.characters(codec="utf-8"))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(pieces, arbitrary), max_size=30).map("".join))
def test_the_ids_are_the_librarys_on_arbitrary_text(text: str) -> None:
    assert by_either(BPE, [text, text[::-1]]) == by_library(BPE, [text, text[::-1]])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ODD), st.integers(0, 700), st.text(alphabet="ab \n'"))
def test_long_runs_are_cut_as_the_library_cuts_them(
    unit: str, count: int, tail: str
) -> None:
    texts = [tail + unit * count + tail]
    assert by_either(BPE, texts) == by_library(BPE, texts)


def test_every_character_starts_and_ends_the_same_words() -> None:
    every = [
        chr(i)
        for i in range(sys.maxunicode + 1)
        if category(chr(i)) not in ("Cn", "Co", "Cs")  # and some of the many others
        or (i % 16 == 0 and not 0xD800 <= i < 0xE000)
    ]
    for begin in range(0, len(every), 1 << 15):
        text = "".join(f"a{c}1 {c}{c}b" for c in every[begin : begin + (1 << 15)])
        lines = text.replace("1 ", "1 \n")
        assert by_either(BPE, [lines]) == by_library(BPE, [lines])


def test_the_fast_way_is_taken_and_its_ids_are_int32() -> None:
    fast = ranks(BPE._library, BPE._bytes[: len(BPE._strings)], PLAIN)

    assert fast is not None
    first, second = fast.encode_batch([TEXT, "the " * 99])
    assert first is not None
    assert second is not None
    assert first.dtype == BPE.encode(TEXT).dtype
    assert first.tolist() == BPE.encode(TEXT).tolist()


def test_the_control_long_words_would_differ() -> None:
    raw = ranks(BPE._library, BPE._bytes[: len(BPE._strings)], PLAIN)
    assert raw is not None
    word = "the" * 100

    assert raw._encoding.encode_ordinary(word) != BPE.encode(word).tolist()
    assert not agreed(word)
    assert not agreed(" " * 300)
    assert not agreed("a\u3000" * 4 + "\u3000" * 90)
    assert agreed(TEXT)


def test_pairs_that_only_one_of_them_merges_are_refused() -> None:
    """bc comes before ab, so the library never makes abc of a, b, c; tiktoken does."""
    library = hf.Tokenizer.from_str(BPETokenizer.train([], size=256)._library.to_str())
    first = library.get_vocab()
    merges = [("b", "c"), ("a", "b"), ("ab", "c")]
    vocabulary = first | {"bc": 256, "ab": 257, "abc": 258}
    library.model = hf.models.BPE(vocabulary, merges)
    library.pre_tokenizer = PLAIN
    odd = BPETokenizer(library)
    encoding = tiktoken.Encoding(
        "odd",
        pat_str=module._WORDS,
        mergeable_ranks={token: i for i, token in enumerate(odd._bytes)},
        special_tokens={},
    )

    assert encoding.encode_ordinary("abc") != odd.encode("abc").tolist()
    assert ranks(library, odd._bytes, PLAIN) is None
    assert by_either(odd, ["abc", "cabc"]) == by_library(odd, ["abc", "cabc"])


def test_split_digits_and_other_settings_stay_with_the_library() -> None:
    split = BPETokenizer.train([TEXT * 9], size=275, split_digits=True)
    assert ranks(split._library, split._bytes, PLAIN) is None

    state = BPE.state()
    state["tokenizer"] = state["tokenizer"].replace('"dropout":null', '"dropout":0.5')
    random = from_state(state)
    assert isinstance(random, BPETokenizer)
    assert ranks(random._library, random._bytes[:-1], PLAIN) is None


@pytest.mark.parametrize("character", ["\u00e9", "\u0660", "\u3000"])
def test_a_library_with_another_unicode_is_not_asked_about_the_difference(
    monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    """A tiktoken whose tables lack a letter, a number or a space that Python knows."""
    made = tiktoken.Encoding

    def older(name: str, *, pat_str: str, **more: object) -> tiktoken.Encoding:
        for known in module._CLASSES:
            pat_str = pat_str.replace(known, f"[{known}&&[^{character}]]")
        return made(name, pat_str=pat_str, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tiktoken, "Encoding", older)
    monkeypatch.setattr(module, "_known", module._Known())
    text = f"caf{character}s and 1{character}2 a {character}\n" * 9
    tokenizer = BPETokenizer.train([text * 9])
    raw = ranks(tokenizer._library, tokenizer._bytes, PLAIN)
    assert raw is not None

    assert raw._encoding.encode_ordinary(text) != tokenizer.encode(text).tolist()
    assert not agreed(text)
    assert agreed(text.replace(character, "\u00e8"))
    assert by_either(tokenizer, [text, "a", TEXT]) == by_library(
        tokenizer, [text, "a", TEXT]
    )


@settings(max_examples=50, deadline=None)
@given(arbitrary)
def test_both_libraries_are_asked_for_each_character_once(text: str) -> None:
    known = module._Known()
    codes = [ord(character) for character in text]
    known.alike(module.np.array(codes, int))

    assert known._asked.sum() == len(set(codes))
    for pattern in module._CLASSES:
        assert module._by_tiktoken(pattern, text) <= set(text)
        one, other = (
            module._by_tiktoken(pattern, text),
            module._by_tokenizers(pattern, text),
        )
        assert all(known._alike[ord(c)] == 0 for c in one ^ other)
