"""Networks taken from the nearest region of another atlas."""

from dataclasses import replace

import numpy as np
import pytest

from graphssl.atlases import nearest_network, simulated_atlas
from graphssl.data import Atlas
from graphssl.errors import AtlasError

REFERENCE = Atlas("reference", [1, 2, 3], ("a", "b", "c"), [[0, 0, 0], [30, 0, 0], [0, 10, 0]], ("Visual", "Limbic", ""))


def test_each_region_gets_the_network_of_its_nearest_neighbour() -> None:
    rng = np.random.default_rng(0)
    reference = replace(simulated_atlas(40), networks=tuple(rng.choice(["Visual", "Limbic", ""], 40)))
    filled = nearest_network(simulated_atlas(25, seed=1), reference, max_mm=18.0)
    for centroid, network in zip(filled.centroids, filled.networks, strict=True):
        best, found = 18.0, ""
        for place, name in zip(reference.centroids, reference.networks, strict=True):
            if name and np.linalg.norm(place - centroid) <= best:
                best, found = float(np.linalg.norm(place - centroid)), str(name)
        assert network == found
    assert "" in filled.networks
    assert filled.network_names == ("Limbic", "Visual")


def test_own_networks_stay_and_nameless_neighbours_are_passed_over() -> None:
    atlas = Atlas("mine", [1, 2, 3, 4], ("",) * 4, [[1, 9, 0], [29, 0, 0], [1, 0, 0], [0, 80, 0]], ("", "", "Default", ""))
    assert nearest_network(atlas, REFERENCE).networks == ("Visual", "Limbic", "Default", "")
    assert nearest_network(atlas, REFERENCE).hash == atlas.hash


def test_an_atlas_of_one_region() -> None:
    assert nearest_network(simulated_atlas(1), REFERENCE, max_mm=100.0).networks == ("Visual",)


def test_references_that_cannot_serve_are_refused() -> None:
    with pytest.raises(AtlasError, match="networks in the reference atlas 'simulated4', found none"):
        nearest_network(REFERENCE, simulated_atlas(4))
    with pytest.raises(AtlasError, match="in one space, found 'simulated4' in MNI152 and 'reference' in Talairach"):
        nearest_network(simulated_atlas(4), replace(REFERENCE, space="Talairach"))
    with pytest.raises(AtlasError, match="largest distance above 0 mm, found 0"):
        nearest_network(simulated_atlas(4), REFERENCE, max_mm=0)
