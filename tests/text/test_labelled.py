"""Labelled texts: every layout gives the same parts; batches are a pure function."""

import gzip
import json

import numpy as np
import pytest
import torch

from lmzoo.errors import UsageError
from lmzoo.text.labelled import LabelledDataModule
from lmzoo.text.labelled_loader import IGNORED, LabelledLoader, LabelledPass
from lmzoo.text.labelled_parts import encode, encoded, places_of

ROWS = [
    (f"{'bad' if n % 3 else 'good'} film number {n} " + "so it goes " * (n % 7), n % 3)
    for n in range(60)
]
TEXTS = [(text.strip(), "good" if not kind else "bad") for text, kind in ROWS]


def module(path, **options):
    return LabelledDataModule(path=str(path), **options)


def as_csv(rows, delimiter=",", header=None, flip=False):
    lines = [] if header is None else [delimiter.join(header)]
    for text, label in rows:
        cells = [label, text] if flip else [text, label]
        lines.append(delimiter.join(cells))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", as_csv(TEXTS, header=("text", "label"))),
        ("b.csv", as_csv(TEXTS, header=("Sentiment", "Review"), flip=True)),
        ("c.csv", as_csv(TEXTS)),
        ("d.tsv", as_csv(TEXTS, "\t", flip=True)),
        ("e.tsv", as_csv(TEXTS, "\t").rstrip("\n")),
        (
            "f.jsonl",
            "".join(json.dumps({"label": b, "text": a}) + "\n" for a, b in TEXTS),
        ),
    ],
)
def test_every_layout_gives_the_same_texts(write, name, content) -> None:
    data = module(write(name, content))

    texts = data.parts["train"].texts + data.parts["val"].texts
    assert sorted(texts) == sorted(text for text, _ in TEXTS)
    assert data.labels == ["bad", "good"]
    for part in data.parts.values():
        for text, target in zip(part.texts, part.targets, strict=True):
            assert text.startswith(data.labels[target])


def test_the_folder_layout_and_its_parts(tmp_path) -> None:
    for part in ("train", "test"):
        for number, (text, label) in enumerate(TEXTS):
            file = tmp_path / "imdb" / part / label / f"{number}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "<br /><br />the end\n")
    extra = tmp_path / "imdb" / "train" / "unsup" / "0.txt"
    extra.parent.mkdir()
    extra.write_text("nobody knows")

    data = module(tmp_path / "imdb")

    assert len(data.parts["test"].texts) == len(TEXTS)
    assert all(t.endswith(" the end") for t in data.parts["test"].texts)
    assert any("without labels" in note for note in data.notes)
    kept = module(tmp_path / "imdb", keep_breaks=True)
    assert "<br /><br />" in kept.parts["test"].texts[0]


def test_validation_is_stratified_and_out_of_the_training_part(write) -> None:
    path = write("a.csv", as_csv(TEXTS, header=("text", "label")))
    data, other = module(path, val_fraction=0.2), module(path, val_fraction=0.2, seed=9)

    train, val = data.parts["train"], data.parts["val"]
    assert not set(train.texts) & set(val.texts)
    assert data.describe()["splits"]["val"]["labels"] == {"bad": 8, "good": 4}
    assert val.texts == other.parts["val"].texts  # whatever the seed
    assert not data.has("test")


def test_names_of_labels(write) -> None:
    rows = [(text, {"bad": "10", "good": "9"}[label]) for text, label in TEXTS]
    path = write("a.tsv", as_csv(rows, "\t"))

    assert module(path).labels == ["9", "10"]  # by size, not by alphabet
    named = module(path, labels=["good", "bad"])
    assert named.labels == ["good", "bad"]
    mapped = module(path, labels={"10": "bad", "9": "good"})
    assert mapped.labels == ["bad", "good"]
    for data in (named, mapped):
        part = data.parts["train"]
        for text, target in zip(part.texts, part.targets, strict=True):
            assert text.startswith(data.labels[target])


STARS = [(f"text {i} of {i % 5}", str(i % 5)) for i in range(50)]


@pytest.mark.parametrize(
    "names", [dict(zip("01234", "12345", strict=True)), {"0": "1", "1": "0"}]
)
def test_a_name_that_is_another_label_s_spelling_is_the_name(write, names) -> None:
    rows = [row for row in STARS if row[1] in names]
    train, val = (write(f"{x}.csv", as_csv(rows)) for x in ("train", "val"))

    data = module(train, val_path=str(val), labels=names)

    for part in (data.parts["train"], data.parts["val"]):
        for text, target in zip(part.texts, part.targets, strict=True):
            assert data.labels[target] == names[text[-1]]


