"""A disk that cannot hold a run's checkpoints is told before the first step."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from torch import nn

from lmzoo.cli import room
from tests.cli.runner import SMALL, lmzoo

Disk = namedtuple("Disk", "total used free")


def test_the_size_is_of_weights_and_two_averages() -> None:
    model = nn.Linear(10, 10, bias=False)
    assert room.size(model) == 3 * 400
    model.requires_grad_(False)
    assert room.size(model) == 400


@pytest.mark.parametrize(("total", "free", "code"), [(9, 9, 2), (9, 1e9, 0), (0, 0, 0)])
def test_a_full_disk_is_told_before_anything_is_written(
    total: int,
    free: int,
    code: int,
    story: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The controls: enough room, and a file system that does not say."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(total, 0, free))
    folder = tmp_path / "new" / "run"
    line = f"fit --model gpt {SMALL} --data.path {story} --trainer.max_steps 1"
    result = lmzoo(f"{line} --trainer.default_root_dir {folder}")
    assert result.code == code, result.err
    assert ("3 checkpoints take" in result.err) == (code == 2)
    assert folder.exists() == (code == 0)


def test_a_model_that_no_memory_holds_is_told_before_it_is_built(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"fit --model palm --model.preset palm-540b --data.path {story}"
    result = lmzoo(f"{line} --trainer.default_root_dir {tmp_path / 'run'}")
    assert result.code == 2
    assert "--model palm: 535," in result.err
    assert not (tmp_path / "run").exists()
    small = f"fit --model gpt {SMALL} --data.path {story} --trainer.max_steps 1"
    folder = tmp_path / "small"
    monkeypatch.setattr(room, "memory", lambda: 1000)  # of a machine with a kilobyte
    assert "of memory" in lmzoo(f"{small} --trainer.default_root_dir {folder}").err
    monkeypatch.undo()
    assert lmzoo(f"{small} --trainer.default_root_dir {folder}").code == 0
