import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lmzoo.errors import UsageError
from lmzoo.text import corpora as corpora_module
from lmzoo.text import preparation, store
from lmzoo.text.preparation import prepare
from lmzoo.text.settings import Settings
from lmzoo.text.tokenizers import BPETokenizer, train_tokenizer

TEXT = "".join(
    f"Line {i}: the cat's hat is worth {i * 37 % 101} é.\n" for i in range(80)
)


def decoded(prepared, split):
    return prepared.tokenizer.decode(prepared.tokens(split))


def cache_files(tmp_path):
    return sorted((tmp_path / "cache").glob("*.tokens"))


def test_contiguous_splits(write):
    prepared = prepare(Settings(path=write("a.txt", TEXT)))
    assert [len(prepared.text(split)) for split in ("train", "val", "test")] == [
        stats.characters for stats in prepared.stats.values()
    ]
    joined = "".join(prepared.text(split) for split in ("train", "val", "test"))
    assert joined == TEXT
    assert decoded(prepared, "train") == prepared.text("train")
    assert prepared.stats["train"].characters == len(TEXT) * 90 // 100
    assert prepared.notes == []


def test_tiny_shakespeare(corpora):
    prepared = prepare(
        Settings(corpus="tinyshakespeare", val_fraction=0.1, test_fraction=0)
    )
    assert len(prepared.tokens("train")) == 1_003_854
    assert len(prepared.tokens("val")) == 111_540
    assert prepared.tokenizer.vocab_size == 65 + 1  # and <unk>
    assert prepared.parts[0].corpus.name == "tinyshakespeare"


@pytest.mark.parametrize("kind", ["char", "word", "byte", "bpe", "hf"])
@pytest.mark.parametrize("unknown", ["unk", "skip"])
def test_lengths_add_up_to_the_text(write, kind, unknown):
    if kind == "hf":
        state = train_tokenizer("bpe", [TEXT[:999]], size=270).state()
        kind = write("tokenizer.json", state["tokenizer"])
    path = write("a.txt", TEXT + "Ünseen wörds: \U0001f600 and what not" * 9)
    prepared = prepare(Settings(path=path, tokenizer=kind, unknown=unknown))
    for split, stats in prepared.stats.items():
        ids = prepared.tokens(split)
        chars, sizes = prepared.lengths(split)
        assert chars[ids].sum() == pytest.approx(stats.characters, abs=1e-6)
        assert sizes[ids].sum() == pytest.approx(stats.bytes, abs=1e-6)
        if unknown == "unk":
            assert stats.characters == len(prepared.text(split))
            assert stats.bytes == len(prepared.text(split).encode())
        if kind in ("char", "word"):
            assert (stats.oov > 0) == (split != "train")


def test_unknown_policies(write):
    path = write("a.txt", "ab" * 450 + "abX" * 33 + "a")
    options = {"path": path, "test_fraction": 0.0, "val_fraction": 0.1}
    read = prepare(Settings(**options))
    assert read.stats["val"].oov == 33
    assert decoded(read, "val").count("\ufffd") == 33
    assert any("val: 33 symbols (33 %)" in note for note in read.notes)
    skipped = prepare(Settings(**options, unknown="skip"))
    assert decoded(skipped, "val") == "ab" * 33 + "a"
    assert skipped.stats["val"].characters == 67
    with pytest.raises(UsageError, match="val text: 'X' is not in the vocabulary"):
        prepare(Settings(**options, unknown="error"))
    whole = prepare(Settings(**options, unknown="error", vocabulary="all"))
    assert whole.stats["val"].oov == 0


def test_a_given_tokenizer_is_used_as_it_is(write):
    first = prepare(Settings(path=write("a.txt", "abc" * 99)))
    state = first.tokenizer.state()
    other = prepare(Settings(path=write("b.txt", "abd" * 99), tokenizer_state=state))
    assert other.tokenizer.sha256() == first.tokenizer.sha256()
    assert other.stats["train"].oov == len(other.tokens("train")) // 3
    rows = write("c.jsonl", '{"text": "ab"}\n{"text": "ba"}\n' * 50)
    joined = prepare(Settings(path=rows, tokenizer_state=state))
    assert any("joined by a line break" in note for note in joined.notes)
    assert joined.stats["train"].oov > 0  # the line break is unknown to it, and told


