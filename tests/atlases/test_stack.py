"""Atlases side by side: regions, series and what of the subjects is kept."""

import numpy as np
import pytest

from graphssl.atlases import stack_atlases, stack_series
from graphssl.data import Atlas, Provenance, RegionData
from graphssl.errors import AtlasError, DataError


def atlas(name: str, n_regions: int, space: str = "MNI152") -> Atlas:
    return Atlas(name, np.arange(11, n_regions + 11), ("",) * n_regions, np.full((n_regions, 3), n_regions), (name.upper(),) * n_regions, space)


def scans(name: str, lengths: dict[str, int], n_regions: int) -> RegionData:
    rng = np.random.default_rng(n_regions)
    values = {subject: rng.standard_normal((length, n_regions)) for subject, length in lengths.items()}
    values[next(iter(values))][:, 0] = 0
    return RegionData(atlas(name, n_regions), values, Provenance("timeseries", pipeline=f"pipeline {name}"))


def test_regions_stand_side_by_side_under_new_labels() -> None:
    both = stack_atlases([atlas("a", 2), atlas("b", 3)])
    assert both.name == "a+b"
    assert both.labels.tolist() == [1, 2, 3, 4, 5]
    assert both.names == ("a a-11", "a a-12", "b b-11", "b b-12", "b b-13")
    assert both.networks == ("A", "A", "B", "B", "B")
    np.testing.assert_array_equal(both.centroids[:, 0], [2, 2, 3, 3, 3])


def test_series_of_subjects_who_have_all_atlases_are_joined_at_their_ends() -> None:
    first, second = scans("a", {"s1": 20, "s2": 25, "s3": 20}, 2), scans("b", {"s1": 20, "s2": 24}, 3)
    both = stack_series([first, second])
    assert list(both.values) == ["s1", "s2"]
    np.testing.assert_array_equal(both.values["s2"], np.concatenate([first.values["s2"][1:], second.values["s2"]], axis=1))
    assert both.observed["s1"].tolist() == [False, True, False, True, True]
    assert both.provenance.pipeline == "pipeline a + pipeline b"
    assert both.atlas.hash == stack_atlases([first.atlas, second.atlas]).hash


def test_one_name_or_two_spaces_are_refused() -> None:
    with pytest.raises(AtlasError, match=r"atlases of different names in one space, found \['a', 'a'\] in \['MNI152'\]"):
        stack_atlases([atlas("a", 2), atlas("a", 3)])
    with pytest.raises(AtlasError, match=r"found \['a', 'b'\] in \['MNI152', 'fsaverage'\]"):
        stack_atlases([atlas("a", 2), atlas("b", 3, "fsaverage")])
    with pytest.raises(AtlasError, match=r"one or more atlases of different names in one space, found \[\]"):
        stack_atlases([])


def test_subjects_of_one_atlas_only_cannot_be_stacked() -> None:
    with pytest.raises(DataError, match=r"time series in all of \['a', 'b'\], found none"):
        stack_series([scans("a", {"s1": 20}, 2), scans("b", {"s2": 20}, 3)])


def test_scans_of_other_lengths_and_matrices_are_refused() -> None:
    with pytest.raises(DataError, match=r"one scan of subject 's1' in both atlases, found 60 and 30 time points"):
        stack_series([scans("a", {"s1": 60}, 2), scans("b", {"s1": 30}, 3)])
    with pytest.raises(DataError, match=r"Expected time series in every atlas, found {'a': 'timeseries', 'b': 'correlation'}"):
        stack_series([scans("a", {"s1": 60}, 2), RegionData(atlas("b", 3), {"s1": np.eye(3)}, Provenance("correlation"))])
