"""A text cut in two: nothing is lost, nothing is there twice, or nothing is written."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.text.readers import Notes
from lmzoo.text.splitting import Source, criterion
from tests.cli.runner import lmzoo as command

TEXT = "\n\nOne is short.\n\nTwo is a much longer line than one.\nThree\n\n\nFour ends"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "own.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "own.csv"
    file.write_text('text,mood\n"a, b",sad\nc,glad\n"d\ne",sad\n', encoding="utf-8")
    return file


def halves(out: Path) -> list[str]:
    report = json.loads((out / "split.json").read_text())
    return [(out / part["file"]).read_text() for part in report["parts"]]


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ("--at 15", "\n\nOne is short.\n\nThree\n\n\nFour ends\n"),
        ("--by regex --pattern ^T", "Two is a much longer line than one.\nThree\n\n\n"),
        (
            "--by regex --pattern ^T --unit paragraph",
            "Two is a much longer line than one.\nThree\n\n\n",
        ),
        ("--by regex --pattern Thr --unit line", "Three\n\n\n"),
    ],
)
def test_every_line_is_in_one_of_the_two(
    options: str, first: str, text: Path, tmp_path: Path
) -> None:
    result = command(f"split {text} {options} --out {tmp_path / 'out'}")
    assert result.code == 0, result.err
    one, other = halves(tmp_path / "out")
    assert one == first
    assert Counter((one + other).splitlines()) == Counter(TEXT.splitlines())
    assert f"together {len(TEXT.splitlines())} lines" in result.out
    assert "a line break was put at its end" in result.err


@settings(max_examples=50, deadline=None)
@given(
    st.text(alphabet="ab \n", max_size=60), st.sampled_from(["line", "paragraph"]),
    st.integers(0, 9),
)  # fmt: skip
def test_units_joined_are_the_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, unit: str, at: int
) -> None:
    file = tmp_path_factory.mktemp("units") / "own.txt"
    file.write_text(text)
    source = Source([file], unit, None, Notes())  # type: ignore[arg-type]
    units = list(source.units())
    ended = text if text.endswith("\n") or not text else text + "\n"
    assert "".join(one.written for one in units) == ended
    rule = criterion(source, "length", at, "", "", "")
    assert all(rule.first(one) == (len(one.text) <= at) for one in units)


def test_without_a_length_both_get_about_as_much(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("".join("x" * n + "\n" for n in range(1, 101)))
    assert command(f"split {file} --out {tmp_path / 'out'}").code == 0
    one, other = halves(tmp_path / "out")
    assert abs(len(one) - len(other)) < 0.05 * (len(one) + len(other))


def test_rows_keep_their_fields(rows: Path, tmp_path: Path) -> None:
    result = command(f"split {rows} --by field --field mood --out {tmp_path / 'out'}")
    assert result.code == 0, result.err
    glad, sad = ([json.loads(line) for line in half.splitlines()]
                 for half in halves(tmp_path / "out"))  # fmt: skip
    assert glad == [{"text": "c", "mood": "glad"}]
    assert [row["text"] for row in sad] == ["a, b", "d\ne"]
    assert (tmp_path / "out" / "mood-sad.jsonl").is_file()
    again = command(
        f"split {tmp_path / 'out' / 'mood-sad.jsonl'} --at 2 --out {tmp_path / 'two'}"
    )
    assert again.code == 2  # both have more than two characters
    trained = command(
        f"fit --model bare --model.context_length 4 --data.val_fraction 0 "
        f"--data.path {tmp_path / 'out' / 'mood-sad.jsonl'} --data.test_fraction 0 "
        f"--trainer.max_steps 1 --trainer.default_root_dir {tmp_path / 'run'}"
    )
    assert trained.code == 0, trained.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--at 15", "needs --out"),
        ("--at -1 --out {}", "--at -1: give a number of characters"),
        ("--at 1000 --out {}", "nothing would be in 'long'"),
        ("--by regex --out {}", "needs --pattern"),
        ("--by regex --pattern ( --out {}", "--pattern ("),
        ("--by regex --pattern a --at 3 --out {}", "--at is not read by --by regex"),
        ("--by field --field x --out {}", "has no fields"),
        ("--by tone --out {}", "--by"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    options: str, said: str, text: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    result = command(f"split {text} {options.format(tmp_path / 'out')}")
    assert result.code == 2
    assert said in result.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,mood\na\n", "line 2 has 1 fields"),
        ("text,mood\na,1\nb,2\nc,3\n", "has 3 values"),
        ("text,tone\na,1\nb,2\n", "has only text, tone"),
    ],
)
def test_rows_that_cannot_be_split(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text(content)
    result = command(f"split {file} --by field --field mood --out {tmp_path / 'out'}")
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_written_over(text: Path, tmp_path: Path) -> None:
    line = f"split {text} --at 15 --out {tmp_path / 'out'}"
    assert command(line).code == 0
    result = command(line)
    assert result.code == 2
    assert "is there already" in result.err


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text("good film one\t1\nbad film two\t0\n")

    result = command(f"split {file} --out {tmp_path / 'out'}")

    assert result.code == 2
    assert "names no text" in result.err
    assert not (tmp_path / "out").exists()


def test_quotes_are_text_in_a_tsv(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text('text\tkind\n"so called\ta\nfilm\tb\n')

    result = command(f"split {file} --by field --field kind --out {tmp_path / 'out'}")

    assert result.code == 0, result.err
    assert [json.loads(half)["text"] for half in halves(tmp_path / "out")] == [
        '"so called',
        "film",
    ]
