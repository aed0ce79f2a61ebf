"""A sample of the malicious files; the check itself must notice what does run."""

from pathlib import Path

from lmzoo.selftest import untrusted
from lmzoo.selftest.lab import Case, Lab
from lmzoo.selftest.outcome import EFFORTS

SAMPLE = (
    "a pickled call, weights_only off by the environment",
    "a class path in Lightning's hyper-parameters",
    "a class path as a learning rate",
    "tensors stretched to terabytes",
    "an averaged gradient too short",
    "a pipe for a checkpoint",
    "tensors out of range",
    "a cache of Python objects",
    "a configuration with a Python tag",
)


def test_malicious_files_run_nothing_and_end_in_one_line(tmp_path: Path) -> None:
    cases = [case for case in untrusted.CASES if case.name in SAMPLE]
    assert len(cases) == len(SAMPLE)

    found = untrusted.check(tmp_path, EFFORTS["quick"], cases)

    assert found.details == []
    assert found.tried == found.held == len(SAMPLE)
    assert found.control_failed
    assert found.holds


def test_the_control_what_runs_or_fails_is_told(tmp_path: Path) -> None:
    def plugin(lab: Lab) -> str:  # a plugin is code: this one sets the marker
        return f"models --plugin {lab.folder / 'evil.py'}"

    cases = [
        Case("a plugin", plugin),
        Case("a success", lambda lab: "models"),
        Case("a refusal", lambda lab: "generate nowhere", works=True),
    ]

    found = untrusted.check(tmp_path, EFFORTS["quick"], cases)

    assert found.held == 0
    assert [line.split(" (")[0] for line in found.details] == [
        "a plugin: EXECUTED",
        f"a success: exit code 0: {found.details[1].split(': ', 2)[2].split(' (')[0]}",
        "a refusal: exit code 2: error: nowhere: no such run folder or checkpoint file",
    ]
    assert not found.holds


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in untrusted.CASES]
    assert len(names) == len(set(names)) > 100
