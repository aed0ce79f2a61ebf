"""A sample of the catalogue, and its own controls."""

import pytest

from lmzoo.cli import COMMANDS
from lmzoo.selftest import bad_input
from lmzoo.selftest.commands import Commands
from lmzoo.selftest.mistakes import MISTAKES, WORKING


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("mistakes")
    made = Commands(folder)
    bad_input.prepare(made)
    return made


@pytest.mark.parametrize("command", [*COMMANDS])
def test_a_mistake_of_each_command(command: str, commands: Commands) -> None:
    line, said = next(one for one in MISTAKES if one[0].split()[0] == command)
    assert bad_input.mistaken(line, said, commands).why == ""


def test_the_control_a_careless_command_is_told(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bad_input.controls(commands) == []
    idle = {"pass": "it changed ok.txt"}
    monkeypatch.setattr(bad_input, "CARELESSNESS", idle)
    assert bad_input.controls(commands) == ["pass"]
    unlike = "something that it does not say"
    assert bad_input.mistaken("generate nope", unlike, commands).why
    left = bad_input.mistaken("export run --out left", "", commands).why
    assert left.startswith("exit code 0")
    assert not (commands.folder / "left").exists()


def test_the_catalogue_covers_every_command() -> None:
    lines = [line for line, _ in MISTAKES]
    assert {line.split()[0] for line in lines} >= set(COMMANDS)
    assert len(lines) == len(set(lines)) >= 100
    assert len(WORKING) == len(set(WORKING)) >= 15
