"""The files of a finding: named plainly, and none left over from before."""

import json
from pathlib import Path

import numpy as np
import pytest

from lmzoo.errors import UsageError
from lmzoo.report.finding import Finding


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_an_earlier_calls_files_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "look-own.svg").write_text("somebody else's")
    rows = [{"a": 1}]
    Finding("look", "L", figures={"a": "<svg/>", "b": "<svg/>"}, rows=rows).write(
        tmp_path
    )
    assert {"look-a.svg", "look-b.svg", "look.csv"} < names(tmp_path)

    Finding("look", "L", figures={"b": "<svg/>"}).write(tmp_path)
    assert names(tmp_path) == {"look.json", "look-b.svg", "look-own.svg"}


def test_what_a_damaged_file_names_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("kept")
    for said in ('{"files": ["other.csv", "../look.csv", 3]}', "{", "[]"):
        (tmp_path / "look.json").write_text(said)
        Finding("look", "L").write(tmp_path)
    assert names(tmp_path) == {"look.json", "other.csv"}


def test_file_names_have_no_blanks(tmp_path: Path) -> None:
    Finding("look", "L", figures={"gpt on a (b)-to-c": "<svg/>"}).write(tmp_path)
    assert names(tmp_path) == {"look.json", "look-gpt_on_a_b_-to-c.svg"}


def test_arrays_are_numbers_and_the_rest_is_refused(tmp_path: Path) -> None:
    data = {"one": np.float32(0.5), "two": np.arange(2), "nan": np.float64("nan")}
    Finding("look", "L", data=data).write(tmp_path)
    told = json.loads((tmp_path / "look.json").read_text())
    assert (told["one"], told["two"], told["nan"]) == (0.5, [0, 1], None)

    with pytest.raises(UsageError, match=r"set .* cannot be written as JSON"):
        Finding("look", "L", data={"one": {1, 2}}).write(tmp_path)
    assert json.loads((tmp_path / "look.json").read_text()) == told
