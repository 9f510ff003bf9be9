from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import AtlasMap, Correction, convert_cohort, convert_matrices, convert_regions, convert_series, overlap_map, simulated_atlas
from graphssl.atlases.map import identity_map
from graphssl.data import Cohort, Provenance, RegionData
from graphssl.errors import AtlasError, DataError


def plain_map(weights, **parts):
    n_target, n_source = np.shape(weights)
    return AtlasMap(simulated_atlas(n_source), simulated_atlas(n_target), weights, "made up", np.ones(n_target), **parts)


def correlations(n, n_regions, seed=0, n_timepoints=50):
    rng = np.random.default_rng(seed)
    return np.stack(
        [np.corrcoef(rng.standard_normal((n_timepoints, n_regions)) @ rng.standard_normal((n_regions, n_regions)), rowvar=False) for _ in range(n)]
    )


def one_by_one(weights, matrix, unexplained=0.0):
    """The correlation of weighted sums, from the definition."""
    n = len(weights)
    covariance = np.array(
        [
            [sum(weights[i, a] * matrix[a, b] * weights[j, b] for a in range(len(matrix)) for b in range(len(matrix))) for j in range(n)]
            for i in range(n)
        ]
    )
    covariance = covariance + unexplained
    return covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))


def test_matrices_are_those_of_the_definition():
    rng = np.random.default_rng(1)
    weights, root = rng.standard_normal((3, 5)), rng.standard_normal((3, 3))
    matrices = correlations(2, 5)
    found = convert_matrices(plain_map(weights, unexplained=root @ root.T), matrices)
    for row in range(2):
        assert np.allclose(found.values[row], one_by_one(weights, matrices[row], root @ root.T), atol=1e-5)
    assert np.allclose(found.variance[0], np.diag(weights @ matrices[0] @ weights.T + root @ root.T), atol=1e-4)
    assert found.served.all()
    assert (found.smallest_eigenvalue == 0).all()


def test_a_matrix_is_converted_as_the_series_it_was_made_of():
    """The variance of a mean of correlated regions: converting and correlating commute."""
    rng = np.random.default_rng(2)
    series = rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6))
    series = (series - series.mean(axis=0)) / series.std(axis=0)
    atlas_map = plain_map(rng.random((4, 6)))
    from_series = np.corrcoef(convert_series(atlas_map, series), rowvar=False)
    from_matrix = convert_matrices(atlas_map, np.corrcoef(series, rowvar=False)[None]).values[0]
    assert np.allclose(from_series, from_matrix, atol=1e-5)


def test_covariances_keep_their_units():
    rng = np.random.default_rng(3)
    series = 7 * rng.standard_normal((60, 6))
    atlas_map = plain_map(rng.random((4, 6)))
    found = convert_matrices(atlas_map, np.cov(series, rowvar=False, bias=True)[None], kind="covariance").values[0]
    assert np.allclose(found, np.cov(convert_series(atlas_map, series), rowvar=False, bias=True), rtol=1e-4, atol=1e-3)


def test_fisher_z_is_undone_before_and_done_after():
    matrices = correlations(2, 5)
    z = np.arctanh(np.where(np.eye(5, dtype=bool), 0, matrices))
    atlas_map = plain_map(np.random.default_rng(0).random((3, 5)))
    found, expected = convert_matrices(atlas_map, z, fisher_z=True).values, convert_matrices(atlas_map, matrices).values
    off = ~np.eye(3, dtype=bool)
    assert np.allclose(np.tanh(found[:, off]), expected[:, off], atol=1e-5)


def test_streamlines_are_handed_out_and_none_is_lost(make_volume):
    atlas_map = overlap_map(make_volume(12, seed=1), make_volume(5, seed=2))
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (2, 12, 12)).astype(float)
    counts = np.triu(counts, 1) + np.triu(counts, 1).transpose(0, 2, 1)
    found = convert_matrices(atlas_map, counts, kind="streamline count").values
    whole = atlas_map.shares @ counts @ atlas_map.shares.T
    off = ~np.eye(5, dtype=bool)
    assert np.allclose(found[:, off], whole[:, off], rtol=1e-5)
    assert np.allclose(whole.sum(axis=(1, 2)), counts.sum(axis=(1, 2)))
    logs = convert_matrices(atlas_map, np.log1p(counts), kind="log streamline count").values
    assert np.allclose(np.expm1(logs)[:, off], found[:, off], rtol=1e-4, atol=1e-3)


def test_a_region_that_cannot_be_served_is_nan_never_zero():
    weights = np.ones((3, 4))
    weights[1] = 0
    found = convert_matrices(plain_map(weights), correlations(2, 4))
    assert np.isnan(found.values[:, 1]).all()
    assert np.isnan(found.values[:, :, 1]).all()
    assert np.isfinite(found.values[:, [0, 2]][:, :, [0, 2]]).all()
    assert found.served.tolist() == [[True, False, True]] * 2
    series = convert_series(plain_map(weights), np.random.default_rng(0).standard_normal((20, 4)))
    assert np.isnan(series[:, 1]).all()


