"""Curves and figures from what a run wrote down, whole or not."""

from pathlib import Path

from lmzoo.web import training

HEAD = "step,train/nll,val/nll,lr\n"


def test_curves_are_drawn_from_a_torn_log(tmp_path: Path) -> None:
    rows = "1,3.0,,0.1\n2,nan,,0.1\n2,,2.5,\n3,2.0,,0.2\n4,1.9"
    (tmp_path / "metrics.csv").write_text(HEAD + rows)
    found = training._columns(tmp_path / "metrics.csv")
    loss, rate = training.charts(tmp_path)

    assert found["train/nll"] == ([1.0, 3.0, 4.0], [3.0, 2.0, 1.9])
    assert found["val/nll"] == ([2.0], [2.5])
    assert "validation" in loss
    assert "Learning rate" in rate


def test_a_long_log_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    rows = "".join(f"{i},{1 / i},,\n" for i in range(1, 1002))
    (tmp_path / "metrics.csv").write_text(HEAD + rows)
    steps, values = training._columns(tmp_path / "metrics.csv")["train/nll"]

    assert len(steps) == 334
    assert steps[-1] == 1001
    assert values == [1 / step for step in steps]


def test_nothing_is_made_up(tmp_path: Path) -> None:
    assert training.charts(tmp_path) == []
    assert training.figures(tmp_path) == []
    (tmp_path / "summary.json").write_text("{broken")
    assert training.figures(tmp_path) == []
    (tmp_path / "summary.json").write_text('{"steps": 12, "best": null}')
    assert training.figures(tmp_path) == [("steps", "12")]
