"""``lmzoo score``: tables, JSON, the page, and every mistake in one line."""

import contextlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lmzoo.cli import main
from lmzoo.scoring.columns import shade, visible
from tests.cli.runner import Result, fit
from tests.cli.runner import lmzoo as typed

TEXT = "the lazy dog"


def lmzoo(*argv: str | Path) -> Result:
    """Run ``lmzoo`` with these words, spaces and all."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in argv])
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A gpt on characters, one on bytes, and an n-gram on characters."""
    folder = tmp_path_factory.mktemp("runs")
    story = folder / "story.txt"
    story.write_text("the quick brown fox jumps over the lazy dog\n" * 80)
    data = f"--data.path {story} --trainer.default_root_dir"
    fit(f"--trainer.max_steps 20 {data} {folder / 'chars'}")
    fit(f"--trainer.max_steps 2 --data.tokenizer byte {data} {folder / 'bytes'}")
    made = typed(f"fit --model ngram --data.batch_size 4 {data} {folder / 'counts'}")
    assert made.code == 0, made.err
    return {name: str(folder / name) for name in ("chars", "bytes", "counts")}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files to read and to stumble over."""
    for name, content in {
        "text.txt": TEXT,
        "empty.txt": "",
        "broken.json": '{"tokens": [',
        "positive.json": '{"tokens": ["the lazy dog"], "logprobs": [0.5]}',
        "other.json": '{"tokens": ["the lazy cat"], "logprobs": [-5]}',
        "short.json": '{"tokens": ["the"], "logprobs": []}',
        "hosted.json": '{"name": "far", "tokens": ["the", " lazy dog"], '
        '"logprobs": [null, -9.0]}',
        "rows.json": '[{"token": "the lazy dog", "logprob": -7.5}]',
        "long.txt": TEXT * 40,
    }.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_transcript(runs: dict[str, str], files: Path) -> None:
    result = lmzoo(
        *("score", *runs.values(), "--text", TEXT, "--top_k", "2"),
        *("--continuations", '[" and", " xx"]', "--import", "hosted.json"),
    )
    out = result.out

    assert result.code == 0, result.err
    heads = "model +tokenizer +tokens +nats +bits +perplexity +bits/char +bits/byte"
    assert re.search(heads, out)
    assert "12 characters, 12 bytes" in out
    assert re.search(r"counts +char 29 +11 ", out)
    assert re.search(r"far +imported +1 +9\.00 +12\.98 ", out)
    assert "first token  chars, bytes, counts: not scored: nothing stands before" in out
    assert "Only bits per character and bits per byte compare" in out
    assert out.count("␣lazy␣dog") == 1
    assert re.search(r"\n␣and +chars +\d", out)
    shares = [float(share) for share in re.findall(r" (\d+\.\d+)%\n", out)][-6:]
    assert sum(shares) == pytest.approx(300, abs=0.1)
    assert max(map(len, out.splitlines())) <= 240


def test_json_is_whole_and_can_be_imported(runs, files: Path) -> None:
    result = lmzoo("score", *runs.values(), "--file", "text.txt", "--json")
    plain = json.loads(result.out)
    first = plain["models"][0]
    (files / "mine.json").write_text(json.dumps(first))

    again = lmzoo(
        *("score", runs["chars"], "--text", TEXT, "--json"),
        *("--import", "mine.json", "--import", "rows.json"),
    )
    ours, same, rows = json.loads(again.out)["models"]

    assert plain["text"] == TEXT
    assert [one["name"] for one in plain["models"]] == list(runs)
    assert "".join(first["tokens"]) == TEXT
    assert len(first["ranks"]) == len(first["ids"]) == len(first["logprobs"]) == 12
    assert first["totals"]["nats"] == pytest.approx(-sum(first["logprobs"][1:]))
    assert same["totals"] == first["totals"] == ours["totals"]
    assert (rows["name"], rows["totals"]["nats"]) == ("rows.json", 7.5)


def test_the_text_may_come_by_every_way(runs, files: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    ways = [("--text", TEXT), ("--file", "text.txt"), ("--file", "-")]
    shown = [lmzoo("score", runs["chars"], *way).out for way in ways]

    assert shown[0] == shown[1] == shown[2]
    assert TEXT.split()[0] not in ("", shown[0])


def test_unknown_symbols_and_a_checkpoint_file(runs, files: Path) -> None:
    file = next((Path(runs["chars"]) / "checkpoints").glob("*.ckpt"))
    result = lmzoo("score", file, runs["bytes"], "--text", "the ça \x1b[31m[bold]")

    assert result.code == 0, result.err
    assert re.search(
        r"notice +step-\d+\.ckpt: \d+ of 18 tokens unknown \('ç'", result.out
    )
    assert "\x1b" not in result.out
    assert "<U+001B>" in result.out


def test_a_long_text_names_its_windows_and_takes_a_stride(runs, files: Path) -> None:
    shown = [
        lmzoo("score", runs["chars"], "--file", "long.txt", *extra).out
        for extra in ((), ("--stride", "8"), ("--stride", "1"))
    ]

    assert shown[0] == shown[1] != shown[2]
    assert "at least 9 tokens before it (windows of 16)" in shown[0]
    assert "at least 16 tokens before it (windows of 16)" in shown[2]
    assert "more than 80 tokens" in shown[0]


class Page(HTMLParser):
    """Collects what a browser would."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.tips: list[str] = []
        self.outside: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.tips += (
            [given["data-tip"]] if tag == "span" and "data-tip" in given else []
        )
        self.outside += [given[key] for key in ("src", "href") if key in given]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_escaped(runs, files: Path) -> None:
    bad = '<script>alert("x")</script>\n&amp; \u202e fox'
    result = lmzoo(
        *("score", runs["chars"], runs["bytes"], "--text", bad, "--top_k", "2"),
        *("--continuations", '["<b>"]', "--html", "out.html"),
    )
    content = (files / "out.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(content)

    assert result.code == 0, result.err
    assert "script" not in page.tags
    assert not page.outside
    assert "url(" not in content
    assert "@import" not in content
    assert '<script>alert("x")</script>↵\n&amp; <U+202E> fox' in page.text
    assert len(page.tips) == len(bad) + len(bad.encode())
    assert re.fullmatch(
        r"'c'\n[\d.]+ bits, [\d.]+ nats\nprobability [\d.e-]+\nrank \d+(\n  .*){2}",
        page.tips[2],
    )
    assert page.tags.count("tr") == 3 + 3 + 2


def test_shades_grow_evenly_and_dark_text_reads_on_them() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    shades = [luminance(shade(i / 20)) for i in range(21)]
    text = luminance("#1b1b1b")

    assert shade(0) == "#ffffff"
    assert shade(9) == shade(1)
    assert shades == sorted(shades, reverse=True)
    assert (shades[-1] + 0.05) / (text + 0.05) > 4.5  # WCAG 2, level AA


def test_tokens_that_cannot_be_seen() -> None:
    assert visible("a\tb\n") == "a⇥b↵"
    assert visible("\u202e\x07") == "<U+202E><U+0007>"
    assert visible("") == "·"


BAD = [
    ("", "no text to score; give --text"),
    ("--text=", "no text to score; give --text"),
    ("--text=x --file=text.txt", "both given"),
    ("--file=nope.txt", "nope.txt: no such file"),
    ("--file=empty.txt", "empty.txt: is empty"),
    ("--file=latin.txt", "not UTF-8"),
    ("--file=.", "is a folder"),
    ("--text=t", "1 token, and the char vocabulary has no start token"),
    ("--text=thé --stride=0", "stride must be 1 to the context_length 16, given 0"),
    ("--text=thé --stride=17", "given 17"),
    ("--text=thé --stride=x", "--stride"),
    ("--text=thé --top_k=-1", "top_k must be 0"),
    ("--text=thé --continuations=a", "--continuations: not JSON"),
    ("--text=thé --continuations={}", "expected a list of texts"),
    ("--text=thé --continuations=[]", "expected a list of texts"),
    ('--text=thé --continuations=["a",""]', "expected non-empty texts"),
    ("--text=thé --device=abacus", "--device abacus"),
    ("--text=thé --html=text.txt/out.html", "cannot write text.txt/out.html"),
    ("--text=thé --html=.", "is a folder"),
    ("--file=text.txt --import=nope.json", "nope.json: no such file"),
    ("--file=text.txt --import=broken.json", "broken.json: is not JSON"),
    ("--file=text.txt --import=positive.json", "logprob 0 must be a finite number"),
    ("--file=text.txt --import=other.json", "at character 9 the text has 'dog'"),
    ("--file=text.txt --import=short.json", "1 tokens but 0 logprobs"),
    ("--text=thé --nonsense=1", "nonsense"),
    ("nowhere --text=thé", "nowhere: no such run folder"),
    ("text.txt --text=thé", "no checkpoint of lmzoo"),
    ("https://host/x.ckpt --text=thé", "only local files"),
]


@pytest.mark.parametrize(("line", "said"), BAD)
def test_mistakes_are_one_line(line: str, said: str, runs, files: Path) -> None:
    before = sorted(files.rglob("*"))
    result = lmzoo("score", runs["chars"], *line.split())

    assert result.code == 2, result.out
    assert re.fullmatch(r"error: .*\n", result.err)
    assert said in result.err
    assert result.out == ""
    assert sorted(files.rglob("*")) == before


def test_no_run_is_a_mistake_and_the_control_works(runs, files: Path) -> None:
    none = lmzoo("score", "--text", TEXT)
    assert none.code == 2
    assert re.fullmatch(r"error: .*runs.*\n", none.err)
    assert lmzoo("score", runs["chars"], "--text", TEXT).code == 0
