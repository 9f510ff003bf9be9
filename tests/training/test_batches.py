"""Minibatches: every row once an epoch, in an order that depends on seed and epoch only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphssl.training.batches import Minibatches, loader


@given(n_rows=st.integers(1, 70), size=st.integers(1, 40), seed=st.integers(0, 9), epoch=st.integers(0, 9), shuffle=st.booleans())
def test_every_row_comes_once_and_none_alone(n_rows, size, seed, epoch, shuffle):
    sampler = Minibatches(n_rows, size, seed=seed, shuffle=shuffle)
    sampler.set_epoch(epoch)
    chunks = list(sampler)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(n_rows))
    assert len(chunks) == len(sampler)
    assert all(len(chunk) <= size + 1 for chunk in chunks)
    if n_rows > 1 and size > 1:
        assert min(map(len, chunks)) > 1


@pytest.mark.parametrize(("n_rows", "size", "sizes"), [(33, 32, [33]), (34, 32, [32, 2]), (1, 32, [1]), (3, 1, [1, 1, 1]), (64, 32, [32, 32])])
def test_a_left_over_row_joins_the_one_before(n_rows, size, sizes):
    assert [len(chunk) for chunk in Minibatches(n_rows, size)] == sizes


def test_the_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch):
        sampler = Minibatches(20, 8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    torch.manual_seed(0)
    first = order(1, 2)
    torch.manual_seed(1)
    assert order(1, 2) == first
    assert order(1, 3) != first
    assert order(2, 2) != first


def test_without_shuffling_the_order_stays():
    assert list(Minibatches(5, 2, shuffle=False)) == [[0, 1], [2, 3, 4]]


def test_the_loader_gives_batches(make_batch):
    batch = make_batch(7, 5)
    found = list(loader(batch, 3, seed=1))
    assert [len(each) for each in found] == [3, 4]
    assert sorted(subject for each in found for subject in each.subject_ids) == list(batch.subject_ids)
    for each in found:
        rows = [batch.subject_ids.index(subject) for subject in each.subject_ids]
        assert torch.equal(each.weights, batch.weights[rows])
