"""A run that was interrupted ends with the same bits as one that was not."""

import json
import signal
from pathlib import Path

import filelock
import pytest
import torch

from lmzoo import runs
from lmzoo.selftest import forks
from lmzoo.selftest.forks import Fuse
from lmzoo.training.telemetry import COLUMNS
from tests.cli.runner import SMALL, lmzoo

STEPS = 24
RECIPES = {
    "gpt": f"--model gpt {SMALL} --model.dropout 0.2 "
    "--trainer.accumulate_grad_batches 2",
    "lstm": "--model lstm --model.d_model 16 --model.d_hidden 16 --model.num_layers 2 "
    "--model.dropout 0.2 --model.context_length 16 --data.batch_size 4 "
    "--samples.length 8",
    "lstm-carried": "--model lstm --model.d_model 16 --model.d_hidden 16 "
    "--model.carry_state true --model.context_length 16 --data.batch_size 4 "
    "--samples.length 8",
    "muon": f"--model gpt {SMALL} --optimizer muon --lr_scheduler wsd",
    "adafactor": f"--model gpt {SMALL} --optimizer adafactor --lr_scheduler rsqrt "
    "--lr_scheduler.constant_steps 4 --optimizer.clip_threshold null",
    "muon-lstm": "--model lstm --model.d_model 16 --model.d_hidden 16 "
    "--model.context_length 16 --data.batch_size 4 --samples.length 8 "
    """--optimizer muon --freeze.rates {"*ih*":0.5}""",
    **{
        name + "-carried" * carried: f"--model {name} --model.d_model 16 "
        f"{sizes} --model.num_layers 2 --model.dropout 0.2 --data.batch_size 4 "
        f"--model.context_length 16 --samples.length 8"
        + " --model.carry_state true"
        * carried
        for name, sizes in (
            ("mingru", "--model.d_hidden 16"),
            ("mamba2", "--model.num_heads 2 --model.d_head 8 --model.d_state 4"),
        )
        for carried in (False, True)
    },
    "ema": f"--model gpt {SMALL} --model.dropout 0.2 --ema.decay 0.9",
    "batch-size-schedule": f"--model gpt {SMALL} "
    """--data.batch_size_schedule {"4":6,"11":2} """
    "--trainer.accumulate_grad_batches 2",
}


def command(recipe: str, text: Path, folder: Path) -> str:
    return (
        f"fit {RECIPES[recipe]} --data.path {text} --trainer.max_steps {STEPS} "
        f"--trainer.val_check_interval 6 --trainer.log_every_n_steps 4 "
        f"--checkpoints.every_n_steps 5 --trainer.default_root_dir {folder}"
    )


def final(folder: Path) -> dict:
    return runs.read_checkpoint(folder / "checkpoints" / runs.checkpoint_name(STEPS))


def assert_same(left: dict, right: dict) -> None:
    for state in ("state_dict", "current_model_state", "averaging_state"):
        assert (state in left) == (state in right)
        for name, tensor in left.get(state, {}).items():
            assert torch.equal(tensor, right[state][name]), name
    for mine, other in zip(
        left["optimizer_states"], right["optimizer_states"], strict=True
    ):
        for key, moments in mine["state"].items():
            for name, tensor in moments.items():
                assert torch.equal(tensor, other["state"][key][name]), (key, name)
    assert left["lr_schedulers"] == right["lr_schedulers"]
    assert left["TextDataModule"] == right["TextDataModule"]
    callbacks = zip(
        sorted(left["callbacks"].items()),
        sorted(right["callbacks"].items()),
        strict=True,
    )
    for (name, mine), (_, other) in callbacks:
        drop = ("seconds", "tokens_per_second", "loss")
        assert {k: v for k, v in mine.items() if k not in drop} == {
            k: v for k, v in other.items() if k not in drop
        }, name


