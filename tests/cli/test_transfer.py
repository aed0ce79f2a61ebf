"""``lmzoo transfer``: files, help, and one line for what cannot be done."""

import json
from pathlib import Path

import pytest

from tests.cli.runner import fit, lmzoo


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, without a history."""
    folder = tmp_path_factory.mktemp("transfer")
    texts = {"day": "the lazy dog sleeps all day\n", "zoo": "zebras vex 12 + 7!\n"}
    for name, line in texts.items():
        (folder / f"{name}.txt").write_text(line * 800)
        fit(
            f"--data.path {folder / name}.txt --trainer.max_steps 10 "
            f"--trainer.default_root_dir {folder / name}"
        )
    return folder


def test_help() -> None:
    shown = lmzoo("transfer").out
    assert "matrix" in shown
    assert "fewshot" in shown
    told = lmzoo("transfer fewshot --help").out
    for option in ("--start", "--vocabulary", "--out", "--kept", "--png"):
        assert option in told


def test_matrix_prints_and_writes(place: Path, tmp_path: Path) -> None:
    done = lmzoo(f"transfer matrix {place}/day {place}/zoo --out {tmp_path}")
    assert done.code == 0, done.err
    assert "Nats per token" in done.out
    assert {p.name for p in tmp_path.iterdir()} == {
        "matrix.json",
        "matrix.csv",
        "matrix-val.svg",
    }
    plain = lmzoo(f"transfer matrix {place}/day {place}/zoo --out {tmp_path} --json")
    assert len(json.loads(plain.out)["cells"]) == 4


def test_fewshot_prints_writes_and_keeps(place: Path, tmp_path: Path) -> None:
    line = (
        f"transfer fewshot {place}/day {place}/zoo --out {tmp_path} --at 0,2 "
        f"--seeds 1 --length 5"
    )
    done = lmzoo(line)
    assert done.code == 0, done.err
    assert "Source text, held out (forgetting)" in done.out
    assert len(list((tmp_path / "kept").iterdir())) == 4
    assert (tmp_path / "fewshot-day-to-zoo.svg").is_file()
    assert (tmp_path / "fewshot.csv").read_text().count("\n") == 1 + 4 * 2 * 2
    assert lmzoo(line).out == done.out  # read back, the seconds too


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("transfer shuffle", "there are matrix, fewshot"),
        ("transfer matrixx", "did you mean 'matrix'?"),
        ("transfer fewshot {day}", "1 run given, 2 are needed"),
        ("transfer fewshot {day} {day}", "given twice"),
        ("transfer fewshot {day} {zoo} --start 4000", "no checkpoint of step 4000"),
        ("transfer fewshot {day} {zoo} --start 10,last", "--checkpoints.every_n_steps"),
        ("transfer fewshot {day} {day}/nothing", "no such run"),
        ("transfer fewshot {day} {zoo} --lr 0", "--lr"),
        ("transfer matrix {day} {zoo} --corpora nowhere", "nowhere"),
        ("transfer matrix {day} {zoo} --corpora /no/such.txt", "such.txt"),
        ("transfer matrix {day} --split middle", "split"),
    ],
)
def test_a_mistake_is_one_line(
    place: Path, tmp_path: Path, line: str, said: str
) -> None:
    filled = line.format(day=place / "day", zoo=place / "zoo")
    wanted = tmp_path / "out"
    done = lmzoo(f"{filled} --out {wanted}" if "{" in line else filled)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not wanted.exists()
