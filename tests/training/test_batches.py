"""Minibatches: every row once an epoch, a subject's rows together, in an order that depends on seed and epoch only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphssl.data import ConnectomeBatch
from graphssl.training.batches import Minibatches, loader


def one_row_each(n_rows):
    return [f"sub-{row:03d}" for row in range(n_rows)]


@given(n_rows=st.integers(1, 70), size=st.integers(1, 40), seed=st.integers(0, 9), epoch=st.integers(0, 9), shuffle=st.booleans())
def test_every_row_comes_once_and_none_alone(n_rows, size, seed, epoch, shuffle):
    sampler = Minibatches(one_row_each(n_rows), size, seed=seed, shuffle=shuffle)
    sampler.set_epoch(epoch)
    chunks = list(sampler)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(n_rows))
    assert len(chunks) == len(sampler)
    assert all(len(chunk) <= size + 1 for chunk in chunks)
    if n_rows > 1 and size > 1:
        assert min(map(len, chunks)) > 1


@pytest.mark.parametrize(("n_rows", "size", "sizes"), [(33, 32, [33]), (34, 32, [32, 2]), (1, 32, [1]), (3, 1, [1, 1, 1]), (64, 32, [32, 32])])
def test_a_left_over_row_joins_the_one_before(n_rows, size, sizes):
    assert [len(chunk) for chunk in Minibatches(one_row_each(n_rows), size)] == sizes


def test_the_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch):
        sampler = Minibatches(one_row_each(20), 8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    torch.manual_seed(0)
    first = order(1, 2)
    torch.manual_seed(1)
    assert order(1, 2) == first
    assert order(1, 3) != first
    assert order(2, 2) != first


def test_without_shuffling_the_order_stays():
    assert list(Minibatches(one_row_each(5), 2, shuffle=False)) == [[0, 1], [2, 3, 4]]


def test_the_loader_gives_batches(make_batch):
    batch = make_batch(7, 5)
    found = list(loader(batch, 3, seed=1))
    assert [len(each) for each in found] == [3, 4]
    assert sorted(subject for each in found for subject in each.subject_ids) == list(batch.subject_ids)
    for each in found:
        rows = [batch.subject_ids.index(subject) for subject in each.subject_ids]
        assert torch.equal(each.weights, batch.weights[rows])


@given(
    rows=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    size=st.integers(1, 20),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
    shuffle=st.booleans(),
)
def test_the_rows_of_a_subject_stay_together(rows, size, seed, epoch, shuffle):
    subjects = [f"sub-{number}" for number in rows]
    sampler = Minibatches(subjects, size, seed=seed, shuffle=shuffle)
    sampler.set_epoch(epoch)
    chunks = list(sampler)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(len(subjects)))
    assert len(chunks) == len(sampler)
    owners = [{subjects[row] for row in chunk} for chunk in chunks]
    assert sum(map(len, owners)) == len(set(subjects)), "nobody is in two minibatches"
    most = max(map(subjects.count, subjects))
    assert all(len(chunk) <= max(size, most) + most for chunk in chunks)


def test_a_row_a_subject_is_drawn_as_rows_are():
    """The order is torch's permutation of the rows, so that results of one atlas do not depend on this file's care for several."""
    sampler = Minibatches(one_row_each(7), 3, seed=2)
    sampler.set_epoch(4)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1_000_003 * 2 + 4)).tolist()
    assert list(sampler) == [order[:3], order[3:]]


def test_the_loader_keeps_the_atlases_of_a_subject_together(make_batch):
    batch = ConnectomeBatch.cat([make_batch(6, 5), make_batch(6, 4)])
    found = list(loader(batch, 4, seed=1))
    assert [len(each) for each in found] == [4, 4, 4]
    assert all(sorted(each.subject_ids)[::2] == sorted(each.subject_ids)[1::2] for each in found)


@given(n=st.integers(0, 20), m=st.integers(1, 20), size=st.integers(2, 7), seed=st.integers(0, 5), epoch=st.integers(0, 3), in_turn=st.booleans())
def test_minibatches_never_mix_kinds(n, m, size, seed, epoch, in_turn):
    kinds = ["image"] * n + ["volume"] * m
    subjects = [*one_row_each(n), *one_row_each(m)]  # subjects may have both
    sampler = Minibatches(subjects, size, seed=seed, kinds=kinds, in_turn=in_turn)
    sampler.set_epoch(epoch)
    chunks = list(sampler)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(n + m))
    assert len(chunks) == len(sampler)
    found = [{kinds[row] for row in chunk} for chunk in chunks]
    assert all(len(kind) == 1 for kind in found)
    order = [next(iter(kind)) for kind in found]
    if in_turn:
        assert order == sorted(order)


def test_minibatches_of_kinds_are_shuffled_unless_they_come_in_turn():
    kinds = ["image"] * 12 + ["volume"] * 12
    orders = set()
    for epoch in range(4):
        sampler = Minibatches(one_row_each(24), 3, kinds=kinds)
        sampler.set_epoch(epoch)
        orders.add(tuple(kinds[chunk[0]] for chunk in sampler))
    assert len(orders) == 4
    assert [kinds[chunk[0]] for chunk in Minibatches(one_row_each(24), 3, kinds=kinds, shuffle=False)] == ["image"] * 4 + ["volume"] * 4


def test_a_loader_of_mixed_images_gives_batches_of_one_kind():
    from graphssl.data import ImageBatch, MixedImages

    parts = {"images": ImageBatch(("a", "b", "c"), torch.zeros(3, 1, 4, 4)), "volumes": ImageBatch(("a", "b", "d"), torch.zeros(3, 1, 2, 4, 4))}
    found = [batch.rank for batch in loader(MixedImages(parts, in_turn=True), 2)]
    assert found == [2, 3]
