"""A finished run becomes a record whose sums are those of its summary."""

import json
import math
import signal
from pathlib import Path

import numpy as np
import pytest

from lmzoo.compare.collect import collect
from lmzoo.compare.results import as_csv, flag_overtime, flag_twins
from lmzoo.errors import UsageError
from tests.cli.runner import lmzoo

LINE = (
    "--trainer.max_steps 6 --trainer.val_check_interval 2 --data.batch_size 4 "
    "--model.context_length 16 --samples.length 8"
)
MODELS = {
    "gpt": "--model.d_model 16 --model.num_layers 1 --model.num_heads 2",
    "ff": "--model.d_model 8 --model.d_hidden 16",
    "lstm": "--model.d_model 8 --model.d_hidden 8",
    "carried": "--model.d_model 8 --model.d_hidden 8 --model.carry_state true",
    "ngram": "",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text whose letters have one, two and three bytes."""
    folder = tmp_path_factory.mktemp("collect")
    words = "it was the best of times – naïve it was the worst of times\n"
    text = "".join(f"{number} {words[number % 40 :]}" for number in range(260))
    (folder / "t.txt").write_text(text, encoding="utf-8")
    return folder


def trained(folder: Path, name: str) -> Path:
    """The run of one of ``MODELS``, trained once."""
    run = folder / name
    if not run.exists():
        model = "lstm" if name == "carried" else name
        result = lmzoo(
            f"fit --model {model} {MODELS[name]} {LINE} --data.path {folder}/t.txt "
            f"--trainer.default_root_dir {run}"
        )
        assert result.code == 0, result.err
    return run


@pytest.mark.parametrize("name", list(MODELS))
def test_the_blocks_add_up_to_the_summary(folder: Path, name: str) -> None:
    run = trained(folder, name)
    record = collect(run)
    best = json.loads((run / "summary.json").read_text())["best"]["metrics"]
    nats = sum(record["blocks"])

    def close(value: float) -> object:
        return pytest.approx(value, rel=1e-9)

    assert nats / sum(record["block_targets"]) == close(best["nll"])
    bits = nats / math.log(2)
    assert bits / sum(record["block_chars"]) == close(best["bits_per_char"])
    assert bits / sum(record["block_bytes"]) == close(best["bits_per_byte"])
    assert sum(record["block_bytes"]) > sum(record["block_chars"])
    assert len(record["blocks"]) == 64
    assert max(record["block_targets"]) - min(record["block_targets"]) <= 1
    json.dumps(record, allow_nan=False)


def test_carried_rows_are_put_back_in_the_order_of_the_text(folder: Path) -> None:
    """The same text in the same blocks: characters and bytes agree across protocols."""
    carried, fresh = (collect(trained(folder, name)) for name in ("carried", "lstm"))

    assert carried["protocol"] != fresh["protocol"]
    for key in ("block_targets", "block_chars", "block_bytes"):
        assert carried[key] == fresh[key]
    assert carried["blocks"] != fresh["blocks"]


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_loss_by_position_averages_to_the_loss_of_fresh_windows(
    folder: Path, name: str
) -> None:
    record = collect(trained(folder, name))
    positions, targets = record["position_nll"], sum(record["block_targets"])
    counts = [targets // 16 + (place < targets % 16) for place in range(16)]

    assert len(positions) == 16
    mean = np.average(positions, weights=counts)
    assert mean == pytest.approx(record["best"]["nll"], rel=1e-9)


def test_the_record_says_what_was_spent(folder: Path) -> None:
    record = collect(trained(folder, "gpt"))

    assert record["steps"] == 6
    assert record["tokens"] == 6 * 4 * 16
    assert record["training_flops"] == record["tokens"] * record["flops_per_token"]
    assert 0 < record["parameters_without_embeddings"] < record["parameters"]
    assert record["peak_memory"] > 50e6
    assert 0 < record["mfu"] == record["hfu"] < 1
    assert [point["step"] for point in record["curve"]] == [2, 4, 6]
    seconds = [point["seconds"] for point in record["curve"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2] <= record["seconds"] * 1.5
    assert record["best"]["nll"] == min(point["nll"] for point in record["curve"])
    ends = record["curve"][-1], record["last"]
    for name in ("bits_per_byte", "accuracy"):
        assert ends[0][name] == pytest.approx(ends[1][name])
    assert set(record["versions"]) == {"torch", "lightning"}
    assert record["sample"]
    assert record["other"] is None
    assert "carried" in collect(trained(folder, "lstm"))["other"]["protocol"]


def test_what_counts_has_no_training_figures(folder: Path) -> None:
    record = collect(trained(folder, "ngram"))

    assert record["flops_per_token"] is None
    assert record["stopped"] == "counted once"
    assert record["parameters"] > 0


def test_a_changed_text_is_refused(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    text = tmp_path / "t.txt"
    text.write_text((folder / "t.txt").read_text())
    line = f"--data.path {text} --trainer.default_root_dir {run}"
    lmzoo(f"fit --model gpt {MODELS['gpt']} {LINE} {line}")
    collect(run)

    text.write_text(text.read_text() + "one more line\n" * 9)
    with pytest.raises(UsageError, match="the text changed"):
        collect(run)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UsageError, match="not finished"):
        collect(tmp_path)


def cell(name: str, axes: dict, losses: list[float], **changes) -> dict:
    """A record with little in it."""
    curve = [{"step": step, "nll": nll} for step, nll in enumerate(losses)]
    record = {"name": name, "label": name, "model": "gpt", "seed": 1, "axes": axes}
    record |= {"status": "done", "curve": curve, "train_curve": [], "blocks": losses}
    record |= {"stopped": "all 2 steps done", "note": "", "best": {"nll": losses[-1]}}
    return {**record, **changes}


def test_an_axis_that_changed_nothing_is_noted() -> None:
    cells = [
        cell("a", {"x": 1}, [2.0, 1.0]),
        cell("b", {"x": 2}, [2.0, 1.0]),
        cell("c", {"x": 3}, [2.0, 1.1]),
        cell("d", {"x": 1}, [2.0, 1.0], seed=2),
    ]
    flag_twins(cells)

    assert "b" in cells[0]["note"]
    assert "a" in cells[1]["note"]
    assert [c["note"] for c in cells[2:]] == ["", ""]


def test_a_cell_that_overran_its_seconds_is_noted() -> None:
    cells = [
        cell("a", {}, [1.0], seconds=10.4, mark="", deviation=0.04),
        cell("b", {}, [1.0], seconds=14.0, mark="", deviation=0.4),
        cell("c", {}, [1.0], seconds=0.1, mark="counting", deviation=None),
    ]
    flag_overtime(cells)
    assert [c["note"][:18] for c in cells] == ["", "trained for 14.0 s", ""]


def test_the_csv_has_a_row_for_each_cell() -> None:
    text = as_csv([cell("a", {"x": 1}, [2.0]), cell("b", {"x": 2}, [1.5])], ["x"])
    head, one, other = (line.split(",") for line in text.splitlines())

    assert one[head.index("name")] == "a"
    assert other[head.index("x")] == "2"
    assert other[head.index("best.nll")] == "1.5"


def test_ctrl_c_while_measuring_stays_an_interruption(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    run = trained(folder, "gpt")
    monkeypatch.setattr("lmzoo.models.base.LanguageModel.validation_step", pressed)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):  # and not Lightning's SystemExit(1)
            collect(run)
    finally:
        signal.signal(signal.SIGINT, before)
