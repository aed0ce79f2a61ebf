"""The library's form of our tokenizers: the same ids and the same text."""

import random

import pytest

from lmzoo.text.exchange import library_tokenizer
from lmzoo.text.subword import HFTokenizer
from lmzoo.text.tokenizers import Tokenizer, read_tokenizer_file, train_tokenizer

TEXT = (
    "the quick  brown\tfox\r\njumps over 2² lazy dogs' naïve café; a_b\n\n<unk> x\x1cy"
)
EVERY = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
KINDS = ["char", "word", "byte", "bpe"]


def trained(kind: str, documents: bool) -> Tokenizer:
    size = 300 if kind == "bpe" else None
    return train_tokenizer(kind, iter([TEXT * 3]), documents=documents, size=size)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_same_ids_and_same_text(kind: str, documents: bool) -> None:
    ours, rng = trained(kind, documents), random.Random(0)
    library = library_tokenizer(ours)
    assert library.get_vocab_size() == ours.vocab_size
    strange = "".join(rng.choices(EVERY, k=5000))
    for text in (TEXT, "", "Ω e\u0301 <eod><unk>\r\n", strange):
        ids = library.encode(text, add_special_tokens=False).ids
        assert ids == ours.encode(text).tolist()
        assert library.decode(ids) == ours.decode(ids)
    for _ in range(20):
        ids = [rng.randrange(ours.vocab_size) for _ in range(50)]
        assert library.decode(ids, skip_special_tokens=False) == ours.decode(ids)


def test_words_are_cut_the_same_around_every_character() -> None:
    ours = trained("word", documents=False)
    text = "".join(f" a{character}b" for character in EVERY[:0x3000])
    assert library_tokenizer(ours).encode(text).ids == ours.encode(text).tolist()


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_read_back_it_counts_the_same(kind: str, documents: bool) -> None:
    ours = trained(kind, documents)
    again = HFTokenizer.from_json(library_tokenizer(ours).to_str())
    assert (again.vocab_size, again.unk_id) == (ours.vocab_size, ours.unk_id)
    assert (again.eod_id, again.start_id) == (ours.eod_id, ours.start_id)
    assert (again.token_chars == ours.token_chars).all()
    assert (again.token_bytes == ours.token_bytes).all()


def test_a_foreign_tokenizer_with_an_end_of_its_own(tmp_path) -> None:
    file = tmp_path / "tokenizer.json"
    library = library_tokenizer(trained("bpe", documents=False))
    library.save(str(file))
    ours = read_tokenizer_file(str(file), documents=True)
    again = library_tokenizer(ours)
    assert again.get_vocab_size() == ours.vocab_size
    assert again.encode(TEXT).ids == ours.encode(TEXT).tolist()
    end = ours.eod_id
    assert end is not None
    assert again.decode([*again.encode("a").ids, end]) == "a"
