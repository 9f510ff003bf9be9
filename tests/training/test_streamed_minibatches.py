"""Minibatches of shards: everybody once an epoch, every shard read once, the order of seed and epoch."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import ColumnTokenizer, StreamedCohort, write_shards
from graphssl.data.streamed_batch import StreamedBatch
from graphssl.training.batches import Minibatches
from graphssl.training.streamed_minibatches import StreamedMinibatches

N = 23


@pytest.fixture(scope="module")
def batch_of(make_cohort, tmp_path_factory):
    """`batch_of(window)` of twenty-three patients in five shards, all but one of them in an order of their own."""
    cohort = make_cohort(n_subjects=24)
    folder = write_shards(cohort, tmp_path_factory.mktemp("data") / "shards", size=5)
    builder = ColumnTokenizer(["age"]).fit(cohort)

    return cache(lambda window: StreamedBatch(StreamedCohort(folder, window).select(cohort.ids[:0:-1]), builder))


def epoch_of(batch, size, *, seed=0, epoch=0, shuffle=True):
    sampler = StreamedMinibatches(batch, size, seed=seed, shuffle=shuffle)
    sampler.set_epoch(epoch)
    chunks = list(sampler)
    assert len(chunks) == len(sampler)
    return chunks


@settings(deadline=None)
@given(window=st.integers(1, 6), size=st.integers(1, 30), seed=st.integers(0, 5), epoch=st.integers(0, 5), shuffle=st.booleans())
def test_everybody_comes_once_and_nobody_alone(batch_of, window, size, seed, epoch, shuffle):
    chunks = epoch_of(batch_of(window), size, seed=seed, epoch=epoch, shuffle=shuffle)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(N))
    assert size == 1 or min(map(len, chunks)) > 1


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_every_shard_is_read_once_an_epoch(batch_of, window, shuffle, monkeypatch):
    batch, read = batch_of.__wrapped__(window), []  # one that holds nothing yet
    part = StreamedCohort.part
    monkeypatch.setattr(StreamedCohort, "part", lambda cohort, number: read.append(number) or part(cohort, number))
    for chunk in epoch_of(batch, 4, epoch=1, shuffle=shuffle):
        batch[chunk]
    assert sorted(read) == [0, 1, 2, 3, 4]


def test_a_window_of_everything_gives_the_minibatches_of_memory(batch_of):
    batch = batch_of(5)
    for shuffle in (True, False):
        in_memory = Minibatches(batch.subject_ids, 4, seed=3, shuffle=shuffle)
        in_memory.set_epoch(2)
        assert epoch_of(batch, 4, seed=3, epoch=2, shuffle=shuffle) == list(in_memory)


def test_a_window_is_shuffled_and_shards_change_places(batch_of):
    batch = batch_of(2)
    first, again, next_epoch, other = (epoch_of(batch, 4, seed=s, epoch=e) for s, e in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert first == again
    assert len({str(first), str(next_epoch), str(other)}) == 3
    shards = [int(batch.cohort.shards[row]) for chunk in first for row in chunk]
    assert shards[:8] != sorted(shards[:8]), "two shards are mixed"
    assert len(set(shards[:8])) == 2
