"""Region data: what is not observed is found, and what cannot be right is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import Atlas, Provenance, RegionData
from graphssl.data.regions import missing_regions
from graphssl.errors import AtlasError, DataError

LABELS = [2, 4, 7, 9, 11]
ATLAS = Atlas("toy", np.array(LABELS), tuple("abcde"), np.zeros((5, 3)), ("",) * 5)
RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=(30, 5)).astype(np.float32)
MATRIX = np.corrcoef(SERIES.T).astype(np.float32)


def data(values, kind="timeseries", atlas=ATLAS, **provenance):
    values = values if isinstance(values, dict) else {"s1": values}
    return RegionData(atlas, values, Provenance(kind, **provenance))


def changed(array, *places, value=np.nan):
    result = array.copy()
    for place in places:
        result[place] = value
    return result


@settings(max_examples=40, deadline=None)
@given(gone=st.sets(st.integers(0, 4)), how=st.sampled_from([np.nan, 0.0, 3.5, np.inf]))
def test_constant_and_nan_regions_of_a_series_are_not_observed(gone, how):
    series = changed(SERIES, np.s_[:, sorted(gone)], value=how)
    assert data(series).observed["s1"].tolist() == [k not in gone for k in range(5)]


@settings(max_examples=40, deadline=None)
@given(gone=st.sets(st.integers(0, 4)), how=st.sampled_from([np.nan, 0.0]), diagonal=st.sampled_from([0.0, 1.0, np.nan, np.inf]))
def test_empty_rows_of_a_matrix_are_not_observed(gone, how, diagonal):
    rows = sorted(gone)
    matrix = changed(MATRIX, np.s_[rows, :], np.s_[:, rows], value=how)
    np.fill_diagonal(matrix, diagonal)
    # A lone region has no connection to be read by.
    expected = [k not in gone and len(gone) < 4 for k in range(5)]
    assert data(matrix, "correlation").observed["s1"].tolist() == expected


def test_values_become_single_precision():
    found = data(SERIES.astype(np.float64).tolist())
    assert found.values["s1"].dtype == np.float32
    np.testing.assert_array_equal(found.values["s1"], SERIES)


def test_values_in_place_of_others_become_single_precision():
    before = data({"a": np.random.default_rng(0).standard_normal((20, len(ATLAS)))})
    after = replace(before, values={"a": before.values["a"].astype(np.float64) * 2})
    assert after.values["a"].dtype == np.float32
    assert after.observed["a"].all()


def test_the_number_of_time_points_may_differ():
    assert len(data({"s1": SERIES, "s2": SERIES[:12]})) == 2
    assert len(data({})) == 0


def test_print():
    text = repr(data({"s1": MATRIX * 0.5, "s2": changed(MATRIX, 1, np.s_[:, 1])}, "correlation", fisher_z=True))
    assert text == "RegionData(2 subjects × 5 regions of toy, correlation, Fisher z, 1 regions without signal)"


def test_select_takes_subjects_that_have_data():
    both = data({"s1": SERIES, "s2": SERIES})
    assert list(both.select(["s2", "absent"]).values) == ["s2"]
    assert both.select(["s2"]).observed["s2"] is both.observed["s2"]


def test_missing_regions_are_listed():
    found = data({"s1": SERIES, "s2": changed(SERIES, np.s_[:, [1, 3]])})
    assert missing_regions(found, ["s1", "s2", "absent"]) == [("region", "s2", "2 of 5 regions of toy without signal: 4, 9")]
    wide = Atlas("wide", np.arange(1, 21), ("",) * 20, np.zeros((20, 3)), ("",) * 20)
    series = np.zeros((12, 20))
    assert missing_regions(data(series, atlas=wide), ["s1"])[0][2].endswith("20 of 20 regions of wide without signal: 1, 2, 3, 4, 5, 6, 7, 8 …")


def test_union():
    mine, theirs = data({"s1": SERIES}, pipeline="cpac"), data({"s2": SERIES}, pipeline="dparsf")
    both = mine.union(theirs)
    assert list(both.values) == ["s1", "s2"]
    assert both.provenance.pipeline == "cpac + dparsf"
    assert mine.union(data({"s2": SERIES}, pipeline="cpac")).provenance.pipeline == "cpac"
    other = Atlas("toy", np.array(LABELS) + 1, tuple("abcde"), np.zeros((5, 3)), ("",) * 5)
    with pytest.raises(AtlasError, match="Expected atlas 'toy' with hash .* on both sides, found .*: the same name stands for other labels"):
        mine.union(data({"s2": SERIES}, atlas=other))
    with pytest.raises(DataError, match="Expected the same kind in both cohorts for atlas 'toy', found timeseries and correlation"):
        mine.union(data({"s2": MATRIX}, "correlation"))
    with pytest.raises(DataError, match="Expected the same fisher_z in both cohorts for atlas 'toy', found False and True"):
        data(MATRIX, "correlation").union(data({"s2": MATRIX}, "correlation", fisher_z=True))


def test_provenance():
    assert Provenance("tangent", pipeline="cpac").to_dict() == {
        "kind": "tangent",
        "fisher_z": False,
        "pipeline": "cpac",
        "source": "",
        "diagonal": "",
        "n_timepoints": None,
    }
    assert Provenance("timeseries", n_timepoints=[70, 200]).n_timepoints == (70, 200), "JSON gives a list"
    with pytest.raises(DataError, match="Expected the kind of region data to be one of timeseries, correlation, .*; found 'coherence'"):
        Provenance("coherence")


def test_provenance_of_a_union():
    one = data({"s1": SERIES}, n_timepoints=(12, 12), diagonal="one")
    two = data({"s2": SERIES}, n_timepoints=(7, 40), diagonal="zero")
    both = one.union(two).provenance
    assert (both.n_timepoints, both.diagonal) == ((7, 40), "one, zero")
    assert one.union(data({"s2": SERIES})).provenance.n_timepoints == (12, 12)
    assert repr(one.provenance) == repr(data({"s1": SERIES}).provenance), "what the values tell stays out of the hash of a cohort"


@pytest.mark.parametrize("kind", ["streamline count", "log streamline count", "adjacency"])
def test_structural_matrices_have_any_diagonal(kind):
    counts = np.rint(np.abs(MATRIX) * 50)
    for diagonal in (0.0, 7.0, np.nan):
        np.fill_diagonal(counts, diagonal)
        assert data({"s1": counts}, kind).observed["s1"].all()


# What is refused


@pytest.mark.parametrize("kind", ["streamline count", "log streamline count"])
def test_negative_counts(kind):
    with pytest.raises(DataError, match="Expected streamline counts of zero or more for subject 's1', found -"):
        data(-np.abs(MATRIX) - 0.1, kind)
    assert data(-np.abs(MATRIX) - 0.1, "adjacency").observed["s1"].all()


@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((0, 5)), np.zeros((2, 3, 5))])
def test_arrays_that_are_not_two_dimensional(array):
    with pytest.raises(DataError, match="Expected a two-dimensional array for subject 's1', found shape"):
        data(array)


@pytest.mark.parametrize("kind", ["timeseries", "correlation"])
def test_another_number_of_regions(kind):
    with pytest.raises(AtlasError, match="Expected 5 regions of atlas 'toy' for subject 's1', found 4. Give the atlas the data were made with"):
        data(SERIES[:, :4], kind)


def test_too_few_time_points():
    with pytest.raises(DataError, match="Expected at least 10 time points for subject 's1', found 9"):
        data(SERIES[:9])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scattered_time_points_that_are_not_finite(value):
    with pytest.raises(DataError, match=r"found NaN or infinite time points in region labels \[4, 11\]\. Censor or interpolate"):
        data(changed(SERIES, (3, 1), (5, 4), np.s_[:, 2], value=value))


def test_matrix_that_is_not_square():
    with pytest.raises(DataError, match=r"Expected a square matrix for subject 's1', found shape \(4, 5\)"):
        data(MATRIX[:4], "correlation")


def test_scattered_nan_in_a_matrix():
    with pytest.raises(DataError, match="Expected finite connections for subject 's1', found 2 NaN or infinite ones outside of empty rows"):
        data(changed(MATRIX, (1, 2), (2, 1)), "correlation")


def test_matrix_that_is_not_symmetric():
    with pytest.raises(DataError, match="Expected a symmetric matrix for subject 's1', found entries that differ from their mirror by up to 0.5"):
        data(changed(np.zeros((5, 5)), (1, 2), value=0.5), "correlation")
    assert data(MATRIX + np.triu(np.full((5, 5), 1e-5), 1), "correlation").observed["s1"].all(), "rounding is no asymmetry"


def test_fisher_z_given_as_correlation():
    z = changed(np.zeros((5, 5)), (1, 2), (2, 1), value=1.4)
    for kind in ("correlation", "partial correlation"):
        with pytest.raises(DataError, match=r"Expected correlations within \[-1, 1\] for subject 's1', found 1\.4\. .*say so with fisher_z=True"):
            data(z, kind)
        assert data(z, kind, fisher_z=True).observed["s1"].tolist() == [False, True, True, False, False]
    assert len(data(z, "covariance")) == 1


@pytest.mark.parametrize("kind", ["covariance", "precision", "tangent"])
def test_the_diagonal_of_other_kinds_is_data(kind):
    broken = changed(MATRIX, (2, 2))
    with pytest.raises(
        DataError, match=rf"on the diagonal for subject 's1', found NaN or infinite ones in region labels \[7\]\. The diagonal of a {kind}"
    ):
        data(broken, kind)
    assert data(changed(MATRIX, 2, np.s_[:, 2]), kind).observed["s1"].tolist() == [True, True, False, True, True]
