import numpy as np
import pytest

from graphssl.atlases import convert_matrices, geometry_map, joint_map, paired_subjects, ridge_map, simulated_atlas
from graphssl.atlases.paired import mean_matrix
from graphssl.data import Provenance, RegionData
from graphssl.errors import DataError


def likeness(atlas_map, pairs):
    """Mean correlation of converted and true connections over subjects."""
    found = convert_matrices(atlas_map, pairs.source).values
    i, j = np.triu_indices(found.shape[1], 1)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found[:, i, j], pairs.target[:, i, j], strict=True)])


@pytest.fixture(scope="module")
def world(make_volume, scan_both):
    """Parcellations, 60 training subjects and 15 others."""
    source, target = make_volume(40, seed=1, name="source"), make_volume(25, seed=2, name="target")
    data = scan_both(source, target, 75)
    ids = list(data[0].values)
    return source, target, data, paired_subjects(*data, ids[:60]), paired_subjects(*data, ids[60:])


def test_ridge_is_that_of_the_series(world):
    """All subjects' z-scored series below one another, each subject with the same weight."""
    from sklearn.linear_model import Ridge

    _, _, data, train, _ = world
    few = train.select(np.arange(5))
    x, y = (np.concatenate([_standardised(part.values[s]) for s in few.subjects]) for part in data)
    expected = Ridge(alpha=0.05 * len(x), fit_intercept=False).fit(x, y).coef_
    assert np.allclose(ridge_map(few).weights, expected, atol=1e-3)


def test_what_was_learned_beats_geometry_and_plain_ridge_on_others(world):
    source, target, _, train, test = world
    scores = {
        "geometry": likeness(geometry_map(source, target, mean_matrix(train.source)), test),
        "ridge": likeness(ridge_map(train), test),
        "joint": likeness(joint_map(source, target, train), test),
    }
    assert scores["joint"] >= scores["ridge"]
    assert scores["joint"] > scores["geometry"] + 0.01


def test_with_few_subjects_geometry_keeps_it_from_overfitting(world):
    source, target, _, train, test = world
    few = train.select(np.arange(3))
    assert likeness(joint_map(source, target, few), test) > likeness(ridge_map(few), test) + 0.005


def test_the_expected_error_is_what_others_show(world):
    source, target, _, train, test = world
    found = joint_map(source, target, train)
    difference = convert_matrices(found, test.source).values - test.target
    inside = np.triu_indices(25, 1)
    observed, expected = np.sqrt((difference**2).mean(axis=0))[inside], found.edge_error[inside]
    assert expected.mean() == pytest.approx(observed.mean(), rel=0.2)
    assert np.corrcoef(observed, expected)[0, 1] > 0.5
    assert found.record["error"].startswith("held-out subjects")


def test_matrices_alone_teach_too(world):
    source, target, data, train, test = world
    matrices = [
        RegionData(part.atlas, {s: np.corrcoef(part.values[s], rowvar=False) for s in train.subjects}, Provenance("correlation")) for part in data
    ]
    pairs = paired_subjects(*matrices)
    found = joint_map(source, target, pairs)
    geometry = geometry_map(source, target, mean_matrix(pairs.source))
    assert np.allclose(found.weights, geometry.weights)
    assert likeness(found, test) > likeness(geometry, test)


def test_the_correction_needs_subjects(world):
    source, target, _, train, _ = world
    assert joint_map(source, target, train).correction is not None
    assert joint_map(source, target, train, n_patterns=0).correction is None
    assert joint_map(source, target, train.select(np.arange(20))).correction is None


def test_ridge_needs_series(world):
    _, _, _, train, _ = world
    from dataclasses import replace

    with pytest.raises(DataError, match="Use 'joint', which learns from them too"):
        ridge_map(replace(train, cross=None))


def test_other_regions_than_the_data_have_are_refused(world):
    source, target, _, train, _ = world
    with pytest.raises(DataError, match="Select their labels in the parcellation"):
        joint_map(source.select(source.atlas.labels[:-1]), target, train)


def test_centroids_serve_as_a_prior(world):
    source, target, _, train, test = world
    few = train.select(np.arange(10))
    found = joint_map(source.atlas, target.atlas, few)
    assert np.isnan(found.coverage).all()
    assert likeness(found, test) > likeness(ridge_map(few), test)


def test_a_missing_region_of_a_subject_spoils_nothing(world):
    source, target, data, train, test = world
    broken = dict(data[0].values)
    broken[train.subjects[0]] = broken[train.subjects[0]].copy()
    broken[train.subjects[0]][:, 5] = 0
    pairs = paired_subjects(RegionData(data[0].atlas, broken, data[0].provenance), data[1], train.subjects)
    assert likeness(joint_map(source, target, pairs), test) == pytest.approx(likeness(joint_map(source, target, train), test), abs=0.01)


def _standardised(series):
    return (series - series.mean(axis=0)) / series.std(axis=0)


def test_unrelated_atlases_are_no_prior_error(world):
    """The prior only needs places; a simulated atlas of other regions is refused by its labels."""
    _, target, _, train, _ = world
    with pytest.raises(DataError, match="Expected the regions of the subjects' data"):
        joint_map(simulated_atlas(40), target, train)
