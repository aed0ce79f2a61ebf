"""The size of a batch is a function of the position; its content too."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lmzoo.errors import UsageError
from lmzoo.text.loader import WindowLoader
from lmzoo.text.sizes import BatchSizes
from tests.cli.runner import lmzoo

TOKENS = np.arange(500, dtype=np.uint16)


def seen(sizes: BatchSizes, batches: int) -> list[int]:
    position, found = 0, []
    for _ in range(batches):
        found.append(sizes.at(position))
        position += found[-1]
    return found


def test_sizes_change_at_the_optimizer_steps_that_were_named() -> None:
    sizes = BatchSizes(4, {3: 6, 5: 2})
    assert seen(sizes, 8) == [4, 4, 4, 6, 6, 2, 2, 2]
    accumulated = BatchSizes(4, {3: 6, 5: 2}, batches=2)
    assert seen(accumulated, 12) == [4] * 6 + [6] * 4 + [2] * 2
    assert seen(BatchSizes(4), 3) == [4, 4, 4]


def test_palms_schedule_read_from_json() -> None:
    sizes = BatchSizes(512, {"50000": 1024, "115000": 2048})  # type: ignore[dict-item]
    first = 50_000 * 512
    second = first + 65_000 * 1024
    assert [sizes.at(p) for p in (0, first - 512, first, second)] == [
        512, 512, 1024, 2048
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["random", "epoch"])
def test_a_resumed_loader_gives_the_batches_of_one_that_was_not(order: str) -> None:
    sizes = BatchSizes(4, {2: 6, 4: 2})
    whole = WindowLoader(TOKENS, 8, 4, order, sizes=sizes)
    batches = [batch for batch, _ in zip(whole, range(7), strict=False)]
    assert [len(batch.tokens) for batch in batches] == [4, 4, 6, 6, 2, 2, 2]
    for number, batch in enumerate(batches):
        again = WindowLoader(TOKENS, 8, 4, order, position=batch.position, sizes=sizes)
        for left, right in zip(again, batches[number:], strict=False):
            assert left.position == right.position
            assert torch.equal(left.tokens, right.tokens)
    other = WindowLoader(TOKENS, 8, 4, order)  # the control: no schedule
    assert len(other.batch(batches[2].position).tokens) == 4


def test_ranks_see_together_what_one_process_sees() -> None:
    sizes = BatchSizes(4, {2: 8})
    one = WindowLoader(TOKENS, 8, 4, sizes=sizes)
    two = [
        WindowLoader(TOKENS, 8, 4, rank=r, world_size=2, sizes=sizes) for r in (0, 1)
    ]
    for position in (0, 4, 8, 16):
        together = torch.cat([loader.batch(position).tokens for loader in two])
        assert torch.equal(together, one.batch(position).tokens)


def test_what_cannot_be_is_refused() -> None:
    for schedule in ({0: 4}, {5: 0}, {-1: 2}, {"abc": 7}, {"3": "x"}, {5: 1.5}):
        with pytest.raises(UsageError, match=r"batch_size_schedule: .* 1 or more"):
            BatchSizes(4, schedule)  # type: ignore[arg-type]
    for sizes, option in (
        ((10**14, None), "--data.batch_size"),
        ((4, {3: 10**14}), "--data.batch_size_schedule"),
    ):
        with pytest.raises(UsageError, match=f"^{option} 100000000000000: more than"):
            BatchSizes(*sizes)
    assert BatchSizes(1 << 20).at(0) == 1 << 20
    with pytest.raises(UsageError, match="batch_size: 7 windows do not divide among 2"):
        BatchSizes(7).require_multiples(2)
    with pytest.raises(UsageError, match="batch_size_schedule: 7 windows do not"):
        WindowLoader(TOKENS, 8, 4, world_size=2, sizes=BatchSizes(4, {3: 7}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--model gpt", '{"3":7}', 2), "--data.batch_size_schedule: 7 windows do not"),
        (("--model lstm --model.carry_state true", '{"3":6}', 1), "a carried state"),
        (("--model gpt", '{"abc":7}', 1), "expected a whole number, given abc"),
    ],
)
def test_a_schedule_is_refused_before_the_folder_is_written(
    given: tuple[str, str, int], said: str, story: Path, tmp_path: Path
) -> None:
    model, schedule, devices = given
    result = lmzoo(
        f"fit {model} --data.path {story} --data.batch_size 4 "
        f"--data.batch_size_schedule {schedule} --trainer.accelerator cpu "
        f"--trainer.devices {devices} --trainer.default_root_dir {tmp_path / 'run'}"
    )

    assert result.code == 2
    (error,) = [line for line in result.err.splitlines() if "error" in line]
    assert said in error
    assert not (tmp_path / "run").exists()
