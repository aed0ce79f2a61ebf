from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.errors import UsageError
from lmzoo.text.loader import ORDERS, Batch, EvalLoader, WindowLoader

quick = settings(max_examples=60, deadline=None)


def tokens(n):
    """Every token is its own place, so that a batch tells where it was taken."""
    return np.arange(n, dtype=np.uint16)


def counted(batches):
    """How often each target was counted; each must follow its input."""
    found = []
    for batch in batches:
        assert batch.tokens.dtype == batch.targets.dtype == torch.int64
        assert batch.tokens.shape == batch.targets.shape
        kept = batch.targets != -100
        assert torch.equal(batch.targets[kept], batch.tokens[kept] + 1)
        found += batch.targets[kept].tolist()
    return sorted(found)


def joined(parts):
    """The ranks' shares of one batch put together."""
    assert len({(part.position, part.first) for part in parts}) == 1
    return torch.cat([part.tokens for part in parts]), torch.cat(
        [part.targets for part in parts]
    )


def same(a: Batch, b: Batch):
    return (
        torch.equal(a.tokens, b.tokens)
        and torch.equal(a.targets, b.targets)
        and a[2:] == b[2:]
    )


@quick
@given(
    n=st.integers(2, 200),
    length=st.integers(1, 40),
    size=st.integers(1, 9),
    overlap=st.integers(0, 30),
    streams=st.none() | st.integers(1, 9),
    world=st.integers(1, 3),
)
def test_evaluation_counts_every_target_once(n, length, size, overlap, streams, world):
    def loader(rank=0, world_size=1):
        return EvalLoader(tokens(n), length, size, overlap, streams, rank, world_size)

    alone = list(loader())
    assert len(alone) == len(loader())
    assert counted(alone) == list(range(1, n))
    ranks = [list(loader(rank, world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(alone)}
    for whole, *parts in zip(alone, *ranks, strict=True):
        inputs, targets = joined(parts)
        rows = len(whole.tokens)
        assert torch.equal(inputs[:rows], whole.tokens)
        assert torch.equal(targets[:rows], whole.targets)
        assert (targets[rows:] == -100).all()  # what makes the shares equal


def test_the_check_sees_a_target_counted_twice():  # the control of the test above
    batches = list(EvalLoader(tokens(50), 8, 4))
    assert counted(batches) != counted([*batches, batches[-1]])
    assert counted(batches) != counted(batches[:-1])


@quick
@given(n=st.integers(2, 150), length=st.integers(1, 20), overlap=st.integers(0, 20))
def test_each_target_has_its_context(n, length, overlap):
    for batch in EvalLoader(tokens(n), length, 4, overlap):
        for row, targets in zip(batch.tokens, batch.targets, strict=True):
            first = int((targets != -100).nonzero()[0])
            begin = int(row[first]) // length * length
            assert row[first] == begin
            assert first == min(overlap, begin)


def test_carried_streams_are_contiguous():
    batches = list(EvalLoader(tokens(101), 8, 99, streams=4))
    assert [batch.first for batch in batches] == [True, False, False, False]
    rows = torch.cat([batch.tokens for batch in batches], 1)
    for row, begin in zip(rows, (0, 25, 50, 75), strict=True):
        assert row[:25].tolist() == list(range(begin, begin + 25))


def test_overlap_is_not_used_with_carried_state():
    carried = EvalLoader(tokens(101), 8, 4, overlap=5, streams=4)
    assert next(iter(carried)).tokens.shape == (4, 8)


@quick
@given(
    order=st.sampled_from(ORDERS),
    n=st.integers(30, 300),
    length=st.integers(1, 20),
    share=st.integers(1, 4),
    world=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    start=st.integers(0, 20),
)
def test_training_batches(order, n, length, share, world, seed, start):
    size = share * world

    def loader(position=0, rank=0, world_size=1):
        return WindowLoader(
            tokens(n), length, size, order, seed, position, rank, world_size
        )

    whole = list(islice(loader(), start + 3))
    assert [batch.position for batch in whole] == [size * i for i in range(len(whole))]
    counted(whole)
    resumed = list(islice(loader(start * size), 3))
    assert all(same(a, b) for a, b in zip(resumed, whole[start:], strict=True))
    ranks = [islice(loader(0, rank, world), len(whole)) for rank in range(world)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        inputs, targets = joined(parts)
        assert torch.equal(inputs, batch.tokens)
        assert torch.equal(targets, batch.targets)


@pytest.mark.parametrize("order", ORDERS)
def test_position_and_seed_matter(order):  # the control of the test above
    one = WindowLoader(tokens(500), 8, 4, order, seed=1)
    assert not same(one.batch(0), one.batch(4)._replace(position=0, first=True))
    if order != "stream":
        assert not same(
            one.batch(0), WindowLoader(tokens(500), 8, 4, order, 2).batch(0)
        )


@quick
@given(n=st.integers(10, 300), length=st.integers(1, 9), size=st.integers(1, 7))
def test_an_epoch_counts_every_target_once(n, length, size):
    one = WindowLoader(tokens(n), length, size, "epoch")
    windows = one.samples_per_epoch
    rows = [
        Batch(batch.tokens[i : i + 1], batch.targets[i : i + 1], 0, True)
        for batch in islice(one, -(-2 * windows // size))
        for i in range(size)
    ]
    first, second = rows[:windows], rows[windows : 2 * windows]
    assert counted(first) == counted(second) == list(range(1, n))
    if windows > 20:
        assert [int(row.tokens[0, 0]) for row in first] != [
            int(row.tokens[0, 0]) for row in second
        ]


@quick
@given(n=st.integers(10, 300), length=st.integers(1, 9), size=st.integers(1, 7))
def test_two_epochs_of_the_stream_miss_nothing(n, length, size):
    one = WindowLoader(tokens(n), length, size, "stream")
    number = one.samples_per_epoch // size
    first = list(islice(one, number))
    assert [batch.first for batch in first] == [True] + [False] * (number - 1)
    assert one.batch(number * size).first
    found = counted(first)
    assert found == list(range(1, n - one.unused))
    both = set(found) | set(counted(islice(one, 2 * number)))
    assert both == set(range(1, n))
    rows = torch.cat([batch.tokens for batch in first], 1)
    valid = torch.cat([batch.targets for batch in first], 1) != -100
    assert (rows[:, 1:] - rows[:, :-1] == 1)[valid[:, 1:]].all()


def test_random_windows_are_uniform():
    one = WindowLoader(tokens(108), 8, 1000, "random", seed=3)
    starts = torch.cat([batch.tokens[:, 0] for batch in islice(one, 50)])
    counts = torch.bincount(starts, minlength=100).double()
    assert len(counts) == 100  # the first and the last place are reached
    chi_square = ((counts - 500) ** 2 / 500).sum()
    assert chi_square < 150  # 99 degrees of freedom: mean 99, deviation 14


def test_an_iteration_starts_at_the_position():
    one = WindowLoader(tokens(500), 8, 4)
    list(islice(one, 3))
    assert next(iter(one)).position == 0
    one.position = 40
    assert next(iter(one)).position == 40


def test_ids_of_four_bytes_and_read_only_maps(tmp_path):
    ids = np.arange(70_000, 70_100, dtype=np.uint32)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", np.uint32, "r")
    batch = next(iter(WindowLoader(mapped, 8, 4)))
    assert int(batch.targets.max()) >= 70_000
    batch.tokens[0, 0] = 1  # a copy, not the map
    assert mapped.min() == 70_000


def test_refusals():
    with pytest.raises(UsageError, match="has 8 tokens, 9 are needed"):
        WindowLoader(tokens(8), 8, 1)
    WindowLoader(tokens(9), 8, 1)
    with pytest.raises(UsageError, match="has 1 tokens, 2 are needed"):
        EvalLoader(tokens(1), 8, 1)
    with pytest.raises(UsageError, match="do not divide among 2"):
        WindowLoader(tokens(99), 8, 3, world_size=2)
    with pytest.raises(UsageError, match="more rows than the 49"):
        WindowLoader(tokens(50), 8, 64, "stream")
    with pytest.raises(UsageError, match="position 6 of the stream"):
        WindowLoader(tokens(50), 8, 4, "stream").batch(6)
    with pytest.raises(ValueError, match="order"):
        WindowLoader(tokens(50), 8, 4, "shuffled")
    with pytest.raises(ValueError, match="rank 1 of world size 1"):
        WindowLoader(tokens(50), 8, 4, rank=1)
