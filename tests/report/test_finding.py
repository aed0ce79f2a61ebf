"""A finding's files: what one call draws, and what of an earlier one is removed."""

from pathlib import Path

import pytest

from lmzoo.report.finding import Finding


def made(name: str, *figures: str) -> Finding:
    return Finding(name, "a title", figures=dict.fromkeys(figures, "<svg/>"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_an_earlier_call_drew_is_removed(tmp_path: Path) -> None:
    made("look", "heat-a", "heat-b", "bars").write(tmp_path)
    made("look-other", "a").write(tmp_path)  # another finding of a similar name
    (tmp_path / "look-mine.svg").write_text("mine")
    before = names(tmp_path)
    made("look", "bars", "heat").write(tmp_path)
    gone, new = before - names(tmp_path), names(tmp_path) - before
    assert gone == {"look-heat-b.svg", "look-heat-a.svg"}
    assert new == {"look-heat.svg"}


@pytest.mark.parametrize("told", ["", "[]", '{"figures": 3}', '{"figures": ["../x"]}'])
def test_only_its_own_files_are_removed(told: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "x.svg").write_text("elsewhere")
    (folder / "look.json").write_text(told)
    made("look", "bars").write(folder)
    assert (tmp_path / "x.svg").is_file()
    assert names(folder) == {"look.json", "look-bars.svg"}
