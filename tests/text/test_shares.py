"""No process reads another's part of the store: what is touched is spied on."""

from collections import Counter
from itertools import islice, pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from lmzoo.text import loader
from lmzoo.text.datamodule import TextDataModule
from lmzoo.text.loader import EvalLoader, WindowLoader

TOKENS, LENGTH, BATCH = 1_921, 16, 8  # 120 windows
WORLDS = [2, 4]


class Spied(np.ndarray):
    """Tokens that note which of them were asked for."""

    touched: list[np.ndarray]

    def __getitem__(self, key):
        if isinstance(key, np.ndarray):
            self.touched.append(key.ravel().copy())
        return np.asarray(self)[key]


def spied(make, world, rank, batches, count=TOKENS, **more):
    """(places read, windows read) of one rank; a place may be read as a target too."""
    tokens = np.arange(count, dtype=np.uint16).view(Spied)
    tokens.touched = []
    made = make(tokens, LENGTH, BATCH, rank=rank, world_size=world, **more)
    made.tokens = tokens  # the loader takes a plain view
    given = [batch.targets.numpy() for batch in islice(made, batches)]
    inputs = tokens.touched[::2]  # each gather reads the inputs, then the targets
    targets = np.concatenate([rows[rows >= 0] for rows in given])
    return set(np.concatenate(inputs).tolist()), targets.tolist()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("order", ["epoch", "stream"])
def test_training_ranks_read_apart_and_together_everything(order, world):
    one = WindowLoader(np.arange(TOKENS, dtype=np.uint16), LENGTH, BATCH, order)
    batches = one.samples_per_epoch // BATCH
    parts = [
        spied(WindowLoader, world, rank, batches, order=order) for rank in range(world)
    ]
    places = [part[0] for part in parts]
    assert sum(map(len, places)) == len(set().union(*places))  # apart
    targets = [target for part in parts for target in part[1]]
    assert sorted(targets) == list(range(1, TOKENS))  # each once
    same = spied(WindowLoader, world, 0, batches, order=order)[0]
    assert same & places[0]  # the control: a rank that reads what another reads


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("order", ["epoch", "stream"])
def test_a_text_that_does_not_divide_is_shared_at_the_ends_alone(order, world):
    """119 windows and 9 targets; rows of 14 windows and 15 targets."""
    count, seen = TOKENS - 7, set()
    last = count - 1 - LENGTH  # where the last window begins, its targets 7 later
    ends = {"epoch": {*range(last, last + 7)}, "stream": {*range(239, count, 239)}}
    for seed in range(4):
        parts = [
            spied(WindowLoader, world, rank, 15, count, order=order, seed=seed)
            for rank in range(world)
        ]
        places = Counter(place for part in parts for place in part[0])
        seen |= {place for place, ranks in places.items() if ranks > 1}
        targets = Counter(target for part in parts for target in part[1])
        assert max(targets.values()) == 1
        assert len(targets) >= count - BATCH  # a stream's rows are of one length
    assert seen
    assert seen <= ends[order]


@pytest.mark.parametrize("world", WORLDS)
def test_streams_are_one_contiguous_slice_for_each_rank(world):
    slices = []
    for rank in range(world):
        places, _ = spied(WindowLoader, world, rank, 15, order="stream")
        slices.append((min(places), max(places)))
        assert len(places) == slices[-1][1] - slices[-1][0] + 1
    assert all(one[1] < other[0] for one, other in pairwise(slices))


@pytest.mark.parametrize("world", WORLDS)
def test_random_windows_are_those_of_one_process_each_at_one_rank(world):
    alone = WindowLoader(np.arange(TOKENS, dtype=np.uint16), LENGTH, BATCH)
    for number, batch in enumerate(islice(alone, 5)):
        ranks = [
            WindowLoader(
                np.arange(TOKENS, dtype=np.uint16),
                LENGTH,
                BATCH,
                position=number * BATCH,
                rank=rank,
                world_size=world,
            )
            for rank in range(world)
        ]
        starts = [next(iter(rank)).tokens[:, 0].tolist() for rank in ranks]
        assert all(len(part) == BATCH // world for part in starts)
        assert [start for part in starts for start in part] == batch.tokens[
            :, 0
        ].tolist()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("streams", [None, BATCH])
def test_evaluation_ranks_read_apart(streams, world):
    parts = [
        spied(EvalLoader, world, rank, None, streams=streams) for rank in range(world)
    ]
    targets = [target for part in parts for target in part[1]]
    assert sorted(targets) == list(range(1, TOKENS))
    places = [part[0] for part in parts]
    assert sum(map(len, places)) == len(set().union(*places))


def test_the_store_is_a_map_and_not_a_copy(story, monkeypatch):
    data = TextDataModule(path=str(story), context_length=LENGTH, batch_size=BATCH)
    data.trainer = SimpleNamespace(global_rank=1, world_size=2)
    made = data.train_dataloader()
    base = made.tokens
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert len(next(iter(made)).tokens) == BATCH // 2
    assert loader.Batch is type(next(iter(made)))
