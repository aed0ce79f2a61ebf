import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmzoo.text.bloom import BASE, Bloom, Sample, mixed

HASH = st.integers(0, (1 << 64) - 1)


def hashes(count: int, seed: int = 0) -> np.ndarray:
    """Hashes of consecutive numbers: as alike as items can be."""
    return mixed(np.arange(seed * count, (seed + 1) * count, dtype=np.uint64) * BASE)


@pytest.mark.parametrize("bits_each", [10, 8])
def test_the_false_positive_rate_is_that_of_the_formula(bits_each: int) -> None:
    inside, strangers = hashes(300_000), hashes(300_000, seed=1)
    bloom = Bloom.of(inside, 1, len(inside) * bits_each // 8)
    assert bloom.holds(inside).all()
    measured = bloom.holds(strangers).mean()
    assert measured == pytest.approx(bloom.false_positive_rate, rel=0.05)
    assert measured == pytest.approx({10: 0.0094, 8: 0.0217}[bits_each], rel=0.06)


@given(st.lists(HASH, unique=True), st.integers(1, 40))
def test_no_item_is_missed_however_little_room_there_is(items, room) -> None:
    inside = np.array(items, np.uint64)
    bloom = Bloom.of(inside, 1, room)
    assert bloom.holds(inside).all()
    assert len(bloom.bits) <= max(room, 8)
    assert 0 <= bloom.false_positive_rate <= 1


def test_an_empty_filter_holds_nothing() -> None:
    bloom = Bloom.of(np.empty(0, np.uint64), 1, 100)
    assert bloom.false_positive_rate == 0
    assert not bloom.holds(hashes(100)).any()


@given(st.lists(st.lists(HASH)), st.integers(1, 20))
def test_a_sample_is_the_largest_that_fits(batches, room) -> None:
    sample = Sample(room)
    for batch in batches:
        sample.add(np.array(batch, np.uint64))
    distinct = {item for batch in batches for item in batch}
    every = 1
    while sum(item % every == 0 for item in distinct) > room:
        every *= 2
    expected = sorted(item for item in distinct if item % every == 0)
    assert sample.settled().tolist() == expected
    assert sample.every == every
