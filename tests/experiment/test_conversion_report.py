import math

import numpy as np
import pytest

from graphssl.atlases import AtlasMap, geometry_map, simulated_atlas
from graphssl.atlases.map import identity_map
from graphssl.data import Provenance, RegionData
from graphssl.experiment.conversion_report import describe_conversion, round_trip

SOURCE, TARGET = simulated_atlas(6), simulated_atlas(4)
WEIGHTS = np.array([[0.7, 0.3, 0, 0, 0, 0], [0, 0, 0.5, 0.46, 0.04, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, -2.0]])


@pytest.fixture
def there():
    error = np.array([[0, 0.3, 0, 0.1], [0.3, 0, 0, 0.2], [0, 0, 0, 0], [0.1, 0.2, 0, 0]])
    return AtlasMap(SOURCE, TARGET, WEIGHTS, "made", np.array([1.0, 0.5, 0.0, 0.8]), edge_error=error, record={"grid": "one grid", "error": "known"})


def scans(n, n_regions=6, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((3, n_regions))
    values = {f"s{k}": rng.standard_normal((50, 3)) @ mixing + rng.standard_normal((50, n_regions)) for k in range(n)}
    return RegionData(SOURCE, values, Provenance("timeseries"))


def test_regions_of_a_map_as_a_table(there):
    report = describe_conversion(there, scans(2), back=geometry_map(TARGET, SOURCE), remarks=[("More", "words")])
    table = report.regions
    assert table["served"].tolist() == [True, True, False, True]
    assert table["n_sources"].tolist() == [2, 2, 0, 1], "0.5 and 0.46 are nine tenths of 1; 0.7 alone is not"
    assert table["largest_source"].fillna(0).tolist() == [1, 3, 0, 6]
    assert table["largest_source_name"].tolist() == [SOURCE.names[0], SOURCE.names[2], "", SOURCE.names[5]]
    assert table["expected_error"][0] == pytest.approx(math.sqrt((0.3**2 + 0.1**2) / 2))
    assert math.isnan(table["expected_error"][2])
    assert report.error == pytest.approx(math.sqrt((0.3**2 + 0.1**2 + 0.2**2) / 3))
    assert (report.error_from, report.resampled, report.what) == ("known", "one grid", "2 subjects, time series,")
    assert report.remarks == (("More", "words"),)


def test_regions_without_networks_borrow_them(there):
    report = describe_conversion(there, scans(1), back=geometry_map(TARGET, SOURCE))
    assert report.networks_from == "seitzman300"
    assert any(report.source_networks)
    assert report.what == "1 subject, time series,"


def test_chained_maps_tell_of_both(there):
    second = AtlasMap(TARGET, TARGET, np.eye(4), "other", np.ones(4), record={"grid": "balls"})
    report = describe_conversion(there.then(second), scans(1), back=geometry_map(TARGET, SOURCE))
    assert report.resampled == "one grid; balls"
    assert math.isnan(report.error)
    same = describe_conversion(identity_map(SOURCE), scans(1), back=identity_map(SOURCE))
    assert (same.error, same.error_from, same.resampled) == (0.0, "since both atlases are one", "none needed by this method")


def test_there_and_back_against_loops():
    there = AtlasMap(SOURCE, TARGET, np.abs(np.random.default_rng(1).standard_normal((4, 6))), "there", np.ones(4))
    back = AtlasMap(TARGET, SOURCE, np.abs(np.random.default_rng(2).standard_normal((6, 4))), "back", np.ones(6))
    data = scans(5)
    trip = round_trip(there, back, data)
    assert trip is not None
    upper = np.triu_indices(6, 1)
    for series, found in zip(data.values.values(), trip.r, strict=True):
        before, after = np.corrcoef(series.T), np.corrcoef((series @ there.weights.T @ back.weights.T).T)
        assert found == pytest.approx(np.corrcoef(before[upper], after[upper])[0, 1], abs=1e-4)
    assert (trip.back, trip.n_subjects, len(trip.before)) == ("back", 5, 15)
    assert np.corrcoef(trip.before, trip.after)[0, 1] == pytest.approx(np.sort(trip.r)[2])


def test_a_sample_stands_for_many_and_the_same_atlas_loses_nothing():
    trip = round_trip(identity_map(SOURCE), identity_map(SOURCE), scans(9), most_subjects=4)
    assert trip is not None
    assert (len(trip.r), trip.n_subjects) == (4, 9)
    np.testing.assert_allclose(trip.r, 1.0, atol=1e-5)


def test_what_cannot_come_back_is_not_measured():
    counts = np.random.default_rng(0).poisson(5, (6, 6))
    data = RegionData(SOURCE, {"a": np.triu(counts, 1) + np.triu(counts, 1).T}, Provenance("streamline count"))
    assert round_trip(identity_map(SOURCE), geometry_map(SOURCE, TARGET), data) is None
    assert round_trip(identity_map(SOURCE), identity_map(SOURCE), data).r.tolist() == [pytest.approx(1.0)]
    pair = simulated_atlas(2)
    two = RegionData(pair, {"a": np.random.default_rng(0).standard_normal((30, 2))}, Provenance("timeseries"))
    assert round_trip(identity_map(pair), identity_map(pair), two) is None, "one connection has no correlation"
