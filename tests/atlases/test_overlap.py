import numpy as np
import pytest

from graphssl.atlases import LabelVolume, convert_matrices, overlap_map, overlap_volumes, paired_subjects
from graphssl.atlases.overlap import model_edge_error, resampling, same_parcellation


def by_voxel(source, target):
    """Shared volume counted one voxel at a time, on one grid."""
    found = np.zeros((len(target.atlas), len(source.atlas)))
    for a, b in zip(source.places.ravel(), target.places.ravel(), strict=True):
        if a >= 0 and b >= 0:
            found[b, a] += source.voxel_mm3
    return found


def finer(volume, factor=2):
    """The same parcellation on a grid with smaller voxels, whose centres are shifted."""
    values = volume.values.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    affine = volume.affine.copy()
    affine[:3, :3] /= factor
    affine[:3, 3] = volume.affine[:3, 3] - volume.affine[:3, :3].diagonal() / 2 + affine[:3, :3].diagonal() / 2
    return LabelVolume(volume.atlas, values, affine, volume.path)


def test_volumes_equal_those_counted_voxel_by_voxel(make_volume):
    source, target = make_volume(20, seed=1), make_volume(9, seed=2)
    assert np.allclose(overlap_volumes(source, target), by_voxel(source, target))
    assert np.allclose(overlap_volumes(source, target).T, overlap_volumes(target, source))


def test_another_resolution_gives_the_same_volumes(make_volume):
    source, target = make_volume(20, seed=1), make_volume(9, seed=2)
    expected = by_voxel(source, target)
    assert np.allclose(overlap_volumes(finer(source), target), expected)
    assert np.allclose(overlap_volumes(source, finer(target, 3)), expected)
    assert "6×6×6 mm) looked up at the voxels of" in resampling(finer(source), target)
    assert resampling(source, target) == "one grid"


def test_a_mirrored_grid_gives_the_same_volumes(make_volume):
    source, target = make_volume(15, seed=1), make_volume(8, seed=2)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = source.values.shape[0] - 1
    mirrored = LabelVolume(source.atlas, source.values[::-1], source.affine @ flip)
    assert np.allclose(overlap_volumes(mirrored, target), by_voxel(source, target))


def test_weights_are_shares_of_the_covered_volume(make_volume):
    source, target = make_volume(20, seed=1), make_volume(9, seed=2)
    found = overlap_map(source, target)
    volumes = by_voxel(source, target)
    assert np.allclose(found.weights, volumes / volumes.sum(axis=1, keepdims=True))
    assert np.allclose(found.coverage, 1)
    assert np.allclose(found.shares.sum(axis=0), 1)
    assert found.served.all()


def test_coverage_counts_what_source_regions_leave_out(make_volume):
    source, target = make_volume(20, seed=1), make_volume(9, seed=2)
    some = source.select(source.atlas.labels[:10])
    found = overlap_map(some, target)
    expected = by_voxel(some, target).sum(axis=1) / (target.n_voxels * target.voxel_mm3)
    assert np.allclose(found.coverage, expected)
    assert (expected < 1).any()
    assert np.allclose(found.weights.sum(axis=1)[found.served], 1)


def test_a_region_without_any_source_voxel_is_not_served(make_volume):
    target = make_volume(9, seed=2)
    lost = target.atlas.labels[4]
    source = LabelVolume(*_without(make_volume(20, seed=1), target.values == lost))
    found = overlap_map(source, target)
    assert found.served.tolist() == [k != 4 for k in range(9)]
    assert found.coverage[4] == 0


def test_to_the_same_parcellation_it_is_the_identity(make_volume):
    volume = make_volume(12)
    found = overlap_map(volume, finer(volume))
    assert (found.weights == np.eye(12)).all()
    assert same_parcellation(volume, finer(volume))
    assert not same_parcellation(volume, make_volume(12, seed=5, name="others"))


@pytest.mark.parametrize("told", [0.0, 0.3, 0.8])
def test_the_expected_error_is_that_of_independent_signals(told):
    """Series whose parts are known and unknown: the error of their correlation when the unknown is left out, over many scans."""
    rng = np.random.default_rng(0)
    n_scans, n_timepoints = 4000, 40
    known = rng.standard_normal((n_scans, 2, n_timepoints)) * told**0.5
    lost = rng.standard_normal((n_scans, 2, n_timepoints)) * (1 - told) ** 0.5
    whole = known + lost
    covariance = (whole[:, 0] * whole[:, 1]).mean(axis=1)
    predicted = (known[:, 0] * known[:, 1]).mean(axis=1)
    expected = model_edge_error(np.array([told, told]), n_timepoints)
    assert np.sqrt(((covariance - predicted) ** 2).mean()) == pytest.approx(expected[0, 1], rel=0.05)
    assert expected[0, 0] == 0


def test_regions_that_sources_hardly_tell_are_expected_to_be_further_off(make_volume, scan_both):
    """Sources larger than the targets: observed errors of regions follow the expected ones, and are of their size."""
    source, target = make_volume(15, seed=1, name="large"), make_volume(40, seed=2, name="small")
    pairs = paired_subjects(*scan_both(source, target, 20))
    found = overlap_map(source, target)
    difference = convert_matrices(found, pairs.source).values - pairs.target
    off = ~np.eye(40, dtype=bool)
    observed = np.sqrt((difference**2).mean(axis=0).sum(axis=1, where=off) / 39)
    assert np.corrcoef(observed, found.region_error)[0, 1] > 0.4
    assert 0.5 < observed.mean() / found.region_error.mean() < 2


def test_nothing_lost_means_no_error():
    assert (model_edge_error(np.ones(3)) == 0).all()


def _without(volume, where):
    values = np.where(where, 0, volume.values)
    left = np.isin(volume.atlas.labels, np.unique(values))
    return volume.atlas.select(volume.atlas.labels[left]), values, volume.affine
