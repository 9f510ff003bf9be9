"""The field of sources: where they are, which network they belong to, and what a region sees of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.datasets.sources import NETWORKS, SourceField, draw_sources, squared_distances
from graphssl.errors import DataError


@pytest.fixture(scope="module")
def field() -> SourceField:
    return draw_sources(400, np.random.default_rng(0))


def test_sources_lie_inside_the_extent_of_the_mni_brain(field: SourceField) -> None:
    assert len(field) == 400
    assert (field.coordinates >= [-70, -105, -50]).all()
    assert (field.coordinates <= [70, 70, 80]).all()


def test_every_network_has_sources_in_both_hemispheres(field: SourceField) -> None:
    for k in range(len(NETWORKS)):
        x = field.coordinates[field.networks == k, 0]
        assert (x < 0).sum() >= 3
        assert (x > 0).sum() >= 3
    np.testing.assert_array_equal(field.membership.argmax(axis=1), field.networks)


@pytest.mark.parametrize(("point", "network"), [((0, -54, 28), "Default"), ((-8, -92, 0), "Visual"), ((-40, -24, 56), "Somatomotor")])
def test_textbook_places_belong_to_their_network(field: SourceField, point: tuple[float, ...], network: str) -> None:
    nearest = squared_distances(np.array([point], dtype=float), field.coordinates).argmin()
    assert NETWORKS[field.networks[nearest]] == network


def test_basis_draws_smooth_fields_of_variance_one(field: SourceField) -> None:
    fields = field.basis @ np.random.default_rng(1).normal(size=(field.basis.shape[1], 3000))
    assert fields.var() == pytest.approx(1.0, abs=0.05)
    correlation = np.corrcoef(fields)
    distance = np.sqrt(squared_distances(field.coordinates, field.coordinates))
    mirrored = np.sqrt(squared_distances(field.coordinates, field.coordinates * [-1, 1, 1]))
    near = (distance > 0) & (distance < 10)
    far = (distance > 60) & (mirrored > 60)
    assert correlation[near].mean() > 0.8
    assert abs(correlation[far].mean()) < 0.05
    assert correlation[(mirrored < 10) & (distance > 60)].mean() > 0.3


def test_weights_are_a_normalised_gaussian_of_the_distance(field: SourceField) -> None:
    centroids = np.array([[-40.0, -20.0, 50.0], [-10.0, -20.0, 50.0], [40.0, 10.0, 0.0]])
    weights = field.weights(centroids)
    gaps = [30.0, 30.0, np.linalg.norm(centroids[1] - centroids[2])]
    for row, centroid, gap in zip(weights, centroids, gaps, strict=True):
        size = min(gap, 2 * 30.0) / 3
        slow = np.array([np.exp(-((place - centroid) ** 2).sum() / (2 * size**2)) for place in field.coordinates])
        slow /= slow.max()
        slow[slow < 1e-3] = 0
        np.testing.assert_allclose(row, slow / slow.sum(), atol=1e-12)


def test_one_region_and_a_region_outside_of_the_brain_see_sources(field: SourceField) -> None:
    assert field.weights(np.array([[0.0, 0.0, 0.0]])).sum() == pytest.approx(1.0)
    weights = field.weights(np.array([[500.0, 0.0, 0.0], [499.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (field.coordinates[weights[0] > 0.01, 0] > 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(0, 1000))
def test_weights_sum_to_one_for_any_atlas(n_regions: int, seed: int) -> None:
    field = draw_sources(120, np.random.default_rng(0))
    weights = field.weights(np.random.default_rng(seed).uniform(-80, 80, (n_regions, 3)))
    assert weights.shape == (n_regions, 120)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_too_few_sources_are_refused() -> None:
    with pytest.raises(DataError, match=r"at least 100 sources .* found 99"):
        draw_sources(99, np.random.default_rng(0))
