import numpy as np
import pytest

from graphssl.atlases import LabelVolume, convert_matrices, fit_spatial_model, geometry_map, overlap_map, paired_subjects, simulated_atlas
from graphssl.atlases.geometry import TYPICAL, SpatialModel, conditional, joint_correlation
from graphssl.atlases.label_volume import to_mm
from graphssl.atlases.paired import mean_matrix
from graphssl.errors import DataError


def edges(matrices):
    i, j = np.triu_indices(matrices.shape[-1], 1)
    return matrices[:, i, j]


def likeness(found, true):
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(edges(found), edges(true), strict=True)])


@pytest.fixture(scope="module")
def people(make_volume, scan_both):
    source, target = make_volume(40, seed=1, name="source"), make_volume(25, seed=2, name="target")
    return source, target, paired_subjects(*scan_both(source, target, 12))


def test_it_beats_plain_averaging_over_shared_volume(people):
    source, target, pairs = people
    plain = likeness(convert_matrices(overlap_map(source, target), pairs.source).values, pairs.target)
    found = likeness(convert_matrices(geometry_map(source, target, mean_matrix(pairs.source)), pairs.source).values, pairs.target)
    assert found > plain + 0.01


def test_centroids_alone_give_a_map_that_is_marked_as_such(people):
    source, target, pairs = people
    found = geometry_map(source.atlas, target.atlas, mean_matrix(pairs.source))
    assert found.record["grid"] == "balls around centroids"
    assert np.isnan(found.coverage).all()
    assert likeness(convert_matrices(found, pairs.source).values, pairs.target) > 0.5


def test_the_joint_correlation_is_that_of_voxels_averaged(make_volume):
    """Every voxel is a point of the sample here, so that the model can be written out."""
    source, target = make_volume(30, seed=1, shape=(8, 10, 8), affine=_coarse()), make_volume(18, seed=2, shape=(8, 10, 8), affine=_coarse())
    model = SpatialModel((0.3, 0.2, 0.1, 0.0, 0.1, 0.1, 0.05, 0.2), centred=True)
    where = np.argwhere((source.places >= 0) & (target.places >= 0))
    places = to_mm(where, source.affine)
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    mirrored = np.linalg.norm(places[:, None] * [-1, 1, 1] - places, axis=2)
    voxels = sum(w * np.exp(-apart / length) for w, length in zip(model.weights, (4, 8, 16, 32, 64), strict=False))
    voxels = voxels + model.weights[5] * np.exp(-mirrored / 8) + model.weights[6] * np.exp(-mirrored / 24)
    voxels = voxels + model.weights[7] * np.eye(len(places)) * 27 / source.voxel_mm3
    centre = np.eye(len(places)) - 1 / len(places)
    means = np.concatenate([_mean_of(volume, where) for volume in (source, target)])
    covariance = means @ centre @ voxels @ centre @ means.T
    expected = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert source.n_voxels.max() <= 24
    assert np.allclose(joint_correlation(source, target, model), expected, atol=2e-3)


def test_parameters_of_a_field_are_found_again(make_volume):
    volume = make_volume(40, seed=1)
    true = SpatialModel((0.0, 0.0, 0.7, 0.0, 0.0, 0.0, 0.3, 0.0), centred=False)
    wanted = joint_correlation(volume, volume, true)[:40, :40]
    found = fit_spatial_model(volume, wanted)
    again = joint_correlation(volume, volume, found)[:40, :40]
    assert np.abs(again - wanted).max() < 0.05


def test_regions_nobody_has_do_not_count(make_volume):
    volume = make_volume(20, seed=1)
    wanted = joint_correlation(volume, volume, TYPICAL)[:20, :20]
    wanted[3], wanted[:, 3] = np.nan, np.nan
    assert np.isfinite(fit_spatial_model(volume, wanted).weights).all()


def test_another_size_is_refused(make_volume):
    with pytest.raises(DataError, match=r"Expected a mean correlation \[20, 20\]"):
        fit_spatial_model(make_volume(20), np.eye(4))


def test_weights_are_those_of_regression():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((500, 7)) @ rng.standard_normal((7, 7))
    series = (series - series.mean(axis=0)) / series.std(axis=0)
    joint = np.corrcoef(series, rowvar=False)
    weights, unexplained = conditional(joint, 4, 0.0)
    expected = np.linalg.lstsq(series[:, :4], series[:, 4:], rcond=None)[0].T
    assert np.allclose(weights, expected)
    residual = series[:, 4:] - series[:, :4] @ expected.T
    assert np.allclose(unexplained, residual.T @ residual / 500)


def test_to_the_same_parcellation_it_is_the_identity():
    atlas = simulated_atlas(10)
    assert (geometry_map(atlas, atlas).weights == np.eye(10)).all()


def test_a_region_without_any_source_voxel_is_not_served(make_volume):
    target, whole = make_volume(9, seed=2), make_volume(20, seed=1)
    values = np.where(target.values == target.atlas.labels[4], 0, whole.values)
    atlas = whole.atlas.select([label for label in whole.atlas.labels.tolist() if (values == label).any()])
    found = geometry_map(LabelVolume(atlas, values, whole.affine), target)
    assert not found.served[4]
    assert found.served.sum() == 8


def test_regions_far_from_every_source_are_not_served():
    far = simulated_atlas(30)
    near = far.select(far.labels[(far.centroids[:, 1] < -40)])
    found = geometry_map(near, simulated_atlas(31))
    front = simulated_atlas(31).centroids[:, 1] > 40
    assert not found.served[front].all()
    assert found.served[simulated_atlas(31).centroids[:, 1] < -45].all()


def _coarse():
    affine = np.diag([18.0, 18, 18, 1])
    affine[:3, 3] = [-63, -93, -51]
    return affine


def _mean_of(volume, where):
    owner = volume.places[tuple(where.T)]
    return np.stack([(owner == k) / (owner == k).sum() for k in range(len(volume.atlas))])
