import gc
import gzip
import json
import os

import pytest

from lmzoo.errors import UsageError
from lmzoo.text import readers
from lmzoo.text.corpora import END_OF_DOCUMENT, resolve_corpus


def read(path, **options):
    corpus = resolve_corpus(path=path, **options)
    pieces = list(corpus.pieces())
    text = "".join("|" if piece is END_OF_DOCUMENT else piece for piece in pieces)
    return text, corpus.notes


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("plain.txt", "a\nb", "a\nb"),
        ("no_suffix", "é\U0001f600", "é\U0001f600"),
        ("note.md", "# h\n", "# h\n"),
        ("cr.txt", "a\rb", "a\rb"),
        ("last.txt", "a\r", "a\r"),
        ("white.txt", " \n\t\n", " \n\t\n"),
        ("rows.csv", 'id,text\n1,a b\n2,"c\n""d"""\n\n', 'a b|c\n"d"'),
        ("rows.tsv", "text\tlabel\na\t1\nb,c\t0\n", "a|b,c"),
        ("rows.jsonl", '{"text": "a"}\n\n{"text": "\\u00e9\\ud800"}\n', "a|é\ufffd"),
        ("rows.ndjson", '{"text": "a"}\n{"text": null}\n{"text": "b"}', "a|b"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_formats(write, name, content, text, packed):
    data = content.encode()
    path = write(name + ".gz" * packed, gzip.compress(data) if packed else data)
    assert read(path)[0] == text


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1 << 20])
def test_marks_and_line_ends_do_not_depend_on_the_pieces(write, monkeypatch, piece):
    raw = b"\xef\xbb\xbf" + "é\r\n\r\n\r\rx\r\n".encode()
    path = write("a.txt", raw)
    if piece > 2:  # the byte order mark is looked for in the first block
        monkeypatch.setattr(readers, "PIECE", piece)
    text, notes = read(path)
    assert text == "é\n\n\r\rx\n"
    assert [note.split(":")[0] for note in notes] == [
        "byte order mark dropped",
        "CRLF line ends read as LF",
    ]


def test_untouched_text_has_no_notes(write):
    assert read(write("a.txt", "a\nb\n")) == ("a\nb\n", [])


def test_columns_are_named_or_told(write):
    table = "id,body\n7,x\n8,y\n"
    text, notes = read(write("a.csv", table), text_column="body")
    assert text == "x|y"
    text, notes = read(write("a.csv", table))
    assert text == "7|8"
    assert "no column 'text', so the first column is taken" in notes[0]
    rows = "\n".join(json.dumps({"n": 1, "body": word}) for word in "xy")
    text, notes = read(write("a.jsonl", rows))
    assert text == "x|y"
    assert "'body' is taken" in notes[0]


@pytest.mark.parametrize(
    ("name", "table", "kind"),
    [
        ("a.csv", "id,body\n7,x\n", "column"),
        ("a.jsonl", '{"id": 1, "body": "x"}', "field"),
    ],
)
def test_a_column_that_was_typed_is_not_guessed_at(write, name, table, kind):
    with pytest.raises(UsageError, match=rf"no {kind} 'absent', but 'id' and 'body'"):
        read(write(name, table), text_column="absent")


def test_what_is_left_out_is_counted(write):
    text, notes = read(write("a.csv", "id,text\n1,x\n2\n3,\n4,y\n"))
    assert text == "x|y"
    assert any("rows without the text column left out" in note for note in notes)
    assert any("empty documents left out" in note for note in notes)


def test_a_long_line_is_joined_once(write):
    line = "x" * (3 * readers.PIECE + 5)
    text, _ = read(write("a.jsonl", json.dumps({"text": line})))
    assert text == line
    assert list(readers.split_lines(["a", "b\nc", "", "\n\nd"])) == [
        "ab\n",
        "c\n",
        "\n",
        "d",
    ]


BAD = [
    ("latin.txt", b"abc\xe9def", r"not UTF-8: byte 0xe9 at offset 3"),
    ("cut.txt", b"abc\xe2\x82", r"not UTF-8: byte 0xe2 at offset 3"),
    ("far.txt", b"x" * (1 << 20) + b"\xff", r"0xff at offset 1,048,576"),
    ("bom.txt", b"\xef\xbb\xbfa\xff", r"0xff at offset 4"),
    ("nul.txt", b"ab\0c", r"NUL byte at offset 2"),
    ("utf16.txt", "hello".encode("utf-16"), r"is UTF-16"),
    ("utf16le.txt", "hello".encode("utf-16-le"), r"NUL byte at offset 1.*UTF-16"),
    ("broken.txt.gz", b"no gzip", r"not a whole gzip file"),
    ("torn.txt.gz", gzip.compress(os.urandom(999))[:-9], r"not a whole gzip file"),
    ("a.jsonl", b'{"text": "a"}\nnot json\n', r"line 2 is not one JSON object"),
    ("a.jsonl", b'{"text": "a"}\n{"text":\n', r"line 2 [^:]* \(column 9: Expecting"),
    ("b.jsonl", b"[1]\n", r"line 1 is not a JSON object"),
    ("c.jsonl", b'{"text": "a"}\n{"text": 3}\n', r"line 2 has no text in 'text'"),
    ("d.jsonl", b'{"n": 3}\n', r"no text field; name it with --data.text_column"),
    ("e.jsonl", b"[" * 100_000, r"line 1 is not one JSON object"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_files_end_in_one_line(write, name, content, message):
    path = write(name, content)
    gc.disable()  # nothing can be collected at the bottom of a recursion
    try:
        with pytest.raises(UsageError, match=message) as caught:
            read(path)
    finally:
        gc.enable()
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_offset_is_that_of_the_first_bad_byte(write):
    good = "é" * 700_000  # control: the same text without the bad byte is read
    assert read(write("a.txt", good))[0] == good
    with pytest.raises(UsageError, match="offset 1,400,000"):
        read(write("a.txt", good.encode() + b"\xff"))


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", "/dev/null"):
        with pytest.raises(UsageError, match="pipe, socket or device"):
            read(str(path))


def test_unreadable_file(write, monkeypatch):
    path = write("a.txt", "abc")
    assert read(path)[0] == "abc"
    os.chmod(path, 0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(readers, "open", refuse, raising=False)
    with pytest.raises(UsageError, match=r"a\.txt: cannot be read \(Permission denied"):
        read(path)
