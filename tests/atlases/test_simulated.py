"""The simulated atlas: well spread, mirrored, inside the brain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import simulated_atlas
from graphssl.errors import AtlasError


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(0, 100))
def test_any_number_of_regions_is_mirrored_and_inside_the_brain(n_regions: int, seed: int) -> None:
    atlas = simulated_atlas(n_regions, seed=seed)
    assert len(atlas) == n_regions
    assert atlas.labels.tolist() == list(range(1, n_regions + 1))
    half = n_regions // 2
    left, right, middle = np.split(atlas.centroids, [half, 2 * half])
    np.testing.assert_array_equal(left * np.float32([-1, 1, 1]), right)
    assert (left[:, 0] < 0).all()
    assert (middle[:, 0] == 0).all()
    scaled = (atlas.centroids - [0, -17.5, 15]) / [70, 87.5, 65]
    assert (np.linalg.norm(scaled, axis=1) <= 1).all()


def test_regions_are_spread_evenly_over_shell_and_depth() -> None:
    atlas = simulated_atlas(100)
    distance = np.linalg.norm(atlas.centroids[:, None] - atlas.centroids[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    gaps = distance.min(axis=1)
    assert gaps.min() > 5
    assert gaps.std() / gaps.mean() < 0.4
    radius = np.linalg.norm((atlas.centroids - [0, -17.5, 15]) / [70, 87.5, 65], axis=1)
    assert 8 <= (radius < 0.5).sum() <= 20
    # The regions reach most of the brain's extent.
    assert (np.ptp(atlas.centroids, axis=0) > [110, 135, 100]).all()


def test_names_say_the_side_and_count_from_the_back() -> None:
    atlas = simulated_atlas(15)
    assert atlas.names[6] == "L-007"
    assert atlas.names[7] == "R-001"
    assert atlas.names[-1] == "M-001"
    assert (np.diff(atlas.centroids[:7, 1]) >= 0).all()
    assert atlas.network_names == ()


def test_seed_decides_the_regions_and_shows_in_the_name() -> None:
    np.testing.assert_array_equal(simulated_atlas(20, seed=3).centroids, simulated_atlas(20, seed=3).centroids)
    assert not np.allclose(simulated_atlas(20, seed=3).centroids, simulated_atlas(20).centroids)
    assert simulated_atlas(20).name == "simulated20"
    assert simulated_atlas(20, seed=3).name == "simulated20-3"
    assert simulated_atlas(20, name="mine").name == "mine"


def test_no_region_is_refused() -> None:
    with pytest.raises(AtlasError, match="at least one region for a simulated atlas, found 0"):
        simulated_atlas(0)
