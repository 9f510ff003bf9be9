import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import graphssl
from graphssl.atlases import (
    AtlasConverter,
    TiedAutoencoder,
    autoencoder_map,
    convert_matrices,
    convert_series,
    overlap_map,
    paired_subjects,
    simulated_atlas,
    transport_map,
)
from graphssl.data import Cohort
from graphssl.errors import AtlasError, ConfigError, DataError


@pytest.fixture(scope="module")
def world(make_volume, scan_both):
    source, target = make_volume(20, seed=1, name="source"), make_volume(12, seed=2, name="target")
    return source, target, scan_both(source, target, 12)


def cohort_of(world, *, target=True):
    _, _, (first, second) = world
    import pandas as pd

    from graphssl.data import Schema

    subjects = pd.DataFrame(index=pd.Index(list(first.values), name="subject_id"))
    regions = {first.atlas.name: first, **({second.atlas.name: second} if target else {})}
    return Cohort("people", subjects, Schema([]), regions)


def test_it_keeps_the_contract_of_an_estimator(world):
    source, target, _ = world
    converter = AtlasConverter(source, target, method="geometry", options={"noise": 0.1})
    assert converter.get_params()["options"] == {"noise": 0.1}
    assert clone(converter).method == "geometry"
    with pytest.raises(NotFittedError):
        converter.transform(np.eye(20)[None])
    assert converter.fit().map_.method == "geometry"


def test_overlap_needs_no_subject(world):
    source, target, (first, _) = world
    converter = AtlasConverter(source, target).fit()
    series = first.values["s00"]
    assert np.allclose(converter.transform(series), convert_series(overlap_map(source, target), series))
    matrices = np.stack([np.corrcoef(v, rowvar=False) for v in first.values.values()])
    assert np.allclose(converter.transform(matrices), convert_matrices(overlap_map(source, target), matrices).values)
    assert converter.transform(matrices[0]).shape == (12, 12)
    assert [part.shape for part in converter.transform([series, matrices[0]])] == [(80, 12), (12, 12)]
    assert converter.transform(first).atlas.name == "target"
    assert converter.n_subjects_ == 0


@pytest.mark.parametrize("method", ["ridge", "joint"])
def test_learned_methods_take_a_cohort_with_both_atlases(world, method):
    source, target, (_, second) = world
    cohort = cohort_of(world)
    converter = AtlasConverter(source, target, method=method).fit(cohort)
    assert converter.n_subjects_ == 12
    converted = converter.transform(cohort_of(world, target=False))
    assert list(converted.regions) == ["target"]
    i, j = np.triu_indices(12, 1)
    found, true = (np.corrcoef(data.values["s03"], rowvar=False)[i, j] for data in (converted.regions["target"], second))
    assert np.corrcoef(found, true)[0, 1] > 0.7


def test_transport_needs_subjects_for_its_functional_cost_alone(world):
    source, target, _ = world
    converter = AtlasConverter(source, target, method="transport").fit()
    assert converter.n_subjects_ == 0
    np.testing.assert_array_equal(converter.map_.weights, transport_map(source, target).weights)
    learned = AtlasConverter(source, target, method="transport", options={"cost": "functional"})
    assert learned.fit(cohort_of(world)).map_.method == "functional transport"
    assert learned.n_subjects_ == 12
    with pytest.raises(DataError, match=r"training subjects with data in"):
        learned.fit()


def test_an_autoencoder_is_fitted_on_both_atlases(world):
    source, target, (first, second) = world
    options = {"autoencoder": TiedAutoencoder(n_features=8, steps=5)}
    converter = AtlasConverter(source, target, method="autoencoder", options=options).fit(cohort_of(world))
    np.testing.assert_array_equal(converter.map_.weights, autoencoder_map(paired_subjects(first, second), **options).weights)


def test_learned_maps_know_their_coverage_where_there_are_volumes(world):
    source, target, _ = world
    half = source.select(source.atlas.labels[:10])
    found = AtlasConverter(half, target, method="ridge").fit(_half_of(cohort_of(world), half.atlas))
    assert np.allclose(found.map_.coverage, overlap_map(half, target).coverage)


def _half_of(cohort, atlas):
    from dataclasses import replace

    from graphssl.data import RegionData

    data = cohort.regions["source"]
    return replace(cohort, regions={**cohort.regions, "source": RegionData(atlas, {s: v[:, :10] for s, v in data.values.items()}, data.provenance)})


def test_learned_methods_take_arrays_as_well(world):
    source, target, (first, second) = world
    from_cohort = AtlasConverter(source, target, method="ridge").fit(cohort_of(world))
    from_lists = AtlasConverter(source, target, method="ridge").fit(list(first.values.values()), list(second.values.values()))
    assert np.allclose(from_cohort.map_.weights, from_lists.map_.weights)


def test_geometry_learns_the_field_from_subjects_in_the_source(world):
    source, target, _ = world
    typical = AtlasConverter(source, target, method="geometry").fit()
    fitted = AtlasConverter(source, target, method="geometry").fit(cohort_of(world, target=False))
    assert typical.map_.record["field"] != fitted.map_.record["field"]


def test_it_is_a_public_name():
    assert graphssl.AtlasConverter is AtlasConverter
    assert "power264" in graphssl.atlases.list()


def test_an_unknown_method_is_refused(world):
    with pytest.raises(ConfigError, match=r"Expected the method to be one of overlap, geometry, .*; found 'magic'"):
        AtlasConverter(world[0], world[1], method="magic").fit()


def test_an_option_of_another_method_is_refused(world):
    with pytest.raises(ConfigError, match=r"Expected options of the method 'overlap' .*, found \['penalty'\]"):
        AtlasConverter(world[0], world[1], options={"penalty": 1}).fit()


def test_overlap_without_volumes_points_to_geometry():
    with pytest.raises(AtlasError, match="found only centroids of 'simulated4' and 'simulated6'. Use 'geometry'"):
        AtlasConverter(simulated_atlas(4), simulated_atlas(6)).fit()


def test_learned_methods_need_both_atlases(world):
    with pytest.raises(DataError, match="Expected training subjects with data in 'target', found none"):
        AtlasConverter(world[0], world[1], method="joint").fit(cohort_of(world, target=False))


def test_another_atlas_is_refused_when_it_is_applied(world):
    converter = AtlasConverter(world[0], world[1]).fit()
    with pytest.raises(AtlasError, match=r"Expected an array \[n, 20, 20\]"):
        converter.transform(np.eye(7)[None])
