"""Spherical k-means against a loop; its aim never falls, and separate groups are found."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from graphssl.errors import DataError
from graphssl.objectives.kmeans import spherical_kmeans


def directions(n=40, width=3, seed=0):
    return F.normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_kmeans(vectors, n_clusters, source, n_iterations):
    """One vector at a time."""
    start = torch.randperm(len(vectors), generator=source)[:n_clusters].tolist()
    centroids = [vectors[k].clone() for k in start]
    for _ in range(n_iterations):
        members = [[] for _ in centroids]
        for vector in vectors:
            members[max(range(n_clusters), key=lambda k: float(vector @ centroids[k]))].append(vector)
        for k, found in enumerate(members):
            if found:
                total = sum(found)
                centroids[k] = total / total.norm()
    return torch.stack(centroids)


def aim(vectors, centroids):
    return float((vectors @ centroids.T).amax(dim=1).mean())


@settings(max_examples=15, deadline=None)
@given(n=st.integers(3, 30), width=st.integers(2, 4), k=st.integers(1, 3), seed=st.integers(0, 50))
def test_it_is_the_loop(n, width, k, seed):
    vectors = directions(n, width, seed)
    torch.testing.assert_close(spherical_kmeans(vectors, k, generator(seed), 5), slow_kmeans(vectors, k, generator(seed), 5))


def test_the_aim_never_falls():
    vectors = directions(80)
    aims = [aim(vectors, spherical_kmeans(vectors, 6, generator(), n)) for n in range(8)]
    assert aims == sorted(aims)
    assert aims[-1] > aims[0] + 0.01


def test_separate_groups_are_found():
    centres = torch.eye(4, 8, dtype=torch.float64)
    vectors = F.normalize(centres.repeat_interleave(10, dim=0) + 0.05 * torch.randn(40, 8, generator=generator(), dtype=torch.float64), dim=1)
    best = max((spherical_kmeans(vectors, 4, generator(seed)) for seed in range(10)), key=lambda found: aim(vectors, found))
    assert sorted((best @ centres.T).argmax(dim=1).tolist()) == [0, 1, 2, 3]
    assert aim(vectors, best) > 0.98


def test_a_cluster_without_vectors_stays_and_all_have_length_one():
    vectors = torch.tensor([[1.0, 0.0]] * 5)
    found = spherical_kmeans(vectors, 3, generator())
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0]] * 3))
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(spherical_kmeans(opposite, 1, generator()).norm(dim=1), torch.ones(1))


def test_fewer_vectors_than_clusters_are_refused():
    with pytest.raises(DataError, match="Expected at least 5 vectors for as many clusters, found 4. Ask for fewer"):
        spherical_kmeans(directions(4), 5, generator())
