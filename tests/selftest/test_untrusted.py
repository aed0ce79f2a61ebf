"""A sample of the malicious files; the check itself must notice what does run."""

from pathlib import Path

import pytest

from lmzoo.selftest import bad_sources, untrusted
from lmzoo.selftest.lab import Case, Lab
from lmzoo.selftest.outcome import EFFORTS, Outcome

SAMPLE = (
    "a pickled call, weights_only off by the environment",
    "a URL",
    "a class path in Lightning's hyper-parameters",
    "a class path as a learning rate",
    "tensors stretched to terabytes",
    "an averaged gradient too short",
    "a sound run that goes on",
    "a pipe for a checkpoint",
    "a pipe for a checkpoint, trained beside",
    "a device for a checkpoint, trained beside",
    "tensors out of range",
    "a cache of Python objects",
    "a configuration with a Python tag",
    "a configuration of 1e10 values",
    "averages of one rate",
    "a schedule without a step",
    "a copy of a checkpoint by another name",
    "a folder for a lock",
    "pieces of no length",
)


def test_malicious_files_run_nothing_and_end_in_one_line(tmp_path: Path) -> None:
    cases = [case for case in untrusted.CASES if case.name in SAMPLE]
    assert len(cases) == len(SAMPLE)

    found = untrusted.check(tmp_path, EFFORTS["quick"], cases)

    assert found.details == []
    assert found.tried == found.held == len(SAMPLE)
    assert found.control_failed
    assert found.holds


def plugin(lab: Lab) -> str:
    """A plugin is code: this one sets the marker."""
    return f"models --plugin {lab.folder / 'evil.py'}"


def whys(found: Outcome) -> list[str]:
    return [line.split(" (")[0] for line in found.details]


def test_the_control_what_runs_or_fails_is_told(tmp_path: Path) -> None:
    cases = [
        Case("a plugin", plugin, "evil"),
        Case("a plugin, in a process of its own", plugin, "evil", fresh=True),
        Case("a success", lambda lab: "models", "nowhere"),
        Case("a refusal", lambda lab: "generate nowhere"),
        Case("another reason", lambda lab: "generate nowhere", "its weights"),
    ]

    found = untrusted.check(tmp_path, EFFORTS["quick"], cases)

    assert found.held == 0
    said = "error: nowhere: no such run folder or checkpoint file"
    assert whys(found) == [
        "a plugin: EXECUTED",
        "a plugin, in a process of its own: EXECUTED",
        f"a success: exit code 0: {found.details[2].split(': ', 2)[2].split(' (')[0]}",
        f"a refusal: exit code 2: {said}",
        f"another reason: it does not say 'its weights': '{said}'",
    ]
    assert not found.holds


def test_the_control_what_asks_for_more_than_is_there_is_told(tmp_path: Path) -> None:
    """A model's name may be asked for: the hub is then the listener."""
    pytest.importorskip("transformers")
    line = f"{bad_sources.SOURCE} somebody/something --data.path text.txt"
    case = Case("a name", lambda lab: line, "did not give it", fresh=True)

    found = untrusted.check(tmp_path, EFFORTS["quick"], [case])

    assert whys(found) == ["a name: ASKED a server"]


def test_the_control_careless_reading_runs_what_is_read(tmp_path: Path) -> None:
    found = untrusted.check(tmp_path, EFFORTS["quick"], [Case("a list", _models)])
    assert found.holds
    assert found.control.endswith("their code ran")


def _models(lab: Lab) -> str:
    del lab
    return "models"


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in untrusted.CASES]
    assert len(names) == len(set(names)) > 110
