"""Character counts against Python's own counter, and overlap worked out by hand."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmzoo.analysis.probes.characters import Characters, characters_of, count
from lmzoo.analysis.probes.frequencies import frequencies
from lmzoo.errors import UsageError
from lmzoo.text.corpora import END_OF_DOCUMENT


@given(st.lists(st.one_of(st.text(), st.just(END_OF_DOCUMENT))))
def test_counts_are_the_counters(pieces: list) -> None:
    counts, documents = count(iter(pieces))
    wanted = Counter("".join(piece for piece in pieces if isinstance(piece, str)))
    assert {chr(i): counts[i] for i in np.flatnonzero(counts)} == wanted
    if wanted:
        assert documents == 1 + pieces.count(END_OF_DOCUMENT)


@pytest.fixture
def texts(tmp_path: Path) -> tuple[str, str]:
    """``a`` lacks one character of ``b``, which lacks two of ``a``."""
    (tmp_path / "a.txt").write_text("aaaa bb\nc")
    (tmp_path / "b.txt").write_text("aa éé")
    return str(tmp_path / "a.txt"), str(tmp_path / "b.txt")


def test_overlap_by_hand(texts: tuple[str, str]) -> None:
    found = frequencies(list(texts))

    first, second = found.data["corpora"]
    assert (first["name"], first["characters"], first["unique"]) == ("a", 9, 5)
    p = np.array([4, 2, 1, 1, 1]) / 9
    assert first["entropy_bits"] == pytest.approx(-(p * np.log2(p)).sum())
    assert second["counts"] == {"U+0061": 2, "U+00E9": 2, "U+0020": 1}
    one, other = found.data["overlap"]
    assert (one["oov_share"], one["missing"]) == (2 / 5, 1)
    assert (other["oov_share"], other["missing"]) == (4 / 9, 3)
    assert one["jaccard"] == other["jaccard"] == 2 / 6
    assert found.tables[1].rows[0][:5] == ["a", "b", "40.00 %", "1", "é"]
    assert {"a", "b", "together"} == set(found.figures)
    marks = [row[1] for row in found.tables[2].rows]
    assert marks == ["a", "b", "↵", "␣", "c"]  # equal counts by their code points
    assert "↵" in found.figures["a"]


def test_one_corpus_has_no_overlap(texts: tuple[str, str]) -> None:
    found = frequencies([texts[0]], top=2)
    assert found.data["overlap"] == []
    assert len(found.tables) == 2
    assert len(found.tables[1].rows) == 2
    assert len(found.rows) == 5  # the CSV has all
    assert "3 characters after the first 2" in " ".join(found.notes)
    assert found.figures["a"].count("<rect") == 1 + 2


def test_entropy_of_equal_shares() -> None:
    found = Characters("x", list("abcd"), np.full(4, 7), 1, [])
    assert found.entropy == 2
    assert found.unknown_share(found) == 0
    assert found.jaccard(found) == 1


def test_same_names_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(name)
    paths = [str(tmp_path / name / "text.txt") for name in ("one", "two")]
    found = frequencies(paths)
    assert [one["name"] for one in found.data["corpora"]] == paths
    assert len(found.figures) == 3
    assert all("/" not in name for name in found.figures)


def test_rows_of_a_table_are_documents(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\nab\nba\n")
    found = characters_of(str(tmp_path / "t.csv"))
    assert (found.total, found.documents) == (4, 2)
    assert math.isclose(found.entropy, 1)


def test_what_is_refused(tmp_path: Path, texts: tuple[str, str]) -> None:
    (tmp_path / "empty.txt").write_text("")
    for corpora, options, message in (
        (["nosuchcorpus"], {}, "nosuchcorpus: no such corpus"),
        ([str(tmp_path / "none.txt")], {}, "no such file"),
        ([str(tmp_path / "empty.txt")], {}, "holds no text"),
        ([texts[0], texts[0]], {}, "given twice"),
        ([texts[0]], {"top": 0}, "top 0"),
        ([], {}, "name a corpus"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            frequencies(corpora, **options)
        assert "--data." not in str(caught.value)
