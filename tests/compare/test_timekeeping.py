"""A budget in seconds, with a clock that is made up: nothing trains here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmzoo.compare import timekeeping
from lmzoo.compare.plan import Cell, Comparison

BUDGET = 10.0
Took = Callable[[str, int], float]  # (cell, how often it ran before) -> s per step


class Machine:
    """Cells that only take time: what fit leaves behind, and the records."""

    def __init__(self, folder: Path, took: Took, **changes: Any) -> None:
        given: dict[str, Any] = {"models": ("ff",), "seeds": (1, 2, 3)}
        self.comparison = Comparison(budget=("seconds", BUDGET), **given | changes)
        self.folder, self.took = folder, took
        self.ran: list[tuple[str, int]] = []
        self.records = {
            cell.name: {"status": "waiting", "mark": "", "note": ""}
            for cell in self.comparison.cells()
        }

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.records[name]

    def write(self) -> None:
        """Nothing: these records are kept."""

    def run(self, cells: list[Cell]) -> None:
        """As the launcher and the collector do; 100 steps are what fit would guess."""
        for cell in cells:
            steps = cell.variant.options.get("trainer.max_steps", 100)
            own = "budget.seconds" in cell.variant.options
            assert own == ("trainer.max_steps" not in cell.variant.options)
            before = [name for name, _ in self.ran].count(cell.name)
            seconds = steps * self.took(cell.name, before)
            self.ran.append((cell.name, steps))
            run = self.folder / cell.run
            run.mkdir(parents=True)
            identity = {"budget.seconds": BUDGET} if own else {}
            manifest = {"max_steps": steps, "status": "finished", "identity": identity}
            (run / "manifest.json").write_text(json.dumps(manifest))
            summary = {"steps": steps, "seconds": seconds}
            (run / "summary.json").write_text(json.dumps(summary))
            record = self[cell.name]
            stopped = record.get("stopped", f"all {steps} steps")
            record.update(summary, status="done", stopped=stopped)
            record["deviation"] = timekeeping.deviation(record, BUDGET)

    def keep(self) -> None:
        timekeeping.keep(self.comparison.cells(), self, self.run)


def test_a_good_rehearsal_gives_all_seeds_its_steps(tmp_path: Path) -> None:
    machine = Machine(tmp_path, lambda name, before: 0.102)
    machine.keep()
    assert machine.ran == [("ff-1", 100), ("ff-2", 100), ("ff-3", 100)]
    assert [round(machine[n]["deviation"], 3) for n in machine.records] == [0.02] * 3


def test_a_wrong_rehearsal_is_mended_by_what_the_cell_took(tmp_path: Path) -> None:
    """12.5 s of 10: once more with 80 steps, and the other seeds take as many."""
    machine = Machine(tmp_path, lambda name, before: 0.125)
    machine.keep()
    assert machine.ran == [("ff-1", 100), ("ff-1", 80), ("ff-2", 80), ("ff-3", 80)]
    assert not any(map(timekeeping.missed, machine.records.values()))
    first = json.loads((tmp_path / "outside" / "ff-1" / "summary.json").read_text())
    assert first["seconds"] == 12.5


def test_a_disturbed_seed_is_trained_again_as_it_was(tmp_path: Path) -> None:
    machine = Machine(
        tmp_path, lambda name, n: 0.15 if (name, n) == ("ff-2", 0) else 0.1
    )
    machine.keep()
    assert machine.ran.count(("ff-2", 100)) == 2
    assert {steps for _, steps in machine.ran} == {100}
    assert machine["ff-2"]["deviation"] == pytest.approx(0)


def test_on_a_machine_that_became_slower_a_seed_takes_fewer_steps(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, lambda name, before: 0.15 if name == "ff-2" else 0.1)
    machine.keep()
    assert [steps for name, steps in machine.ran if name == "ff-2"] == [100, 100, 67]
    assert not any(map(timekeeping.missed, machine.records.values()))


def restless(name: str, before: int) -> float:
    """One cell that nothing foretells: slower every time."""
    return 0.1 * 1.5**before if name == "ff-2" else 0.1


def test_what_is_outside_to_the_last_is_left_and_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path, lambda name, n: restless(name, n + 1))
    machine.keep()
    assert [name for name, _ in machine.ran].count("ff-2") == timekeeping.ATTEMPTS
    missed = [name for name in machine.records if timekeeping.missed(machine[name])]
    assert missed == ["ff-2"]


def test_a_quieter_sitting_tries_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, lambda name, n: restless(name, n + 1) if n < 3 else 0.1)
    machine.keep()
    timekeeping.again(machine.comparison.cells(), machine)
    assert [machine[name]["status"] for name in machine.records] == [
        "done",
        "waiting",
        "done",
    ]
    machine.keep()
    assert machine.ran[-1] == ("ff-2", 100)
    assert len(machine.ran) == 6
    assert not any(map(timekeeping.missed, machine.records.values()))


def test_a_first_seed_that_was_disturbed_misleads_nobody(tmp_path: Path) -> None:
    """Slow once, then quick: its second attempt is too short, its third is not."""
    machine = Machine(
        tmp_path, lambda name, n: 0.2 if (name, n) == ("ff-1", 0) else 0.1
    )
    machine.keep()
    assert [steps for _, steps in machine.ran] == [100, 50, 100, 100, 100]
    assert not any(map(timekeeping.missed, machine.records.values()))


def test_an_interrupted_comparison_goes_on_alike(tmp_path: Path) -> None:
    """Stopped after the first attempt was put aside: its time is not forgotten."""
    machine = Machine(tmp_path, lambda name, before: 0.125)
    run = machine.run

    def interrupted(cells: list[Cell]) -> None:
        if machine.ran:
            raise KeyboardInterrupt
        run(cells)

    machine.run = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        machine.keep()
    machine.run = run  # type: ignore[method-assign]
    machine.keep()
    assert machine.ran == [("ff-1", 100), ("ff-1", 80), ("ff-2", 80), ("ff-3", 80)]


def test_counting_and_early_stopping_keep_no_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path, lambda name, before: 0.02)
    for record in machine.records.values():
        record["stopped"] = "no better for 5 checks"
    machine["ff-3"].update(mark="counting", stopped="all 1 steps")
    machine.keep()
    assert len(machine.ran) == 3
    assert {record["deviation"] for record in machine.records.values()} == {None}
