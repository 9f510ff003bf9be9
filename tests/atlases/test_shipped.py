"""Atlases nilearn ships: the numbers, places and networks of their authors."""

import numpy as np
import pytest

from graphssl.atlases import atlas_from_nilearn
from graphssl.errors import AtlasError


def test_dosenbach_regions_keep_the_numbers_of_the_paper() -> None:
    atlas = atlas_from_nilearn("dosenbach160")
    assert atlas.labels.tolist() == list(range(1, 161))
    first, last = 0, 154
    assert atlas.names[first] == "vmPFC 1"
    assert atlas.names[last] == "inf cerebellum 155"
    np.testing.assert_array_equal(atlas.centroids[[first, last]], [[6, 64, 3], [18, -81, -33]])
    assert (atlas.networks[first], atlas.networks[last]) == ("default", "cerebellum")


def test_power_regions_keep_their_numbers() -> None:
    atlas = atlas_from_nilearn("power264")
    assert atlas.labels.tolist() == list(range(1, 265))
    np.testing.assert_array_equal(atlas.centroids[:2], [[-25, -98, -12], [27, -97, -13]])
    assert atlas.display_names[0] == "power264-1"


def test_seitzman_regions_are_in_the_order_of_the_paper() -> None:
    atlas = atlas_from_nilearn("seitzman300")
    assert atlas.labels.tolist() == list(range(1, 301))
    np.testing.assert_allclose(atlas.centroids[0], [-56.16, -44.76, -24.23], rtol=1e-6)
    assert atlas.names[0] == "cortexL 1"
    assert len(atlas.network_names) == 13
    assert "" in atlas.networks


@pytest.mark.parametrize("name", ["dosenbach160", "power264", "seitzman300"])
def test_regions_lie_in_the_brain(name: str) -> None:
    atlas = atlas_from_nilearn(name)
    assert atlas.name == name
    assert (np.abs(atlas.centroids) < 110).all()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AtlasError, match="dosenbach160, power264, seitzman300.*found 'aal'"):
        atlas_from_nilearn("aal")
