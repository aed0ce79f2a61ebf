"""What a run writes down: metrics.csv, TensorBoard, samples."""

import csv
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lmzoo.training.telemetry import MetricsFile
from tests.cli.runner import fit


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_rows_beyond_the_resumed_step_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path)
    for step in (5, 10, 15):
        first.log_metrics({"train/nll": step / 10}, step)
    again = MetricsFile(path, resumed_step=10)
    assert len(rows(path)) == 3  # nothing is touched before there is something to add
    again.log_metrics({"train/nll": 1.4}, 15)
    assert [(r["step"], r["train/nll"]) for r in rows(path)] == [
        ("5", "0.5"),
        ("10", "1.0"),
        ("15", "1.4"),
    ]


def test_damaged_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsFile(path).log_metrics({"train/nll": 0.5}, 5)
    with path.open("ab") as file:
        file.write(b"7,\xff\n8," + b"9" * 200_000 + b"\n\xff,1.0\n")
    MetricsFile(path, resumed_step=9).log_metrics({"train/nll": 1.0}, 10)
    assert [row["step"] for row in rows(path)] == ["5", "7", "10"]


def test_a_row_that_stands_already_is_not_written_twice(tmp_path: Path) -> None:
    """A run that is killed after its last row trains nothing when it goes on."""
    path = tmp_path / "metrics.csv"
    MetricsFile(path).log_metrics({"train/nll": 1.0, "tokens_per_second": 9.0}, 10)
    again = MetricsFile(path, resumed_step=10)
    again.log_metrics({"train/nll": 1.0, "tokens_per_second": 7.0}, 10)
    again.log_metrics({"val/nll": 1.5}, 10)  # the control: a figure that was missing
    told = [(r["step"], r["train/nll"], r["val/nll"]) for r in rows(path)]
    assert told == [("10", "1.0", ""), ("10", "", "1.5")]


def test_a_new_name_becomes_a_column(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path)
    log.log_metrics({"train/nll": 1.0}, 1)
    log.log_metrics({"mine": 2.0}, 2)
    assert [(r["train/nll"], r["mine"]) for r in rows(path)] == [
        ("1.0", ""),
        ("", "2.0"),
    ]


def test_tensorboard_holds_scalars_samples_and_the_best(
    story: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    fit(
        f"--data.path {story} --trainer.max_steps 6 --trainer.val_check_interval 3 "
        f"--trainer.log_every_n_steps 2 --trainer.default_root_dir {folder}"
    )
    events = EventAccumulator(str(folder))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {
        "train/nll",
        "val/nll",
        "val/perplexity",
        "val/bits_per_char",
        "val/bits_per_byte",
        "val/accuracy",
        "val/accuracy_top5",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "best/bits_per_char",
    } <= scalars
    assert [event.step for event in events.Scalars("val/nll")][:2] == [3, 6]
    assert any("sample" in tag for tag in events.Tags()["tensors"])
    texts = sorted((folder / "samples").glob("*.txt"))
    assert [text.name for text in texts] == ["step-000000003.txt", "step-000000006.txt"]
    assert all(text.read_text(encoding="utf-8") for text in texts)


def test_what_training_adds_to_the_loss_is_logged_apart(
    story: Path, tmp_path: Path
) -> None:
    """The z-loss has a column of its own; the training loss does not hold it."""
    found = {}
    for weight in (0.0, 1.0):
        folder = tmp_path / str(weight)
        fit(
            f"--model palm --model.d_model 16 --model.num_layers 1 --data.path {story} "
            f"--model.z_loss {weight} --optimizer.lr 1e-12 --samples.length 0 "
            f"--trainer.max_steps 2 --trainer.log_every_n_steps 1 "
            f"--trainer.default_root_dir {folder}"
        )
        found[weight] = [r for r in rows(folder / "metrics.csv") if r["train/nll"]]
    assert "train/z_loss" not in found[0.0][0]
    for plain, penalised in zip(found[0.0], found[1.0], strict=True):
        assert float(penalised["train/z_loss"]) > 5  # about log^2 V
        apart = float(plain["train/nll"]) - float(penalised["train/nll"])
        assert abs(apart) < 1e-5
