import numpy as np
import pytest

from graphssl.atlases import AtlasMap, convert_matrices, paired_subjects, ridge_map, simulated_atlas
from graphssl.atlases.paired import held_out_error, mean_matrix
from graphssl.data import Provenance, RegionData
from graphssl.errors import DataError


def series(atlas, subjects, seed=0, n_timepoints=30, lengths=None):
    rng = np.random.default_rng(seed)
    values = {s: rng.standard_normal(((lengths or {}).get(s, n_timepoints), len(atlas))).astype(np.float32) for s in subjects}
    return RegionData(atlas, values, Provenance("timeseries"))


def test_correlations_are_those_of_both_series_side_by_side():
    first, second = series(simulated_atlas(4), "abc"), series(simulated_atlas(3), "bcd", seed=1)
    found = paired_subjects(first, second)
    assert found.subjects == ("b", "c")
    for row, subject in enumerate(found.subjects):
        expected = np.corrcoef(np.concatenate([first.values[subject], second.values[subject]], axis=1), rowvar=False)
        assert np.allclose(found.source[row], expected[:4, :4], atol=1e-5)
        assert np.allclose(found.cross[row], expected[:4, 4:], atol=1e-5)
        assert np.allclose(found.target[row], expected[4:, 4:], atol=1e-5)
    assert len(found.select(np.array([1]))) == 1
    assert found.select(np.array([1])).subjects == ("c",)


def test_series_that_lack_the_first_volumes_are_aligned_at_their_ends():
    first = series(simulated_atlas(4), "ab")
    second = RegionData(simulated_atlas(4, seed=1), {s: v[2:] for s, v in first.values.items()}, Provenance("timeseries"))
    found = paired_subjects(first, second)
    assert np.allclose(np.diagonal(found.cross, axis1=1, axis2=2), 1, atol=1e-5)
    assert found.note == "series of 2 subjects aligned at their ends"


def test_series_of_other_scans_are_refused():
    with pytest.raises(DataError, match="found 30 and 20 time points"):
        paired_subjects(series(simulated_atlas(4), "a"), series(simulated_atlas(3), "a", n_timepoints=20))


def test_matrices_can_be_paired_too_and_z_is_undone():
    rng = np.random.default_rng(0)
    matrices = {s: np.corrcoef(rng.standard_normal((20, 3)), rowvar=False) for s in "ab"}
    z = {s: np.arctanh(np.where(np.eye(3, dtype=bool), 0, m)) for s, m in matrices.items()}
    first = RegionData(simulated_atlas(3), matrices, Provenance("correlation"))
    second = RegionData(simulated_atlas(3, seed=1), z, Provenance("correlation", fisher_z=True))
    found = paired_subjects(first, second)
    assert found.cross is None
    assert np.allclose(found.source, found.target, atol=1e-5)


@pytest.mark.parametrize("kinds", [("timeseries", "correlation"), ("covariance", "covariance")])
def test_kinds_that_do_not_pair_are_refused(kinds):
    atlas = simulated_atlas(12)
    values = np.cov(np.random.default_rng(0).standard_normal((40, 12)), rowvar=False)
    made = {
        "correlation": values / np.sqrt(np.outer(np.diag(values), np.diag(values))),
        "covariance": values,
        "timeseries": np.random.default_rng(0).standard_normal((30, 12)),
    }
    data = [RegionData(atlas, {"a": made[kind]}, Provenance(kind)) for kind in kinds]
    with pytest.raises(DataError, match="Expected time series in both atlases, or correlations in both"):
        paired_subjects(*data)


def test_nobody_with_both_is_told():
    with pytest.raises(DataError, match="'geometry' or 'overlap'"):
        paired_subjects(series(simulated_atlas(4), "ab"), series(simulated_atlas(3), "cd"))


def test_missing_regions_are_nan_and_left_out_of_means():
    first, second = series(simulated_atlas(4), "ab"), series(simulated_atlas(3), "ab", seed=1)
    first.values["a"][:, 2] = 0.0
    first = RegionData(first.atlas, first.values, first.provenance)
    found = paired_subjects(first, second)
    assert np.isnan(found.source[0, 2]).all()
    assert np.isnan(found.cross[0, 2]).all()
    assert np.allclose(mean_matrix(found.source)[2], found.source[1, 2], atol=1e-6)
    assert np.allclose(mean_matrix(found.source)[0, 1], found.source[:, 0, 1].mean(), atol=1e-6)
    assert mean_matrix(np.full((2, 3, 3), np.nan, np.float32)).tolist() == np.eye(3).tolist()


def test_the_error_is_that_on_subjects_left_out_of_the_fit(make_volume, scan_both):
    source, target = make_volume(20, seed=1), make_volume(12, seed=2)
    pairs = paired_subjects(*scan_both(source, target, 40))
    seen = []

    def fit(part):
        seen.append(part.subjects)
        return ridge_map(part)

    whole = ridge_map(pairs)
    found = held_out_error(fit, pairs, whole)
    assert [len(part) for part in seen] == [32] * 5
    assert set.intersection(*map(set, seen)) == set()
    squared = np.zeros((12, 12))
    for part in seen:
        left = [row for row, subject in enumerate(pairs.subjects) if subject not in part]
        kept = [row for row, subject in enumerate(pairs.subjects) if subject in part]
        difference = convert_matrices(ridge_map(pairs.select(np.array(kept))), pairs.source[left]).values - pairs.target[left]
        squared += (difference**2).sum(axis=0)
    expected = np.sqrt((squared + 10 * whole.edge_error**2) / 50)
    assert np.allclose(found.edge_error[np.triu_indices(12, 1)], expected[np.triu_indices(12, 1)], atol=1e-4)
    assert found.record["error"] == "held-out subjects, 40 in 5 folds"


def test_few_subjects_leave_the_error_as_it_was():
    pairs = paired_subjects(series(simulated_atlas(4), "abc"), series(simulated_atlas(3), "abc", seed=1))
    before = AtlasMap(simulated_atlas(4), simulated_atlas(3), np.ones((3, 4)), "made up", np.ones(3), edge_error=np.ones((3, 3)))
    assert held_out_error(ridge_map, pairs, before) is before
