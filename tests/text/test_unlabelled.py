"""Every row of a file to be labelled is read, in its order."""

import pytest

from lmzoo.errors import UsageError
from lmzoo.text.readers import Notes
from lmzoo.text.unlabelled import read_rows

KNOWN = ("0", "1", "bad", "good")


@pytest.mark.parametrize(
    ("name", "content", "columns", "expected"),
    [
        ("a.csv", "id,text\n1,one\n2,two\n", (), "one: two:"),
        ("a.csv", "text,label\none,1\ntwo,\n,0\n", (), "one:1 two: :0"),
        ("a.csv", "note,grade\none,1\n", ("note", "grade"), "one:1"),
        ("a.tsv", "one\t0\ntwo\t1\n", (), "one:0 two:1"),
        ("a.tsv", "one\tx\ntwo\ty\none\tx\n", (), "one: two: one:"),
        ("a.csv", "one\ntwo\n", (), "one: two:"),
        ("a.jsonl", '{"text": "one"}\n{"text": "two", "label": 1}\n', (), "one: two:"),
        ("a.jsonl", '{"text": "one", "label": 1}\n{"text": null}\n', (), "one:1 :"),
    ],
)
def test_rows(tmp_path, name, content, columns, expected) -> None:
    path = tmp_path / name
    path.write_text(content)
    given = columns or (None, None)

    rows = read_rows(path, *given, KNOWN, Notes())

    assert " ".join(f"{row.text}:{row.label}" for row in rows) == expected


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        ("a,b,c\n1,2,3\n", (None, None), "--data.text_column"),
        ("id,label\n1,2\n", ("words", None), "--text_column words"),
        ("kind,label,x\n1,2,3\n", (None, None), "which is the text"),
        ("", (None, None), "holds no text"),
    ],
)
def test_what_cannot_be_told_is_one_line(tmp_path, content, columns, said) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)

    with pytest.raises(UsageError, match=said):
        read_rows(path, *columns, KNOWN, Notes())
