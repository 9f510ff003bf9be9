"""Connectivity of subjects against nilearn, and the table of connections made of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from graphssl.data import Atlas, Cohort, Provenance, RegionData, Schema
from graphssl.errors import AtlasError, ConfigError, DataError
from graphssl.graphs.connectivity import Connectivity, ConnectivityFeatures

KINDS = ("correlation", "partial correlation", "tangent", "covariance", "precision")
ESTIMATORS = {"ledoit-wolf": LedoitWolf(store_precision=False), None: EmpiricalCovariance(store_precision=False)}
LENGTHS = (60, 45, 60, 52, 45, 60, 60, 45)


def make_atlas(n_regions=8, name="toy"):
    labels = 5 * np.arange(1, n_regions + 1)
    return Atlas(name, labels, tuple(f"{name} {i}" for i in range(n_regions)), np.zeros((n_regions, 3)), ("",) * n_regions)


def make_data(lengths=LENGTHS, n_regions=8, seed=0, name="toy"):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_regions, n_regions)) + np.eye(n_regions)
    series = {f"s{k}": (rng.standard_normal((length, n_regions)) @ mixing).astype(np.float32) for k, length in enumerate(lengths)}
    return RegionData(make_atlas(n_regions, name), series, Provenance("timeseries"))


def ids_of(data):
    return list(data.values)


def without(data, missing):
    """The data with regions switched off, by subject."""
    values = {subject: array.copy() for subject, array in data.values.items()}
    for subject, regions in missing.items():
        values[subject][:, regions] = 0.0
    return RegionData(data.atlas, values, data.provenance)


def as_matrices(data, kind, fisher_z=False):
    matrices, _ = Connectivity(kind, fisher_z).fit_transform(data, ids_of(data))
    values = dict(zip(data.values, matrices.numpy(), strict=True))
    return RegionData(data.atlas, values, Provenance(kind, fisher_z=fisher_z))


def cohort_of(*datas, ids=None):
    ids = ids or sorted({subject for data in datas for subject in data.values})
    table = pd.DataFrame(index=pd.Index(ids, dtype="str"))
    return Cohort("toy", table, Schema([]), {data.atlas.name: data for data in datas})


@pytest.mark.parametrize("shrinkage", ["ledoit-wolf", None])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_that_of_nilearn(kind, shrinkage):
    from nilearn.connectome import ConnectivityMeasure

    data = make_data()
    train, new = ids_of(data)[:6], ids_of(data)[6:]
    series = [data.values[subject].astype(np.float64) for subject in data.values]
    peer = ConnectivityMeasure(ESTIMATORS[shrinkage], kind=kind).fit(series[:6])
    ours = Connectivity(kind, fisher_z=False, shrinkage=shrinkage).fit(data, train)
    for subjects, part in ((train, series[:6]), (new, series[6:])):
        expected = peer.transform(part)
        if "correlation" in kind:
            expected[:, range(8), range(8)] = 0
        np.testing.assert_allclose(ours.transform(data, subjects)[0].numpy(), expected, atol=1e-4 if kind != "precision" else 1e-3, rtol=1e-4)
    if kind == "tangent":
        np.testing.assert_allclose(ours.mean_.numpy(), peer.mean_, atol=1e-4)
        np.testing.assert_allclose(ours.whitening_.numpy(), peer.whitening_, atol=1e-4)


@pytest.mark.parametrize(("kind", "shrinkage"), [("correlation", None), ("covariance", None), ("precision", "ledoit-wolf")])
def test_auto_shrinks_where_full_rank_is_needed(kind, shrinkage):
    data = make_data()
    automatic, _ = Connectivity(kind).fit_transform(data, ids_of(data))
    chosen, _ = Connectivity(kind, shrinkage=shrinkage).fit_transform(data, ids_of(data))
    assert torch.equal(automatic, chosen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [{}, {"s1": [2], "s2": [2, 5]}])
def test_fitting_and_transforming_at_once_is_the_one_after_the_other(kind, missing):
    data = without(make_data(), missing)
    at_once, fitted = Connectivity(kind), Connectivity(kind).fit(data, ids_of(data))
    found, seen = at_once.fit_transform(data, ids_of(data))
    expected, observed = fitted.transform(data, ids_of(data))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen, observed)
    assert at_once.state().keys() == fitted.state().keys()
    for name, tensor in fitted.state().items():
        torch.testing.assert_close(at_once.state()[name], tensor)


@pytest.mark.parametrize("kind", KINDS)
def test_both_triangles_are_equal_to_the_last_bit(kind):
    data = make_data()
    matrices, _ = Connectivity(kind).fit_transform(data, ids_of(data))
    assert torch.equal(matrices, matrices.mT)


def test_fisher_z_is_arctanh_with_an_empty_diagonal():
    data = make_data()
    z, _ = Connectivity("correlation").fit_transform(data, ids_of(data))
    r, _ = Connectivity("correlation", fisher_z=False).fit_transform(data, ids_of(data))
    torch.testing.assert_close(z, torch.atanh(r), atol=1e-5, rtol=1e-5)
    assert (z.diagonal(dim1=1, dim2=2) == 0).all()
    assert z.dtype == torch.float32
    assert torch.equal(z, z.mT)


def test_fisher_z_of_a_copied_region_stays_finite():
    data = make_data()
    for series in data.values.values():
        series[:, 1] = series[:, 0]
    z, _ = Connectivity().fit_transform(data, ids_of(data))
    torch.testing.assert_close(z[:, 0, 1], torch.full((8,), float(np.arctanh(1 - 1e-6))), rtol=1e-4, atol=0)


def test_a_large_constant_in_every_series_does_not_matter():
    data = make_data()
    expected = np.stack([np.corrcoef(data.values[subject].astype(np.float64), rowvar=False) for subject in ids_of(data)])
    raised = RegionData(data.atlas, {subject: series.astype(np.float64) + 2.0**13 for subject, series in data.values.items()}, data.provenance)
    found, _ = Connectivity("correlation", fisher_z=False).fit_transform(raised, ids_of(data))
    np.testing.assert_allclose(found.numpy(), expected * (1 - np.eye(expected.shape[1])), atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), order=st.permutations(range(8)), kind=st.sampled_from(KINDS))
def test_permuting_regions_permutes_the_matrices(seed, order, kind):
    data = without(make_data(seed=seed), {"s1": [2], "s2": [2, 5]})
    permuted = RegionData(data.atlas.select(data.atlas.labels[order]), {s: x[:, order] for s, x in data.values.items()}, data.provenance)
    expected, observed = Connectivity(kind).fit_transform(data, ids_of(data))
    found, seen = Connectivity(kind).fit_transform(permuted, ids_of(data))
    assert torch.equal(seen, observed[:, order])
    torch.testing.assert_close(found, expected[:, order][:, :, order], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_regions_are_masked_and_zero(kind):
    data = make_data()
    gaps = without(data, {"s1": [2], "s3": [0, 7]})
    matrices, observed = Connectivity(kind).fit_transform(gaps, ids_of(gaps))
    assert observed.sum().item() == 8 * 8 - 3
    assert matrices.isfinite().all()
    both = observed.unsqueeze(1) & observed.unsqueeze(2)
    assert (matrices[~both] == 0).all()
    assert not observed[1, 2]


@pytest.mark.parametrize("kind", ["correlation", "partial correlation", "covariance", "precision"])
def test_missing_regions_do_not_change_the_others(kind):
    data = make_data()
    matrices, _ = Connectivity(kind).fit_transform(without(data, {"s1": [2]}), ["s1"])
    kept = [0, 1, 3, 4, 5, 6, 7]
    smaller = RegionData(make_atlas(7), {"s1": data.values["s1"][:, kept]}, data.provenance)
    expected, _ = Connectivity(kind).fit_transform(smaller, ["s1"])
    torch.testing.assert_close(matrices[:, kept][:, :, kept], expected, atol=1e-6, rtol=1e-5)


def test_a_region_the_reference_predicts_adds_nothing_to_the_tangent_space():
    # Independent regions: without a region, what is left in the tangent space is what the other regions have.
    rng = np.random.default_rng(0)
    series = {f"s{k}": rng.standard_normal((4000, 6)).astype(np.float32) * (1 + np.arange(6, dtype=np.float32)) for k in range(4)}
    data = RegionData(make_atlas(6), series, Provenance("timeseries"))
    fitted = Connectivity("tangent", shrinkage=None).fit(data, ids_of(data))
    whole, _ = fitted.transform(data, ["s0"])
    part, _ = fitted.transform(without(data, {"s0": [4]}), ["s0"])
    kept = [0, 1, 2, 3, 5]
    torch.testing.assert_close(part[:, kept][:, :, kept], whole[:, kept][:, :, kept], atol=5e-3, rtol=0)


def test_tangent_reference_counts_subjects_with_missing_regions():
    data = without(make_data(), {"s1": [2]})
    reference = Connectivity("tangent").fit(data, ids_of(data)).mean_
    others = Connectivity("tangent").fit(data, [s for s in data.values if s != "s1"]).mean_
    assert torch.linalg.eigvalsh(reference).min() > 0
    assert not torch.allclose(reference, others, rtol=1e-3)


def test_tangent_with_a_region_that_nobody_has_is_refused():
    data = without(make_data(), {subject: [3] for subject in ids_of(make_data())})
    with pytest.raises(DataError, match=r"in at least one of the 8 training subjects .* found none with the labels \[20\]"):
        Connectivity("tangent").fit(data, ids_of(data))


def test_tangent_with_few_whole_subjects_stays_near_the_reference_of_whole_ones():
    data = make_data()
    reference = Connectivity("tangent").fit(data, ids_of(data)).mean_
    gaps = without(data, {f"s{k}": [k % 3] for k in range(5)})
    found = Connectivity("tangent").fit(gaps, ids_of(gaps)).mean_
    assert torch.linalg.eigvalsh(found).min() > 0
    assert (found - reference).norm() < 0.25 * reference.norm()


def test_tangent_of_a_singular_covariance_names_the_subject():
    data = make_data((60, 60, 10), n_regions=12)
    with pytest.raises(DataError, match=r"1 singular ones: \['s2'\]"):
        Connectivity("tangent", shrinkage=None).fit(data, ids_of(data))


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_subjects_can_be_transformed(kind, n):
    data = make_data()
    fitted = Connectivity(kind).fit(data, ids_of(data))
    matrices, observed = fitted.transform(data, ids_of(data)[:n])
    assert matrices.shape == (n, 8, 8)
    assert observed.shape == (n, 8)
    assert torch.equal(matrices, fitted.transform(data, ids_of(data))[0][:n])


def test_subjects_come_back_in_the_order_asked_for():
    data = make_data()
    fitted = Connectivity().fit(data, ids_of(data))
    matrices, _ = fitted.transform(data, ids_of(data))
    backwards, _ = fitted.transform(data, ids_of(data)[::-1])
    assert torch.equal(backwards, matrices.flip(0))


def test_state_moves_to_another_instance():
    data = make_data()
    fitted = Connectivity("tangent").fit(data, ids_of(data)[:5])
    state = fitted.state()
    assert sorted(state) == ["mean", "whitening"]
    loaded = Connectivity("tangent").load_state(state)
    assert torch.equal(loaded.transform(data, ids_of(data))[0], fitted.transform(data, ids_of(data))[0])
    assert Connectivity().fit(data, ids_of(data)).state() == {}
    assert Connectivity().load_state({}).transform(data, ["s0"])[0].shape == (1, 8, 8)


def test_arguments_are_those_of_an_estimator():
    copy = clone(Connectivity("tangent", fisher_z=False, shrinkage=None))
    assert copy.get_params() == {"kind": "tangent", "fisher_z": False, "shrinkage": None, "device": "cpu"}


@pytest.mark.parametrize("given_z", [False, True])
@pytest.mark.parametrize("asked_z", [False, True])
@pytest.mark.parametrize("kind", ["correlation", "partial correlation"])
def test_correlations_on_disk_become_r_or_z_as_asked(kind, given_z, asked_z):
    data = make_data()
    stored = as_matrices(data, kind, given_z)
    found, observed = Connectivity(kind, asked_z).fit_transform(stored, ids_of(data))
    expected, _ = Connectivity(kind, asked_z).fit_transform(data, ids_of(data))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert observed.all()


@pytest.mark.parametrize("kind", ["covariance", "precision", "tangent"])
def test_matrices_of_the_same_kind_pass(kind):
    data = make_data()
    stored = as_matrices(data, kind)
    found, _ = Connectivity(kind).fit_transform(stored, ids_of(data))
    torch.testing.assert_close(found, torch.from_numpy(np.stack(list(stored.values.values()))))


def test_covariances_give_correlations():
    data = make_data()
    found, _ = Connectivity().fit_transform(as_matrices(data, "covariance"), ids_of(data))
    torch.testing.assert_close(found, Connectivity().fit_transform(data, ids_of(data))[0], atol=1e-5, rtol=1e-5)


def test_missing_regions_of_matrices_are_masked():
    stored = as_matrices(make_data(), "correlation")
    stored.values["s1"][[3], :] = np.nan
    stored.values["s1"][:, [3]] = np.nan
    data = RegionData(stored.atlas, stored.values, stored.provenance)
    matrices, observed = Connectivity().fit_transform(data, ids_of(data))
    assert not observed[1, 3]
    assert (matrices[1, 3] == 0).all()
    assert matrices.isfinite().all()


@pytest.mark.parametrize(("stored", "asked"), [("correlation", "tangent"), ("precision", "correlation"), ("partial correlation", "correlation")])
def test_matrices_of_another_kind_are_refused(stored, asked):
    data = as_matrices(make_data(), stored)
    with pytest.raises(DataError, match=f"the kind '{asked}' in atlas 'toy', found matrices of the kind '{stored}'"):
        Connectivity(asked).fit(data, ids_of(data))


@pytest.mark.parametrize("kind", ["streamline count", "log streamline count", "adjacency"])
def test_structural_matrices_are_passed_on_and_never_computed(kind):
    series = make_data((30, 30, 40, 40), 6)
    counts = {subject: np.rint(10 * np.abs(np.cov(array.T))) for subject, array in series.values.items()}
    structural = RegionData(series.atlas, counts, Provenance(kind))
    matrices, observed = Connectivity(kind).fit_transform(structural, ids_of(structural))
    for matrix, expected in zip(matrices.numpy(), counts.values(), strict=True):
        np.testing.assert_allclose(matrix, expected * (1 - np.eye(6)), rtol=1e-6)
    assert observed.all()
    assert ConnectivityFeatures(structural.atlas.name, kind).fit_transform(cohort_of(structural)).shape == (4, 15)
    with pytest.raises(DataError, match=f"of the kind 'correlation' in atlas .*, found matrices of the kind {kind!r}"):
        Connectivity("correlation").fit(structural, ids_of(structural))
    with pytest.raises(DataError, match=f"Expected matrices of the kind {kind!r} in atlas .*, found time series, which do not give them"):
        Connectivity(kind).fit(series, ids_of(series))


@pytest.mark.parametrize(("asked", "words", "value"), [("correlation", "positive variances", 0.0), ("covariance", "finite values", np.nan)])
def test_covariances_without_their_diagonal_are_refused(asked, words, value):
    stored = as_matrices(make_data(), "covariance")
    np.fill_diagonal(stored.values["s2"], value)
    with pytest.raises(DataError, match=rf"{words} on the diagonal of every matrix, found others for 1: \['s2'\]"):
        Connectivity(asked).fit_transform(stored, ids_of(stored))


def test_subjects_without_data_are_named():
    data = make_data()
    fitted = Connectivity().fit(data, ids_of(data))
    for call in (fitted.fit, fitted.transform):
        with pytest.raises(DataError, match=r"atlas 'toy' for every subject, found none for 1 of 2: \['nobody'\]"):
            call(data, ["s0", "nobody"])


def test_no_training_subject_is_refused():
    with pytest.raises(DataError, match="at least one training subject for correlation in atlas 'toy', found none"):
        Connectivity().fit(make_data(), [])


def test_an_unfitted_transformer_says_so():
    with pytest.raises(DataError, match="Expected a fitted Connectivity"):
        Connectivity().transform(make_data(), ["s0"])


def test_another_atlas_is_refused():
    data = make_data()
    with pytest.raises(AtlasError, match=r"atlas of the training subjects .* found 'other'"):
        Connectivity().fit(data, ids_of(data)).transform(make_data(name="other"), ["s0"])


def test_time_series_need_a_reference_of_time_series():
    data = make_data()
    fitted = Connectivity("tangent").fit(as_matrices(data, "tangent"), ids_of(data))
    with pytest.raises(DataError, match="Expected a tangent reference for time series, found none"):
        fitted.transform(data, ["s0"])


@pytest.mark.parametrize(
    ("arguments", "match"), [({"kind": "coherence"}, "kind of connectivity"), ({"shrinkage": "oas"}, "shrinkage of connectivity")]
)
def test_unknown_arguments_are_refused(arguments, match):
    with pytest.raises(ConfigError, match=match):
        Connectivity(**arguments).fit(make_data(), ["s0"])


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_nilearns_vectors(kind):
    from nilearn.connectome import sym_matrix_to_vec

    data = make_data()
    features = ConnectivityFeatures("toy", kind).fit(cohort_of(data))
    found = features.transform(cohort_of(data))
    matrices, _ = Connectivity(kind).fit_transform(data, ids_of(data))
    expected = sym_matrix_to_vec(matrices.numpy(), discard_diagonal="correlation" in kind)
    # nilearn walks the lower triangle row by row, which is the upper one column by column.
    rows, columns = features._pairs(8)
    np.testing.assert_allclose(found[:, np.lexsort((rows, columns))], expected, rtol=1e-6, atol=1e-6)
    assert found.dtype == np.float32


def test_features_are_named_by_their_regions():
    data = make_data(n_regions=3)
    names = ConnectivityFeatures("toy").fit(cohort_of(data)).get_feature_names_out()
    assert names.tolist() == ["toy 0~toy 1", "toy 0~toy 2", "toy 1~toy 2"]
    assert ConnectivityFeatures("toy", "tangent").fit(cohort_of(data)).get_feature_names_out().tolist()[0] == "toy 0~toy 0"


def test_several_atlases_stand_side_by_side():
    fine, coarse = make_data(), make_data(n_regions=4, name="coarse", seed=1)
    features = ConnectivityFeatures(["toy", "coarse"]).fit(cohort_of(fine, coarse))
    found = features.transform(cohort_of(fine, coarse))
    np.testing.assert_array_equal(found[:, :28], ConnectivityFeatures("toy").fit(cohort_of(fine)).transform(cohort_of(fine)))
    np.testing.assert_array_equal(found[:, 28:], ConnectivityFeatures("coarse").fit(cohort_of(coarse)).transform(cohort_of(coarse)))
    assert features.get_feature_names_out()[-1] == "coarse:coarse 2~coarse 3"
    assert len(features.get_feature_names_out()) == found.shape[1]


def test_missing_connections_get_the_training_mean():
    data = without(make_data(), {"s0": [0], "s5": [0]})
    train = cohort_of(data).select([f"s{k}" for k in range(5)])
    features = ConnectivityFeatures("toy").fit(train)
    matrices, _ = Connectivity().fit_transform(data, ids_of(data))
    mean = matrices[1:5, 0, 1].mean().item()
    found = features.transform(cohort_of(data))
    assert found[[0, 5], 0] == pytest.approx(mean, abs=1e-6)
    assert found[1, 0] == pytest.approx(matrices[1, 0, 1].item())


def test_a_subject_without_an_atlas_gets_its_training_mean():
    fine, coarse = make_data(), make_data(n_regions=4, name="coarse", seed=1).select(["s0", "s1", "s2"])
    features = ConnectivityFeatures(["toy", "coarse"]).fit(cohort_of(fine, coarse))
    found = features.transform(cohort_of(fine, coarse))
    np.testing.assert_allclose(found[5, 28:], found[:3, 28:].mean(axis=0), rtol=1e-5)


def test_a_connection_nobody_has_is_zero():
    data = without(make_data(), {f"s{k}": [0] for k in range(8)})
    found = ConnectivityFeatures("toy").fit(cohort_of(data)).transform(cohort_of(data))
    assert (found[:, :7] == 0).all()


def test_a_subject_without_any_connection_is_named():
    data = make_data()
    features = ConnectivityFeatures("toy").fit(cohort_of(data))
    with pytest.raises(DataError, match=r"found none for 1: \['stranger'\]\. Leave them out"):
        features.transform(cohort_of(data, ids=[*data.values, "stranger"]))


def test_features_of_another_atlas_are_refused():
    features = ConnectivityFeatures("toy").fit(cohort_of(make_data()))
    other = make_data()
    renamed = replace(other.atlas, names=tuple(f"new {i}" for i in range(8)))
    with pytest.raises(AtlasError, match="atlas of the training subjects"):
        features.transform(cohort_of(RegionData(renamed, other.values, other.provenance)))


@pytest.mark.parametrize("atlas", [[], ["toy", "toy"]])
def test_atlases_are_one_or_more_and_different(atlas):
    with pytest.raises(ConfigError, match="one or more different atlases"):
        ConnectivityFeatures(atlas).fit(cohort_of(make_data()))


def test_unfitted_features_say_so():
    with pytest.raises(DataError, match="Expected fitted ConnectivityFeatures"):
        ConnectivityFeatures("toy").transform(cohort_of(make_data()))
    with pytest.raises(DataError, match="Expected fitted ConnectivityFeatures"):
        ConnectivityFeatures("toy").get_feature_names_out()


def test_features_serve_a_pipeline(make_cohort):
    cohort = make_cohort(effect=3.0)
    labels = cohort.target("diagnosis").to_numpy(dtype=str)
    model = make_pipeline(ConnectivityFeatures("toy"), LogisticRegression())
    assert clone(model).fit(cohort, labels).score(cohort, labels) > 0.9


@pytest.mark.shared_data
def test_tangent_of_real_scans_is_that_of_nilearn(shared_data):
    from nilearn.connectome import ConnectivityMeasure

    with np.load(shared_data / "brain/abide1/timeseries_aal116_dparsf_filt_global.npz", allow_pickle=False) as stored:
        offsets, values = stored["offsets"][:13], stored["series"][: stored["offsets"][12]] * stored["scale"]
    series = [values[a:b].astype(np.float32) for a, b in pairwise(offsets)]
    series = [x[:, :60] for x in series if (np.ptp(x[:, :60], axis=0) > 0).all()]
    data = RegionData(make_atlas(60), {f"s{k}": x for k, x in enumerate(series)}, Provenance("timeseries"))
    peer = ConnectivityMeasure(kind="tangent").fit([x.astype(np.float64) for x in series[:-2]])
    ours = Connectivity("tangent").fit(data, ids_of(data)[:-2])
    found, _ = ours.transform(data, ids_of(data)[-2:])
    np.testing.assert_allclose(found.numpy(), peer.transform([x.astype(np.float64) for x in series[-2:]]), atol=1e-4)
