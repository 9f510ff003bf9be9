"""Batches of connectomes: padding never leaks, and rows come back as they went in."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import ConnectomeBatch
from graphssl.errors import DataError


def make(n_rows=3, n_regions=5, seed=0, atlas="toy", names=("Default", "Visual"), missing=()):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(n_rows, n_regions, n_regions, generator=generator)
    mask = torch.ones(n_rows, n_regions, dtype=torch.bool)
    for row, region in missing:
        mask[row, region] = False
    visible = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(n_regions, dtype=torch.bool)
    return ConnectomeBatch(
        tuple(f"{atlas}-{seed}-{k}" for k in range(n_rows)),
        torch.where(visible, weights + weights.mT, 0.0),
        visible,
        mask,
        torch.randn(n_rows, n_regions, 3, generator=generator),
        torch.randint(-1, len(names), (n_rows, n_regions), generator=generator),
        (atlas,) * n_rows,
        tuple(names),
    )


def assert_same_rows(found, rows, source):
    """The rows of `found` are those of `source`, up to regions that nobody observed at the end."""
    width = min(found.mask.shape[1], source.mask.shape[1])
    assert found.subject_ids == tuple(source.subject_ids[k] for k in rows)
    assert found.atlas == tuple(source.atlas[k] for k in rows)
    assert found.network_names == source.network_names
    assert not found.mask[:, width:].any()
    assert not source.mask[rows, width:].any()
    for name, axes in (("weights", 2), ("visible", 2), ("mask", 1), ("centroids", 1), ("networks", 1)):
        part = (slice(None), *[slice(width)] * axes)
        torch.testing.assert_close(getattr(found, name)[part], getattr(source, name)[rows][part], rtol=0, atol=0)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), min_size=1, max_size=4), seed=st.integers(0, 99), data=st.data())
def test_concatenated_and_indexed_rows_are_the_original_ones(sizes, seed, data):
    parts = []
    for k, (n_rows, n_regions) in enumerate(sizes):
        missing = data.draw(st.sets(st.tuples(st.integers(0, n_rows - 1), st.integers(0, n_regions - 1)), max_size=2))
        parts.append(make(n_rows, n_regions, seed + k, f"atlas{k}", missing=missing))
    batch = ConnectomeBatch.cat(parts)
    assert len(batch) == sum(n for n, _ in sizes)
    start = 0
    for part in parts:
        rows = list(range(start, start + len(part)))
        assert_same_rows(batch[rows], list(range(len(part))), part)
        start += len(part)
    order = data.draw(st.permutations(range(len(batch))))
    assert_same_rows(batch[order], list(order), batch)


def test_padding_is_empty():
    batch = ConnectomeBatch.cat([make(1, 3), make(1, 5, atlas="larger")])
    assert batch.mask.sum(dim=1).tolist() == [3, 5]
    assert not batch.visible[0, 3:].any()
    assert not batch.visible[0, :, 3:].any()
    for tensor, value in ((batch.weights[0, 3:], 0), (batch.weights[0, :, 3:], 0), (batch.centroids[0, 3:], 0), (batch.networks[0, 3:], -1)):
        assert (tensor == value).all()


def test_padding_nobody_needs_is_cut_off():
    batch = ConnectomeBatch.cat([make(2, 3), make(1, 6, atlas="larger")])
    assert batch.weights.shape == (3, 6, 6)
    assert batch[[0, 1]].weights.shape == (2, 3, 3)
    assert batch[[2, 0]].weights.shape == (2, 6, 6)


@pytest.mark.parametrize("rows", [[2, 0], (2, 0), torch.tensor([2, 0]), torch.tensor([2, 0], dtype=torch.int32)])
def test_rows_by_number(rows):
    assert_same_rows(make()[rows], [2, 0], make())


@pytest.mark.parametrize("mask", [[True, False, True], torch.tensor([True, False, True])])
def test_rows_by_mask(mask):
    assert_same_rows(make()[mask], [0, 2], make())


def test_no_rows_and_rows_without_regions():
    empty = make()[[]]
    assert len(empty) == 0
    assert empty.weights.shape == (0, 1, 1)
    blind = make(1, 2, missing=[(0, 0), (0, 1)])[[0]]
    assert blind.mask.tolist() == [[False]]


def test_hiding():
    batch = make()
    hidden = torch.zeros_like(batch.visible)
    hidden[0, 1, 2] = hidden[0, 2, 1] = True
    seen = batch.hide(hidden)
    assert seen.weights[0, 1, 2] == 0
    assert not seen.visible[0, 1, 2]
    assert torch.equal(seen.weights[~hidden], batch.weights[~hidden])
    assert batch.visible[0, 1, 2], "the batch itself stays as it was"
    assert torch.equal(seen.mask, batch.mask), "a hidden region still exists"


def test_print_and_device():
    batch = ConnectomeBatch.cat([make(2, 3), make(1, 5, atlas="larger")])
    assert repr(batch) == "ConnectomeBatch(3 connectomes, up to 5 regions; toy 2, larger 1; cpu)"
    assert batch.device == torch.device("cpu")
    assert batch.to("meta").weights.device.type == "meta"


def test_covariates_go_with_their_rows(with_covariates):
    parts = [with_covariates(make(3, 5), seed=1), with_covariates(make(2, 4, seed=1), seed=2)]
    batch = ConnectomeBatch.cat(parts)
    assert batch.covariates.subject_ids == batch.subject_ids
    for name in ("numbers", "pieces", "codes", "measured", "hidden"):
        whole = torch.cat([getattr(part.covariates, name) for part in parts])
        assert torch.equal(getattr(batch.covariates, name), whole)
        assert torch.equal(getattr(batch[[4, 0]].covariates, name), whole[[4, 0]])
        assert torch.equal(getattr(batch[[False, True, False, False, True]].covariates, name), whole[[1, 4]])
    assert batch.hide(torch.ones_like(batch.visible)).covariates is batch.covariates
    assert batch.to("meta").covariates.device.type == "meta"


def test_covariates_are_in_the_signature(with_covariates):
    batch = make()
    one, other = with_covariates(batch, seed=1), with_covariates(batch, seed=2)
    assert len({batch.signature(), one.signature(), other.signature()}) == 3
    assert one.signature() == with_covariates(make(), seed=1).signature()


def test_hidden_covariates_cannot_be_read(with_covariates):
    batch = with_covariates(make())
    assert batch.covariates.visible.any()
    assert not batch.hide_covariates().covariates.visible.any()
    assert torch.equal(batch.hide_covariates().covariates.measured, batch.covariates.measured)
    assert make().hide_covariates().covariates is None


# What is refused


def test_covariates_of_others(with_covariates):
    batch = with_covariates(make())
    with pytest.raises(DataError, match=r"Expected the covariates of the 3 rows' subjects in their order, found those of TableBatch\(3 patients"):
        replace(batch, covariates=batch.covariates[[1, 0, 2]])


def test_covariates_in_some_batches_only(with_covariates):
    with pytest.raises(DataError, match="Expected covariates in all batches or in none, found them in 1 of 2. Use one builder"):
        ConnectomeBatch.cat([with_covariates(make()), make(seed=1)])


def test_shapes_that_disagree():
    batch = make()
    arguments = (batch.visible, batch.mask, batch.centroids, batch.networks, batch.atlas, batch.network_names)
    with pytest.raises(DataError, match=r"for a batch of 3 connectomes, found \{'weights': \(3, 5, 4\)\}"):
        ConnectomeBatch(batch.subject_ids, batch.weights[:, :, :4], *arguments)
    with pytest.raises(DataError, match=r"and 3 ids for a batch of 3 connectomes, found \(2, 3\)"):
        ConnectomeBatch(batch.subject_ids[:2], batch.weights, *arguments)


def test_nothing_to_concatenate():
    with pytest.raises(DataError, match="Expected at least one batch of connectomes, found none"):
        ConnectomeBatch.cat([])


def test_networks_of_other_names():
    with pytest.raises(DataError, match=r"Expected the same network names in all batches, found \[\('Default', 'Visual'\), \('Motor',\)\]"):
        ConnectomeBatch.cat([make(), make(names=("Motor",))])