ALL = ("gpt", "lstm", "lstm-carried", "mingru-carried")  # the others from one step


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_resuming_from_any_kept_step_ends_bit_identical(
    recipe: str, story: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    assert lmzoo(command(recipe, story, whole)).code == 0
    expected = final(whole)
    curve = (whole / "metrics.csv").read_text().splitlines()
    kept = sorted((whole / "checkpoints").glob("*.ckpt"))
    assert len(kept) >= 5
    for file in kept[:-1] if recipe in ALL else kept[2:3]:
        again = tmp_path / f"from-{file.stem}"
        result = lmzoo(
            f"fit --ckpt_path {file} --trainer.default_root_dir {again} "
            f"--trainer.log_every_n_steps 4"
        )
        assert result.code == 0, result.err
        assert_same(final(again), expected)
        step = int(file.stem[5:])
        mine = (again / "metrics.csv").read_text().splitlines()[1:]
        later = [row for row in curve[1:] if int(row.split(",")[0]) > step]
        assert without_speed(mine) == without_speed(later)


def without_speed(rows: list[str]) -> list[list[str]]:
    """All columns of metrics.csv but the time, which no two runs share."""
    column = COLUMNS.index("tokens_per_second")
    cells = [row.split(",") for row in rows]
    return [row[:column] + row[column + 1 :] for row in cells]


def test_the_time_since_the_last_validation_is_not_lost(
    story: Path, tmp_path: Path
) -> None:
    """A save between two validations, as an interruption makes it, banks the clock."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert lmzoo(command("gpt", story, whole)).code == 0
    file = whole / "checkpoints" / runs.checkpoint_name(5)  # no validation before
    callbacks = runs.read_checkpoint(file)["callbacks"]
    times = {name.partition("{")[0]: state for name, state in callbacks.items()}
    trained = sum(times["Telemetry"]["seconds"])
    assert times["Checkpoints"]["seconds"] >= trained > 0

    assert lmzoo(f"fit --ckpt_path {file} --trainer.default_root_dir {again}").code == 0
    summary = json.loads((again / "summary.json").read_text())
    told = summary["tokens"] / summary["tokens_per_second"]
    assert summary["seconds"] >= 0.99 * told


def test_the_control_a_wrong_position_is_noticed(story: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert lmzoo(command("gpt", story, whole)).code == 0
    file = whole / "checkpoints" / runs.checkpoint_name(10)
    content = runs.read_checkpoint(file)
    content["TextDataModule"]["position"] += 4
    moved = tmp_path / "moved" / "checkpoints" / file.name
    runs.write_checkpoint(content, moved)
    again = tmp_path / "again"
    result = lmzoo(f"fit --ckpt_path {moved} --trainer.default_root_dir {again}")
    assert result.code == 0, result.err
    with pytest.raises(AssertionError):
        assert_same(final(again), final(whole))


def test_a_killed_run_goes_on_with_the_same_command(
    story: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert lmzoo(command("gpt", story, whole)).code == 0
    saved = Fuse("pathlib:Path.replace", naming=runs.checkpoint_name(6), after=True)
    log = tmp_path / "killed.log"
    assert forks.command(command("gpt", story, killed), log, [saved]).killed
    assert runs.step_of(runs.newest_first(killed)[0]) == 6
    manifest = json.loads((killed / "manifest.json").read_text())
    assert manifest["status"] == "running"
    result = lmzoo(command("gpt", story, killed))
    assert result.code == 0, result.err
    assert "resuming" in result.err
    assert_same(final(killed), final(whole))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(
    number: signal.Signals, story: Path, tmp_path: Path
) -> None:
    whole, told = tmp_path / "whole", tmp_path / "told"
    line = command("gpt", story, told)  # two micro-batches to a step
    amid = Fuse("lmzoo.models.steps:TrainingSteps.training_step", 17, number=number)
    log = tmp_path / "told.log"
    ended = forks.command(line, log, [amid])
    assert ended.code == 128 + number
    assert "finishing this step" in log.read_text()
    assert runs.step_of(runs.newest_first(told)[0]) == 9  # saved where it stood
    assert "goes on after step 9" in ended.said
    assert lmzoo(line).code == 0
    assert lmzoo(command("gpt", story, whole)).code == 0
    assert_same(final(told), final(whole))


def test_the_last_step_is_measured_and_kept_when_a_run_is_extended(
    story: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    line = command("gpt", story, folder).replace("every_n_steps 5", "every_n_steps 0")
    short = line.replace(f"max_steps {STEPS}", "max_steps 9")  # validated at 6, and 9
    assert lmzoo(short).code == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"]["step"] == 9  # a text that is learned at every step
    rows = (folder / "metrics.csv").read_text().splitlines()
    column = COLUMNS.index("val/nll")
    measured = [row.split(",")[0] for row in rows[1:] if row.split(",")[column]]
    assert measured == ["6", "9"]
    stored = runs.load(folder, "last").checkpoint["callbacks"]
    best = next(state["best"] for key, state in stored.items() if "Checkpoints" in key)
    assert best["step"] == 9  # so that a longer run knows it


def test_a_run_is_trained_by_one_process_at_a_time(story: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    with filelock.FileLock(folder / ".lock"):
        result = lmzoo(command("gpt", story, folder))
        assert result.code == 2
        assert "another process" in result.err
    assert lmzoo(command("gpt", story, folder)).code == 0  # the control


def test_a_damaged_newest_checkpoint_is_skipped_and_said(
    story: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    assert lmzoo(command("gpt", story, folder)).code == 0
    newest = runs.newest_first(folder)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    longer = command("gpt", story, folder).replace(
        f"max_steps {STEPS}", f"max_steps {STEPS + 1}"
    )
    result = lmzoo(longer)
    assert result.code == 0, result.err
    assert "skipped" in result.err
    assert newest.name in result.err


def test_a_damaged_best_checkpoint_is_said_and_the_last_stands_for_it(
    story: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    assert lmzoo(command("gpt", story, folder)).code == 0
    newest = folder / "checkpoints" / runs.checkpoint_name(20)
    content = runs.read_checkpoint(newest)
    state = next(v for k, v in content["callbacks"].items() if "Checkpoints" in k)
    name = runs.checkpoint_name(5)
    state["best"] = {"file": name, "step": 5, "metrics": {"nll": 1e-3}}
    runs.write_checkpoint(content, newest)
    for file in runs.newest_first(folder):
        if runs.step_of(file) > 20:
            file.unlink()
    (folder / "checkpoints" / name).write_bytes(b"")  # and no digest at its end
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["status"] = "running"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = lmzoo(command("gpt", story, folder))
    assert result.code == 0, result.err
    assert "the best weights are lost, the last are kept" in result.err
    assert json.loads((folder / "summary.json").read_text())["best"]["step"] == STEPS


def test_no_run_goes_on_in_the_folder_of_another(story: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert lmzoo(command("gpt", story, one)).code == 0
    assert lmzoo(f"{command('gpt', story, other)} --seed_everything 7").code == 0
    before = sorted(file.name for file in (other / "checkpoints").iterdir())
    file = one / "checkpoints" / runs.checkpoint_name(10)
    result = lmzoo(f"fit --ckpt_path {file} --trainer.default_root_dir {other}")
    assert result.code == 2
    assert "holds a run with data.seed = 7, this one has 1337" in result.err
    assert sorted(file.name for file in (other / "checkpoints").iterdir()) == before
