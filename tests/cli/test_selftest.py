"""``lmzoo selftest``: one line a check, a table, a page, and an exit code."""

import contextlib
import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmzoo.cli import selftest
from lmzoo.selftest.outcome import EFFORTS, Outcome
from tests.cli.runner import lmzoo


def outcome(**changes) -> Outcome:
    given = {
        "name": "kills",
        "claim": "a killed run is the same run",
        "tried": 12,
        "held": 12,
        "control": "one batch too far",
        "stock": "0 of 7 the same",
        "control_failed": True,
        "details": [],
        "seconds": 1.5,
    }
    return Outcome(**{**given, **changes})


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """One check, whose outcome a test decides; what it was asked for."""
    asked = SimpleNamespace(outcome=outcome(), effort=None)

    def run(folder: Path, effort) -> Outcome:
        asked.effort = effort
        return asked.outcome

    monkeypatch.setattr(selftest, "CHECKS", {"kills": "a killed run is the same"})
    monkeypatch.setattr(selftest, "_check", lambda name: run)
    return asked


def test_what_holds(check: SimpleNamespace, tmp_path: Path) -> None:
    for file in ("page.html", "page.md"):
        result = lmzoo_selftest(f"--quick --report {tmp_path / file}")
        assert result.code == 0
        assert check.effort is EFFORTS["quick"]
        assert "holds   kills: 12 of 12 (1.5 s)\n" in result.out
        assert "        stock Lightning: 0 of 7 the same\n" in result.out
        assert "        control fails: one batch too far\n" in result.out
        text = (tmp_path / file).read_text(encoding="utf-8")
        for words in (
            "1 of 1 promise held",
            "12 of 12",
            "0 of 7 the same",
            "fails: one batch too far",
        ):
            assert words in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"held": 11, "details": ["gpt-4: tensors differ"]}, "gpt-4: tensors differ"),
        ({"control_failed": False}, "12 of 12, but the control passes"),
    ],
)
def test_what_is_broken(
    changes: dict, said: str, check: SimpleNamespace, tmp_path: Path
) -> None:
    check.outcome = outcome(**changes)
    result = lmzoo_selftest(f"--report {tmp_path / 'page.html'}")
    assert result.code == 1
    assert "BROKEN  kills" in result.out
    assert said in result.out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What failed: kills" in page


def test_a_check_that_breaks_off_leaves_the_others_their_say(
    check: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, effort) -> Outcome:
        raise RuntimeError("no run\nto start from")

    both = {"kills": "a killed run is the same", "saves": "no file is torn"}
    monkeypatch.setattr(selftest, "CHECKS", both)
    sound = selftest._check("kills")
    each = {"kills": broken, "saves": sound}
    monkeypatch.setattr(selftest, "_check", each.__getitem__)
    result = lmzoo_selftest(f"--report {tmp_path / 'page.html'}")
    assert result.code == 1
    assert "BROKEN  kills: broke off (0.0 s)\n" in result.out
    assert "        RuntimeError: no run to start from\n" in result.out
    assert "holds   kills: 12 of 12 (1.5 s)\n" in result.out
    assert "\nall of it took 2 seconds\n" in result.out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "RuntimeError: no run to start from" in page
    assert "1 of 2 promises held in every case: 12 of 13 cases" in page
    kept = Path(result.out.split("to look at: ")[1].strip())
    assert "Traceback" in (kept / "kills.log").read_text(encoding="utf-8")
    shutil.rmtree(kept)


def test_a_page_that_cannot_be_written_is_told_first(
    check: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = lmzoo(f"selftest --report {tmp_path / 'file' / 'page.md'}")
    assert result.code == 2
    assert "page.md: Not a directory; choose another folder" in result.err
    assert check.effort is None
    made = lmzoo_selftest(f"--report {tmp_path / 'new' / 'page.md'}")
    assert made.code == 0
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.md"]


def test_elsewhere_than_on_linux(
    check: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "PLATFORM", "darwin")
    result = lmzoo("selftest --quick")
    assert result.code == 2
    assert result.err.startswith("error: selftest: needs Linux")
    assert check.effort is None


def test_what_was_skipped_breaks_nothing(check: SimpleNamespace) -> None:
    check.outcome = outcome(skipped="needs two cores")
    result = lmzoo_selftest("--long")
    assert result.code == 0
    assert check.effort is EFFORTS["long"]
    assert "skipped kills: needs two cores" in result.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--only kill", "no check 'kill'"),
        ("--report page.pdf", "ends in .html or .md"),
        ("--quick --long", "not allowed with"),
        ("--nope", "--nope"),
    ],
)
def test_mistakes(line: str, said: str) -> None:
    result = lmzoo(f"selftest {line}")
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


def lmzoo_selftest(line: str):
    """The command itself, with what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = selftest.run(line.split())
    return SimpleNamespace(code=code, out=out.getvalue())