def test_a_part_may_hold_the_names_instead_but_no_mixture() -> None:
    names = {"0": "1", "1": "2", "2": "3"}

    assert places_of(["0", "2"], names) == [0, 2]
    assert places_of(["1", "3"], names) == [0, 2]
    assert places_of(["1", "2"], names) == [1, 2]  # the training file's spelling first
    with pytest.raises(UsageError, match="write them in one way"):
        places_of(["0", "3"], names)
    with pytest.raises(UsageError, match="'9'"):
        places_of(["0", "9"], names)


def test_the_draw_is_the_same_whatever_the_labels_are_called(write) -> None:
    path = write("a.csv", as_csv(STARS))
    turned = dict(zip("43210", "edcba", strict=True))

    data, other = module(path), module(path, labels=turned)

    assert data.labels != other.labels
    assert sorted(data.parts["val"].texts) == sorted(other.parts["val"].texts)


def test_equal_texts_stay_together_and_of_each_label_something_is_trained(
    write,
) -> None:
    rows = [(f"text {i % 9}", "ab"[i % 9 % 2]) for i in range(90)] + [("lone", "c")]

    data = module(write("a.csv", as_csv(rows)), val_fraction=0.3)

    train, val = data.parts["train"], data.parts["val"]
    assert val.texts
    assert not set(train.texts) & set(val.texts)
    assert data.describe()["splits"]["train"]["labels"]["c"] == 1


def test_one_text_of_each_label_leaves_nothing_to_validate_on(write) -> None:
    data = module(write("a.csv", as_csv([("fine", "good"), ("dull", "bad")] * 9)))

    assert not data.has("val")
    assert any("no validation part" in note for note in data.notes)
    assert not any(
        "no validation" in note for note in module(write("b.csv", as_csv(TEXTS))).notes
    )


def test_texts_that_stand_in_two_parts_are_counted(write) -> None:
    train = write("train.csv", as_csv(TEXTS))
    again = write("test.csv", as_csv([TEXTS[0], ("never seen", TEXTS[1][1])]))

    data = module(train, test_path=str(again), val_fraction=0)

    assert any("1 of 2 texts also stand" in note for note in data.notes)
    assert not any("also stand" in note for note in module(train).notes)


def test_only_texts_that_are_longer_count_as_cut(write) -> None:
    data = module(write("a.csv", as_csv(TEXTS)), tokenizer="char")
    longest = max(len(text) for text, _ in TEXTS)

    for length, cut in (
        (longest, 0),
        (longest - 1, sum(len(t) == longest for t, _ in TEXTS)),
    ):
        assert encoded(data.tokenizer, [t for t, _ in TEXTS], length)[1] == cut


def test_quotes_are_text_in_a_tsv_and_group_in_a_csv(write) -> None:
    tsv = write("a.tsv", '"so called film\t0\nfine "\t1\nfine too\t1\nno\t0\n')
    csv = write("a.csv", 'text,label\n"a, b",0\n"c ""d""",1\ne,0\nf,1\n')

    assert '"so called film' in module(tsv, val_fraction=0).parts["train"].texts
    assert 'c "d"' in module(csv, val_fraction=0).parts["train"].texts


def test_gzip_is_read_and_empty_rows_are_counted(tmp_path) -> None:
    path = tmp_path / "a.tsv.gz"
    rows = [*TEXTS, ("", "good"), ("nothing", "")]
    path.write_bytes(gzip.compress(as_csv(rows, "\t").encode()))

    data = module(path)

    assert len(data.parts["train"].texts) + len(data.parts["val"].texts) == 60
    assert any("left out" in note and "2" in note for note in data.notes)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("a\tb\tc\nd\te\tf\n", {}, "text_column and --data.label_column"),
        ("text,label\na,1\nb,1\n", {}, "two labels or more"),
        ("text,kind\na,1\nb,2\n", {"label_column": "mood"}, "mood"),
        ("text,label\na,1\nb,2\n", {"labels": ["x"]}, "1 names for the 2 labels"),
        ("text,label\na,1\nb,2\n", {"labels": {"1": "x", "3": "y"}}, "the label '2'"),
        (
            "text,label\na,1\nb,1\n",
            {"labels": {"1": "x", "2": "y"}},
            "with the label 'y'",
        ),
        ("note,kind\n" + "a,1\nb,2\n" * 2, {}, "looks like a header"),
        ("text;label\na;1\nb;2\n", {}, "between ';'"),
        ("a,1\nb,2\n", {"text_column": "0", "label_column": "2"}, "numbered from 1"),
    ],
)
def test_mistakes_are_one_line(write, content, options, said) -> None:
    path = write("a.csv" if "," in content else "a.tsv", content)

    with pytest.raises(UsageError, match=said):
        _ = module(path, **options).labels