def test_documents(write):
    for name, text in (("a", "aaaa"), ("b", "bbbb"), ("c", "cccc")):
        write(f"books/{name}.txt", text * 10)
    folder = str(Path(write("books/.keep", "")).parent)
    prepared = prepare(Settings(path=folder, val_fraction=0.25, test_fraction=0.25))
    eod = prepared.tokenizer.eod_id
    assert (prepared.tokens("train") == eod).sum() == 1
    assert prepared.stats["train"].documents == 2
    assert prepared.stats["train"].characters == 60
    assert prepared.stats["train"].tokens == 61
    assert prepared.text("train") == "a" * 40 + "b" * 20
    single = prepare(Settings(path=folder + "/a.txt"))
    assert single.tokenizer.eod_id is None


def test_separate_validation_and_test(write):
    main, val = write("a.txt", "ab" * 100), write("v.txt", "ba" * 30)
    prepared = prepare(Settings(path=main, val_path=val))
    assert prepared.text("val") == "ba" * 30
    assert prepared.stats["train"].characters == 190
    assert prepared.stats["test"].characters == 10
    both = prepare(Settings(path=main, val_path=val, test_path=val))
    assert both.stats["train"].characters == 200
    assert both.text("test") == both.text("val")


def test_empty_or_missing_validation_file(write):
    main, empty = write("a.txt", "ab" * 100), write("v.txt", "")
    prepared = prepare(Settings(path=main, val_path=empty))
    assert prepared.stats["val"].characters == 10
    assert any("v.txt is empty: val is cut from" in note for note in prepared.notes)
    with pytest.raises(UsageError, match=r"--data.val_path absent.txt: no such file"):
        prepare(Settings(path=main, val_path="absent.txt"))
    with pytest.raises(UsageError, match=r"v.txt: is empty; give a file with text"):
        prepare(Settings(path=empty))


def test_limits_are_told(write):
    path = write("a.txt", TEXT)
    limits = {"max_train_tokens": 100, "max_val_tokens": 50}
    prepared = prepare(Settings(path=path, tokenizer="byte", **limits))
    assert [len(prepared.tokens(split)) for split in ("train", "val")] == [100, 50]
    assert prepared.stats["test"].characters == len(TEXT) - len(TEXT) * 95 // 100
    text = prepared.text("train")
    assert text == TEXT[: len(text)]
    assert prepared.stats["train"].characters == len(text)
    assert any(note.startswith("train: cut to 100 tokens") for note in prepared.notes)
    words = prepare(Settings(path=path, tokenizer="word", min_frequency=2, **limits))
    ids = words.tokens("train")
    assert words.lengths("train")[0][ids].sum() == pytest.approx(
        words.stats["train"].characters, abs=1e-6
    )


def test_bpe_smaller_than_the_default_is_told(write):
    prepared = prepare(Settings(path=write("a.txt", TEXT), tokenizer="bpe"))
    assert isinstance(prepared.tokenizer, BPETokenizer)
    assert any("gives no more than" in note for note in prepared.notes)
    with pytest.raises(UsageError, match="gives no more than"):
        prepare(
            Settings(path=write("a.txt", TEXT), tokenizer="bpe", tokenizer_size=9999)
        )


# the cache


def test_the_cache_is_used(write, monkeypatch):
    options = Settings(path=write("a.txt", TEXT))
    first = prepare(options)

    def fail(*args):
        raise AssertionError("built again")

    monkeypatch.setattr(preparation, "write_store", fail)
    again = prepare(options)
    assert np.array_equal(again.tokens("train"), first.tokens("train"))
    with pytest.raises(AssertionError):  # control: another option builds
        prepare(Settings(path=options.path, val_fraction=0.2))


