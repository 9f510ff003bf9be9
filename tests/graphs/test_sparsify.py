"""The strongest connections, against sorting one connectome at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import ConnectomeBatch
from graphssl.errors import ConfigError
from graphssl.graphs.sparsify import densest


def random_batch(n=4, n_regions=9, seed=0, missing=0.2):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, n_regions, generator=generator) >= missing
    visible = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(n_regions, dtype=torch.bool)
    weights = torch.randn(n, n_regions, n_regions, generator=generator)
    weights = torch.where(visible, weights + weights.mT, 0.0)
    centroids = 50 * torch.randn(n, n_regions, 3, generator=generator)
    networks = torch.randint(-1, 3, (n, n_regions), generator=generator)
    ids = tuple(f"s{k}" for k in range(n))
    return ConnectomeBatch(
        ids,
        weights,
        visible,
        mask,
        centroids.masked_fill(~mask.unsqueeze(2), 0.0),
        networks.masked_fill(~mask, -1),
        ("toy",) * n,
        ("default", "motor", "visual"),
    )


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 1.0])
def test_the_strongest_share_is_kept_one_connectome_at_a_time(density):
    batch = random_batch()
    kept = densest(batch, density)
    for weights, visible, found in zip(batch.weights, batch.visible, kept, strict=True):
        pairs = sorted(((abs(weights[i, j].item()), i, j) for i in range(9) for j in range(i) if visible[i, j]), reverse=True)
        strongest = {(i, j) for _, i, j in pairs[: max(1, round(density * len(pairs)))]}
        assert {(i, j) for i, j in found.nonzero().tolist() if i > j} == strongest
    assert torch.equal(kept, kept.mT)
    assert not kept.diagonal(dim1=1, dim2=2).any()


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(9)), seed=st.integers(0, 2**16), density=st.floats(0.01, 1))
def test_permuting_regions_permutes_the_choice(order, seed, density):
    batch = random_batch(seed=seed)
    rounded = ConnectomeBatch(batch.subject_ids, batch.weights.round(), *[getattr(batch, n) for n in FIELDS])
    moved = ConnectomeBatch(
        batch.subject_ids,
        rounded.weights[:, order][:, :, order],
        batch.visible[:, order][:, :, order],
        batch.mask[:, order],
        batch.centroids[:, order],
        batch.networks[:, order],
        batch.atlas,
        batch.network_names,
    )
    assert torch.equal(densest(moved, density), densest(rounded, density)[:, order][:, :, order])


FIELDS = ("visible", "mask", "centroids", "networks", "atlas", "network_names")


@pytest.mark.parametrize("n", [0, 1, 5])
def test_any_number_of_connectomes_and_regions(n):
    for n_regions in (1, 2, 5):
        assert densest(random_batch(n, n_regions), 0.3).shape == (n, n_regions, n_regions)


def test_nothing_visible_keeps_nothing():
    batch = random_batch()
    assert not densest(batch.hide(torch.ones_like(batch.visible)), 0.5).any()


@pytest.mark.parametrize("density", [0.0, -0.1, 1.01, float("nan")])
def test_densities_out_of_range_are_refused(density):
    with pytest.raises(ConfigError, match=r"density in \(0, 1\], found"):
        densest(random_batch(), density)