def test_missing_and_other_files_are_refused(tmp_path, write) -> None:
    for path, said in (
        (tmp_path / "nowhere.csv", "no such file"),
        (tmp_path, "neither a train file"),
        (write("a.txt", "hello"), "labelled text is csv"),
    ):
        with pytest.raises(UsageError, match=said):
            _ = module(path).labels


def test_truncation_at_either_side(write) -> None:
    data = module(write("a.csv", as_csv(TEXTS)), tokenizer="char")
    text = TEXTS[6][0]

    (head,), (tail,) = (
        encode(data.tokenizer, [text], 5, side) for side in ("head", "tail")
    )

    assert data.tokenizer.decode(head) == text[:5]
    assert data.tokenizer.decode(tail) == text[-5:]
    cut = module(data.settings.path, tokenizer="char", context_length=5)
    assert cut.parts["train"].cut == len(cut.parts["train"].texts)


# ---- batches -------------------------------------------------------------------------


@pytest.fixture
def ids():
    lengths = np.random.default_rng(0).integers(1, 40, 101)
    return [np.full(length, n, np.int32) for n, length in enumerate(lengths)]


def test_an_epoch_takes_every_text_and_resumes_anywhere(ids) -> None:
    targets = np.arange(101) % 2
    loader = LabelledLoader(ids, targets, 8, seed=3)
    whole = [loader.batch(position) for position in range(0, 26 * 8, 8)]

    epoch = torch.cat([batch.rows for batch in whole[:13]])
    assert set(epoch.tolist()) == set(range(101))
    assert len(epoch) == 104  # filled up from its beginning
    later = LabelledLoader(ids, targets, 8, seed=3, position=5 * 8)
    for mine, theirs in zip(whole[5:], later, strict=False):
        assert torch.equal(mine.tokens, theirs.tokens)
        assert mine.position == theirs.position
    other = LabelledLoader(ids, targets, 8, seed=4).batch(0)
    assert not torch.equal(other.rows, whole[0].rows)
    assert not torch.equal(epoch, torch.cat([b.rows for b in whole[13:]]))


def test_padding_is_dynamic_and_buckets_save_it(ids) -> None:
    def padded(bucket):
        loader = LabelledLoader(ids, np.zeros(101, int), 8, bucket=bucket)
        batches = [loader.batch(n * 8) for n in range(13)]
        for batch in batches:
            assert batch.tokens.shape[1] == batch.mask.sum(1).max()
            assert torch.equal(batch.tokens * batch.mask, batch.tokens)
        return sum(int((~batch.mask).sum()) for batch in batches)

    assert padded(True) < padded(False) / 3


def test_two_ranks_see_what_one_sees(ids) -> None:
    targets = np.arange(101)
    one = LabelledLoader(ids, targets, 8).batch(16)
    parts = [LabelledLoader(ids, targets, 8, rank=r, world_size=2) for r in (0, 1)]

    assert torch.equal(one.rows, torch.cat([part.batch(16).rows for part in parts]))


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_pass_counts_each_text_once(ids, world_size) -> None:
    targets = np.arange(101)
    seen = []
    for rank in range(world_size):
        loader = LabelledPass(ids, targets, 12, rank, world_size)
        assert len(loader) == len(list(loader))
        for batch in loader:
            seen += batch.targets[batch.targets != IGNORED].tolist()

    assert sorted(seen) == list(range(101))


def test_the_real_files(corpora) -> None:
    data = module(corpora / "sst2", labels=["negative", "positive"])

    assert [len(data.parts[p].texts) for p in ("train", "val", "test")] == [
        6920,
        872,
        1821,
    ]
    assert data.labels == ["negative", "positive"]
    other = module(corpora / "rt_polarity", val_fraction=0.1)
    assert len(other.parts["test"].texts) == 1066
    assert other.describe()["splits"]["val"]["labels"] == {"0": 480, "1": 480}