def test_changed_text_is_never_served_from_an_old_cache(write, tmp_path):
    path = write("a.txt", TEXT)
    status = os.stat(path)
    prepare(Settings(path=path))
    write("a.txt", TEXT.replace("cat", "dog"))  # same size, same time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "dog" in decoded(prepare(Settings(path=path)), "train")
    assert len(cache_files(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["flip", "tear", "empty"])
def test_a_damaged_cache_is_rebuilt(write, tmp_path, damage):
    options = Settings(path=write("a.txt", TEXT))
    prepare(options)
    (kept,) = cache_files(tmp_path)
    good = kept.read_bytes()
    flipped = bytes([good[0] ^ 1]) + good[1:]
    bad = {"flip": flipped, "tear": good[:-100], "empty": b""}[damage]
    kept.write_bytes(bad)
    assert decoded(prepare(options), "train") == TEXT[: len(TEXT) * 90 // 100]
    assert kept.read_bytes() == good


def test_text_that_changes_while_it_is_read(write, tmp_path, monkeypatch):
    path = write("a.txt", TEXT)
    real = corpora_module.scan
    for change in (TEXT.replace("cat", "dog"), TEXT + "x", TEXT[:-1], ""):

        def scan_then_change(corpus, change=change):
            result = real(corpus)
            write("a.txt", change)
            return result

        write("a.txt", TEXT)
        with monkeypatch.context() as patched:
            patched.setattr("lmzoo.text.plan.scan", scan_then_change)
            with pytest.raises(UsageError, match=r"a\.txt: the text changed while"):
                prepare(Settings(path=path))
        assert cache_files(tmp_path) == []
    write("a.txt", TEXT)
    prepare(Settings(path=path))  # control: left alone, it is built
    assert len(cache_files(tmp_path)) == 1


def test_a_read_only_cache(write, tmp_path, monkeypatch):
    options = Settings(path=write("a.txt", TEXT))
    prepare(options)
    monkeypatch.setattr(store, "_writable", lambda folder: False)
    monkeypatch.setattr(store.tempfile, "gettempdir", lambda: str(tmp_path))
    prepare(options)  # what is there is read, without a word
    with pytest.warns(UserWarning, match="cannot be written"):
        other = prepare(Settings(path=options.path, val_fraction=0.2))
    assert decoded(other, "train") == TEXT[: len(TEXT) * 75 // 100]
    assert len(cache_files(tmp_path)) == 1


BUILD = """
import sys
from lmzoo.text.preparation import Settings, prepare
prepared = prepare(Settings(path=sys.argv[1], tokenizer="bpe"))
print(prepared.store.sha256, prepared.tokenizer.sha256())
"""


def test_two_builders_at_once(write, tmp_path):
    command = [sys.executable, "-c", BUILD, write("a.txt", TEXT * 50)]
    builders = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = {builder.communicate()[0] for builder in builders}
    assert [builder.returncode for builder in builders] == [0, 0]
    assert len(answers) == 1
    assert len(cache_files(tmp_path)) == 1
    assert not list((tmp_path / "cache").glob("*.tmp"))


PEAK = """
import sys
from pathlib import Path
from lmzoo.text.preparation import Settings, prepare
if sys.argv[1] == "lmzoo":
    prepared = prepare(Settings(path=sys.argv[2]))
    assert sum(stats.tokens for stats in prepared.stats.values()) == 100_000_000
else:
    import numpy
    text = Path(sys.argv[2]).read_text()
    ids = numpy.array([ord(c) for c in text[:30_000_000]], numpy.uint16)
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)  # getrusage's is the parent's
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)
def test_a_line_of_100_megabytes_is_streamed(tmp_path):
    path = tmp_path / "line.txt"
    path.write_bytes(b"It is one line. " * 6_250_000)

    def peak(how):
        command = [sys.executable, "-c", PEAK, how, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert peak("lmzoo") < 200e6
    assert peak("naive") > 300e6  # control: with less than a third of the text


# options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"val_fraction": -0.1},
            r"--data.val_fraction -0.1: give a number in \[0, 1\)",
        ),
        ({"val_fraction": float("nan")}, r"--data.val_fraction nan"),
        ({"test_fraction": 1.0}, r"--data.test_fraction 1.0"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, r"leaves nothing to train on"),
        ({"min_frequency": 0}, r"--data.min_frequency 0: give 1 or more"),
        ({"tokenizer_size": 0}, r"--data.tokenizer_size 0"),
        ({"max_train_tokens": 1}, r"--data.max_train_tokens 1: give 2 or more"),
        ({"max_val_tokens": 0}, r"--data.max_val_tokens 0"),
        ({"vocabulary": "some"}, r"--data.vocabulary some: choose train, all"),
        ({"unknown": "raise"}, r"--data.unknown raise: choose unk, skip, error"),
        ({"tokenizer": "bpq"}, r"--data.tokenizer bpq: no such tokenizer"),
        ({"tokenizer": "absent.json"}, r"absent.json: no such file"),
        ({"tokenizer": "bpe", "tokenizer_size": 100}, r"give 256 or more"),
        ({"tokenizer": "word", "min_frequency": 10**6}, r"leaves no word"),
        ({"corpus": "kjv"}, r"were both given"),
        ({"corpus": "nothing", "path": None}, r"--data.corpus nothing: no such corpus"),
        ({"tokenizer_state": {"kind": "x"}}, r"tokenizer state: its kind"),
    ],
)
def test_bad_options_end_in_one_line_and_write_nothing(
    write, tmp_path, options, message
):
    path = write("a.txt", TEXT)
    with pytest.raises(UsageError, match=message) as caught:
        prepare(Settings(**{"path": path} | options))
    assert "\n" not in str(caught.value)
    assert not [f for f in tmp_path.rglob("*") if f.suffix in (".tokens", ".tmp")]