def test_the_weight_of_a_missing_region_goes_to_the_others():
    weights = np.array([[0.5, 0.25, 0.25, 0], [0, 0, 0, 1.0]])
    series = np.random.default_rng(0).standard_normal((20, 4))
    series[:, 3] = 5.0  # without a signal
    series[:, 2] = np.nan
    found = convert_series(plain_map(weights), series)
    assert np.allclose(found[:, 0], (2 * series[:, 0] + series[:, 1]) / 3, atol=1e-6)
    assert np.isnan(found[:, 1]).all()


def test_a_missing_region_is_predicted_from_the_others_where_their_covariance_is_known():
    rng = np.random.default_rng(0)
    covariance = correlations(1, 5)[0]
    weights = rng.standard_normal((3, 5))
    atlas_map = plain_map(weights, source_covariance=covariance, standardized=True, unexplained=np.eye(3))
    matrix = correlations(1, 5, seed=4)
    matrix[0, 2], matrix[0, :, 2] = np.nan, np.nan
    found = convert_matrices(atlas_map, matrix)
    left = [0, 1, 3, 4]
    predict = covariance[[2]][:, left] @ np.linalg.inv(covariance[np.ix_(left, left)] + 1e-3 * np.eye(4))
    rest = covariance[2, 2] - (predict @ covariance[left][:, [2]]).item()
    moved = weights[:, left] + weights[:, [2]] @ predict
    expected = one_by_one(moved, matrix[0][np.ix_(left, left)], np.eye(3) + rest * np.outer(weights[:, 2], weights[:, 2]))
    assert np.allclose(found.values[0], expected, atol=1e-4)


def test_a_subject_without_any_region_is_not_served():
    found = convert_matrices(plain_map(np.ones((2, 3)), source_covariance=np.eye(3)), np.full((1, 3, 3), np.nan))
    assert np.isnan(found.values).all()
    assert not found.served.any()


def test_subjects_do_not_depend_on_one_another():
    atlas_map = plain_map(np.random.default_rng(0).random((4, 6)), source_covariance=correlations(1, 6)[0])
    matrices = correlations(5, 6)
    matrices[2, 1], matrices[2, :, 1] = np.nan, np.nan
    together = convert_matrices(atlas_map, matrices).values
    for row in range(5):
        assert np.allclose(convert_matrices(atlas_map, matrices[row : row + 1]).values[0], together[row], atol=1e-6)


def test_the_correction_adds_what_the_patterns_say():
    rng = np.random.default_rng(0)
    mean = correlations(1, 5)[0]
    pattern, edges = rng.standard_normal((1, 5, 5)), 0.01 * rng.standard_normal((1, 3, 3))
    weights, matrices = rng.random((3, 5)), correlations(2, 5, seed=3)
    without = convert_matrices(plain_map(weights), matrices).values
    found = convert_matrices(plain_map(weights, correction=Correction(mean, pattern, edges)), matrices).values
    off = ~np.eye(3, dtype=bool)
    for row in range(2):
        expected = without[row] + ((matrices[row] - mean) * pattern[0]).sum() * edges[0]
        assert np.allclose(found[row][off], np.clip(expected, -1, 1)[off], atol=1e-5)


def test_a_matrix_that_is_not_positive_is_told_of_and_repaired_when_asked():
    good, bad = np.eye(3), np.array([[1, 0.9, 0.9], [0.9, 1, -0.9], [0.9, -0.9, 1]])
    atlas_map = identity_map(simulated_atlas(3))
    told = convert_matrices(atlas_map, np.stack([good, bad]))
    assert told.smallest_eigenvalue[0] == 0
    assert told.smallest_eigenvalue[1] == pytest.approx(np.linalg.eigvalsh(bad)[0], abs=1e-5)
    assert np.allclose(told.values[1], bad, atol=1e-6)
    repaired = convert_matrices(atlas_map, np.stack([good, bad]), repair=True).values
    assert np.linalg.eigvalsh(repaired[1])[0] > -1e-6
    assert np.allclose(np.diag(repaired[1]), 1, atol=1e-6)
    assert np.allclose(repaired[0], good)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 8), seed=st.integers(0, 1000))
