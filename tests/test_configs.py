"""Every file of configs/ parses, and names the model that its own name promises."""

from pathlib import Path

import pytest

from lmzoo.cli.compare_arguments import read
from lmzoo.registry import models
from tests.cli.runner import lmzoo

FOLDER = Path(__file__).parent.parent / "configs"
EVERY = sorted(FOLDER.glob("*.yaml"))
FILES = [file for file in EVERY if not file.stem.startswith("compare_")]
COMPARED = [file for file in EVERY if file not in FILES]


def test_every_member_has_a_file() -> None:
    members = set(models._builtins) - {"pretrained"}  # which starts from a folder
    assert members <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_parses(file: Path) -> None:
    result = lmzoo(f"fit --config {file} --print_config")
    assert result.code == 0, result.err
    if file.stem in models._builtins:
        assert f"class_path: {models.class_path(file.stem)}" in result.out


@pytest.mark.parametrize("file", COMPARED, ids=lambda file: file.stem)
def test_a_comparison_is_understood_and_each_of_its_cells_by_fit(file: Path) -> None:
    comparison = read(["--config", str(file)]).comparison

    assert len(comparison.seeds) >= 3
    for variant in comparison.variants():
        result = lmzoo(f"fit {' '.join(variant.arguments(1))} --print_config")
        assert result.code == 0, result.err


def test_what_is_printed_loads_back(tmp_path: Path) -> None:
    first = lmzoo(f"fit --config {FOLDER / 'gpt.yaml'} --print_config")
    file = tmp_path / "printed.yaml"
    file.write_text(first.out)
    second = lmzoo(f"fit --config {file} --print_config")
    assert second.code == 0, second.err
    assert second.out == first.out