def test_to_the_same_atlas_nothing_changes(n, seed):
    matrices = correlations(2, n, seed)
    found = convert_matrices(identity_map(simulated_atlas(n)), matrices)
    assert np.allclose(found.values, matrices, atol=1e-5)
    series = np.random.default_rng(seed).standard_normal((15, n))
    assert np.allclose(convert_series(identity_map(simulated_atlas(n)), series), series, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_one_step_through_a_chain_is_two_steps(seed):
    rng = np.random.default_rng(seed)
    first, second = plain_map(rng.random((4, 6))), plain_map(rng.random((3, 4)))
    series = rng.standard_normal((20, 6))
    assert np.allclose(convert_series(first.then(second), series), convert_series(second, convert_series(first, series)), atol=1e-4)
    covariance = np.cov(series, rowvar=False)[None]
    step = convert_matrices(first, covariance, kind="covariance").values
    assert np.allclose(
        convert_matrices(first.then(second), covariance, kind="covariance").values,
        convert_matrices(second, step, kind="covariance").values,
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("kind", ["partial correlation", "precision", "tangent"])
def test_kinds_that_belong_to_their_regions_are_refused(kind):
    with pytest.raises(DataError, match=f"found {kind}: it belongs to its regions"):
        convert_matrices(plain_map(np.ones((2, 3))), np.eye(3)[None], kind=kind)


def test_what_a_map_cannot_convert_is_refused():
    with pytest.raises(AtlasError, match="Expected a map made of label volumes for streamline count"):
        convert_matrices(plain_map(np.ones((2, 3))), np.eye(3)[None], kind="streamline count")
    with pytest.raises(DataError, match="it knows no scale"):
        convert_matrices(plain_map(np.ones((2, 3)), standardized=True), np.eye(3)[None], kind="covariance")
    with pytest.raises(DataError, match="found adjacency: what a region's mean of it is, is not known"):
        convert_matrices(plain_map(np.ones((2, 3))), np.eye(3)[None], kind="adjacency")


def test_another_number_of_regions_is_refused():
    with pytest.raises(AtlasError, match=r"Expected an array \[n, 3, 3\] for the regions of atlas 'simulated3', found \[1, 4, 4\]"):
        convert_matrices(plain_map(np.ones((2, 3))), np.eye(4)[None])
    with pytest.raises(AtlasError, match=r"Expected an array \[T, 3\]"):
        convert_series(plain_map(np.ones((2, 3))), np.zeros((20, 4)))


def make_cohort_of(values, atlas, kind="timeseries", **provenance):
    return Cohort.from_arrays("people", RegionData(atlas, values, Provenance(kind, **provenance)))


def test_a_cohort_of_series_is_converted_and_says_so():
    rng = np.random.default_rng(0)
    atlas_map = plain_map(rng.random((4, 6)))
    data = RegionData(atlas_map.source, {f"s{k}": rng.standard_normal((30, 6)) for k in range(3)}, Provenance("timeseries", pipeline="cpac"))
    found, notes = convert_regions(atlas_map, data)
    assert notes == []
    assert found.atlas is atlas_map.target
    assert found.provenance.pipeline == "cpac converted from simulated6 (made up)"
    assert np.allclose(found.values["s1"], convert_series(atlas_map, data.values["s1"]))


def test_a_cohort_of_matrices_keeps_fisher_z_and_lists_what_is_not_positive():
    bad = np.arctanh(np.array([[0, 0.9, 0.9], [0.9, 0, -0.9], [0.9, -0.9, 0]]))
    data = RegionData(simulated_atlas(3), {"a": bad, "b": np.zeros((3, 3)) + 0.1 * (1 - np.eye(3))}, Provenance("correlation", fisher_z=True))
    found, notes = convert_regions(identity_map(simulated_atlas(3)), data)
    assert found.provenance.fisher_z
    assert [note[:2] for note in notes] == [("matrix", "a")]
    assert "not positive semi-definite (smallest eigenvalue -0.8" in notes[0][2]
    assert "repaired" in convert_regions(identity_map(simulated_atlas(3)), data, repair=True)[1][0][2]


def test_data_in_another_atlas_are_refused():
    data = RegionData(simulated_atlas(5), {"a": np.random.default_rng(0).standard_normal((30, 5))}, Provenance("timeseries"))
    with pytest.raises(AtlasError, match="Expected atlas 'simulated6'"):
        convert_regions(plain_map(np.ones((2, 6))), data)


def test_cohorts_keep_everything_else(make_cohort):
    cohort = make_cohort(n_subjects=6, n_regions=12)
    name, data = next(iter(cohort.regions.items()))
    weights = np.random.default_rng(0).random((4, 12))
    atlas_map = AtlasMap(data.atlas, simulated_atlas(4), weights, "made up", np.ones(4))
    found = convert_cohort(atlas_map, cohort)
    assert list(found.regions) == ["simulated4"]
    assert found.subjects.equals(cohort.subjects)
    both = convert_cohort(atlas_map, cohort, keep=True)
    assert list(both.regions) == [name, "simulated4"]
    with pytest.raises(AtlasError, match="Expected no data in 'simulated4' yet"):
        convert_cohort(atlas_map, both)
    with pytest.raises(AtlasError, match="Give the map of the atlas the data are in"):
        convert_cohort(replace(atlas_map, source=simulated_atlas(12)), cohort)
