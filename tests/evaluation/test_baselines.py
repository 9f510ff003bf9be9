"""Baselines against explicit refits and pipelines made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from graphssl.data import Cohort, Provenance, RegionData, SiteHarmonizer
from graphssl.datasets import simulate_images
from graphssl.errors import ConfigError
from graphssl.estimators import WITHHELD
from graphssl.evaluation import baselines
from graphssl.evaluation.baselines import BASELINES, LabelledOnly, Shared, SharedConnectivity, UnitScaler, make_baseline
from graphssl.evaluation.calibrated import RidgeProbability, SvmProbability
from graphssl.evaluation.perceptron import Perceptron
from graphssl.graphs.connectivity import ConnectivityFeatures
from graphssl.graphs.contrast import ScanContrast


@pytest.fixture(autouse=True)
def empty_memory():
    for kind in (Shared, SharedConnectivity):
        kind._fitted.clear()
        kind._transformed.clear()


@pytest.fixture(scope="module")
def cohort(make_cohort):
    brains = make_cohort(n_subjects=24, n_regions=8, n_sites=2, n_timepoints=40, effect=2.0)
    (images,) = simulate_images(24, size=12).images.values()
    return replace(brains, images={"scans": replace(images, table=images.table.assign(subject_id=brains.ids))})


def labels_of(cohort):
    return (cohort.subjects["diagnosis"] == "patient").astype(int).to_numpy()


def fisher_z_by_hand(cohort):
    """Upper triangles of arctanh of numpy's correlations `[n, E]`."""
    data = next(iter(cohort.regions.values()))
    n_regions = len(data.atlas)
    upper = np.triu_indices(n_regions, k=1)
    return np.stack([np.arctanh(np.corrcoef(data.values[s].astype(float).T)[upper]) for s in cohort.ids])


def unit_features_by_hand(train, test):
    """Fisher z of both sides, centred and scaled on the first (population standard deviation), with vectors of mean squared length one."""
    first, second = fisher_z_by_hand(train), fisher_z_by_hand(test)
    mean, spread = first.mean(axis=0), first.std(axis=0)
    return [((part - mean) / spread / np.sqrt(part.shape[1])).astype(np.float32) for part in (first, second)]


def test_features_of_training_subjects_have_mean_squared_length_one(cohort):
    train = unit_features_by_hand(cohort, cohort)[0]
    assert (train**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-5)
    assert_allclose(UnitScaler().fit_transform(fisher_z_by_hand(cohort)), train, atol=1e-5)


def test_logistic_correlation_is_the_pipeline_made_by_hand(cohort):
    train, test = cohort.select(cohort.ids[:16]), cohort.select(cohort.ids[16:])
    found = make_baseline("logistic_correlation").fit(train, labels_of(train)).predict_proba(test)
    first, second = unit_features_by_hand(train, test)
    by_hand = LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000).fit(first, labels_of(train))
    assert_allclose(found, by_hand.predict_proba(second), atol=1e-3)


def test_ridge_correlation_is_ridge_on_the_same_features(cohort):
    train, test = cohort.select(cohort.ids[:16]), cohort.select(cohort.ids[16:])
    found = make_baseline("ridge_correlation").fit(train, labels_of(train)).predict_proba(test)
    first, second = unit_features_by_hand(train, test)
    assert_allclose(found, RidgeProbability().fit(first, labels_of(train)).predict_proba(second), atol=1e-3)


def partial_by_hand(cohort):
    """Upper triangles of arctanh of partial correlations from the inverse of scikit-learn's Ledoit-Wolf covariance `[n, E]`."""
    data = next(iter(cohort.regions.values()))
    upper = np.triu_indices(len(data.atlas), k=1)
    rows = []
    for subject in cohort.ids:
        precision = np.linalg.inv(LedoitWolf().fit(data.values[subject].astype(float)).covariance_)
        rows.append(np.arctanh((-precision / np.sqrt(np.outer(precision.diagonal(), precision.diagonal())))[upper]))
    return np.stack(rows)


def test_partial_is_the_inverse_of_the_shrunk_covariance(cohort):
    """A support vector machine on it, on the same features by hand."""
    train, test = cohort.select(cohort.ids[:16]), cohort.select(cohort.ids[16:])
    found = make_baseline("svm_partial").fit(train, labels_of(train)).predict_proba(test)
    scaler = StandardScaler().fit(partial_by_hand(train))
    first, second = (scaler.transform(partial_by_hand(part)) / np.sqrt(28) for part in (train, test))
    assert_allclose(found, SvmProbability().fit(first, labels_of(train)).predict_proba(second), atol=1e-3)


def test_the_perceptron_meets_features_of_unit_variance(cohort):
    train, test = cohort.select(cohort.ids[:16]), cohort.select(cohort.ids[16:])
    found = make_baseline("mlp_correlation").fit(train, labels_of(train)).predict_proba(test)
    scaler = StandardScaler().fit(fisher_z_by_hand(train))
    first, second = (scaler.transform(fisher_z_by_hand(part)).astype(np.float32) for part in (train, test))
    assert_allclose(found, Perceptron().fit(first, labels_of(train)).predict_proba(second), atol=1e-3)


def test_names_are_models_on_kinds():
    for model in ("logistic", "ridge", "svm"):
        assert {f"{model}_correlation", f"{model}_partial", f"{model}_tangent"} <= set(BASELINES)
    assert len(BASELINES) == len(set(BASELINES)) == 9 + 1 + 2 + 2 + 2 + 3


@pytest.mark.parametrize("unseen", ["pooled", "estimate"])
def test_harmonised_ridge_is_ridge_on_harmonised_features(make_cohort, unseen):
    """The site that is held out was never seen; subjects without a label help to harmonise, and no more."""
    cohort = make_cohort(n_subjects=36, n_regions=6, n_sites=3, effect=2.0)
    held = cohort.sites == "site-2"
    train, test = cohort.select(~held), cohort.select(held)
    y = np.where(np.arange(24) % 5 == 0, WITHHELD, labels_of(train))
    name = "ridge_correlation_combat" + ("_estimate" if unseen == "estimate" else "")
    found = make_baseline(name).fit(train, y).predict_proba(test)
    harmonizer = SiteHarmonizer(unseen).fit(fisher_z_by_hand(train), sites=train.sites)
    first, second = (harmonizer.transform(fisher_z_by_hand(part), sites=part.sites) for part in (train, test))
    scaler = UnitScaler().fit(first[y != WITHHELD])
    by_hand = RidgeProbability().fit(scaler.transform(first[y != WITHHELD]), y[y != WITHHELD])
    assert_allclose(found, by_hand.predict_proba(scaler.transform(second)), atol=1e-3)
    raw = make_baseline("ridge_correlation").fit(train, y).predict_proba(test)
    assert np.abs(found - raw).max() > 1e-3


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_baseline_fits_and_predicts(cohort, name, n_classes):
    y = np.arange(24) % n_classes
    model = make_baseline(name).fit(cohort, y, cohort.groups.to_numpy())
    probability = model.predict_proba(cohort)
    assert probability.shape == (24, n_classes)
    assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-5)
    assert_array_equal(model.classes_, np.arange(n_classes))
    assert_array_equal(model.predict(cohort), probability.argmax(axis=1))


@pytest.mark.parametrize("name", [name for name in BASELINES if make_baseline(name).preparation is None])
def test_subjects_whose_label_is_withheld_are_as_good_as_absent(cohort, name):
    y = labels_of(cohort)
    some = np.where(np.arange(24) < 16, y, WITHHELD)
    with_others = make_baseline(name).fit(cohort, some)
    alone = make_baseline(name).fit(cohort.select(cohort.ids[:16]), y[:16])
    assert_array_equal(with_others.predict_proba(cohort), alone.predict_proba(cohort))


@pytest.mark.parametrize("kind", ["correlation", "tangent"])
def test_what_is_fitted_does_not_know_the_test_subjects(cohort, kind):
    """An extreme test subject moves neither the features nor the probabilities of the others."""
    train, test = cohort.select(cohort.ids[:16]), cohort.select(cohort.ids[16:])
    data = cohort.regions["toy"]
    wild = {s: values * (1e3 if s == test.ids[0] else 1.0) + (s == test.ids[0]) * values[:, [0]] for s, values in data.values.items()}
    other = Cohort("wild", cohort.subjects, cohort.schema, {"toy": RegionData(data.atlas, wild, data.provenance)}).select(test.ids)
    model = make_baseline(f"logistic_{kind}").fit(train, labels_of(train))
    plain, extreme = model.predict_proba(test), model.predict_proba(other)
    assert_array_equal(plain[1:], extreme[1:])
    shared = SharedConnectivity(None, kind).fit(train)
    before = shared.fitted_.mean_.copy()
    shared.transform(other)
    assert_array_equal(shared.fitted_.mean_, before)


def test_tangent_features_rest_on_the_training_subjects(cohort):
    train, test = cohort.select(cohort.ids[:16]), cohort.select(cohort.ids[16:])
    expected = ConnectivityFeatures(["toy"], "tangent").fit(train).transform(test)
    assert_array_equal(SharedConnectivity(None, "tangent").fit(train).transform(test), expected)
    assert np.abs(ConnectivityFeatures(["toy"], "tangent").fit(cohort).transform(test) - expected).max() > 1e-3


def test_majority_gives_the_shares_of_the_training_labels(cohort):
    y = np.asarray([1] * 6 + [0] * 12 + [WITHHELD] * 6)
    assert_allclose(make_baseline("majority").fit(cohort, y).predict_proba(cohort), [[2 / 3, 1 / 3]] * 24)


def test_covariates_never_see_a_scan(cohort):
    y = labels_of(cohort)
    model = make_baseline("covariates").fit(cohort, y)
    blind = Cohort(cohort.name, cohort.subjects, cohort.schema)
    assert_array_equal(model.predict_proba(blind), model.predict_proba(cohort))
    strange = cohort.with_column(cohort.schema["age"], pd.Series(59.0, index=cohort.subjects.index))
    assert (model.predict_proba(strange) != model.predict_proba(cohort)).any()


def test_covariates_never_see_the_target_nor_the_site(cohort):
    model = make_baseline("covariates").fit(cohort, labels_of(cohort))
    swapped = cohort.subjects["diagnosis"].map({"control": "patient", "patient": "control"})
    other = cohort.with_column(cohort.schema["diagnosis"], swapped)
    moved = other.with_column(cohort.schema["site"], pd.Series("site-0", index=cohort.subjects.index, dtype="str"))
    assert_array_equal(model.predict_proba(moved), model.predict_proba(cohort))


@pytest.mark.parametrize("name", ["logistic_correlation", "logistic_table", "boosting_table", "covariates"])
def test_without_class_weights_probabilities_follow_how_common_a_class_is(cohort, name):
    y = (np.arange(24) % 6 == 0).astype(int)
    plain, balanced = (make_baseline(name, class_weight=weight).fit(cohort, y).predict_proba(cohort)[:, 1].mean() for weight in (None, "balanced"))
    assert plain == pytest.approx(1 / 6, abs=1e-3)
    assert balanced > 0.2


def test_an_unknown_class_weight_is_refused():
    with pytest.raises(ConfigError, match="Expected the class weight 'balanced' or None, found 'equal'"):
        make_baseline("boosting_table", class_weight="equal")


@pytest.mark.parametrize("name", ["logistic", "logistic_precision", "svm_precision", "mlp_tangent", "", "ridge_"])
def test_unknown_baseline(name):
    with pytest.raises(ConfigError, match=f"baselines among logistic_correlation, .*majority; found {name!r}"):
        make_baseline(name)


# Shared features


def two_atlases(cohort, seed=0):
    """The cohort with a second, coarser atlas."""
    data = cohort.regions["toy"]
    atlas = type(data.atlas)("coarse", [1, 2, 3, 4], ("a", "b", "c", "d"), data.atlas.centroids[:4], data.atlas.networks[:4])
    rng = np.random.default_rng(seed)
    values = {s: v[:, :4] + rng.standard_normal((len(v), 4)) for s, v in data.values.items()}
    regions = {**cohort.regions, "coarse": RegionData(atlas, values, Provenance("timeseries"))}
    return Cohort(cohort.name, cohort.subjects, cohort.schema, regions)


def test_baselines_of_one_fold_share_one_fit(cohort):
    first, second = SharedConnectivity().fit(cohort), SharedConnectivity().fit(cohort)
    assert first.fitted_ is second.fitted_
    assert first.transform(cohort) is not None
    assert len(SharedConnectivity._fitted) == len(SharedConnectivity._transformed) == 1


def test_memory_never_answers_for_another_cohort(cohort, make_cohort):
    """Whatever differs (subjects, their order, values, atlas, kind) is worked out from what is given."""
    others = [
        cohort,
        cohort.select(cohort.ids[:12]),
        cohort.select(cohort.ids[::-1]),
        make_cohort(n_subjects=24, n_regions=8, n_sites=2, n_timepoints=40, effect=2.0, seed=1),
    ]
    for kind in ("correlation", "tangent"):
        for train in [*others, cohort]:
            for test in others[1:]:
                expected = ConnectivityFeatures(["toy"], kind).fit(train).transform(test)
                # Tangent vectors of training subjects may come from the fit, which follows its last step to first order.
                assert_allclose(SharedConnectivity(None, kind).fit(train).transform(test), expected, atol=5e-5)


def test_memory_keeps_atlases_apart(cohort):
    both = two_atlases(cohort)
    widths = {names: SharedConnectivity(names).fit(both).transform(both).shape[1] for names in (None, ("toy",), ("coarse",), ("coarse", "toy"))}
    assert widths == {None: 28 + 6, ("toy",): 28, ("coarse",): 6, ("coarse", "toy"): 34}
    forward, backward = (SharedConnectivity(names).fit(both).transform(both) for names in (("toy", "coarse"), ("coarse", "toy")))
    assert_array_equal(forward[:, :28], backward[:, 6:])


def test_memory_is_small(cohort):
    for k in range(2, 14):
        SharedConnectivity().fit(cohort.select(cohort.ids[:k])).transform(cohort)
    assert len(SharedConnectivity._fitted) == len(SharedConnectivity._transformed) == baselines._MAX_REMEMBERED


def test_a_baseline_may_use_one_atlas_of_several(cohort):
    both = two_atlases(cohort)
    y = labels_of(cohort)
    alone = make_baseline("logistic_correlation").fit(cohort, y).predict_proba(cohort)
    assert_array_equal(make_baseline("logistic_correlation", ["toy"]).fit(both, y).predict_proba(both), alone)
    assert (make_baseline("logistic_correlation").fit(both, y).predict_proba(both) != alone).any()


def test_ridge_on_both_kinds_is_ridge_on_blocks_of_equal_length(cohort):
    train, test = cohort.select(cohort.ids[:16]), cohort.select(cohort.ids[16:])
    found = make_baseline("ridge_correlation_tangent").fit(train, labels_of(train)).predict_proba(test)
    first, second = [], []
    for kind in ("correlation", "tangent"):
        features = ConnectivityFeatures("toy", kind).fit(train)
        scaler = UnitScaler().fit(features.transform(train))
        first.append(scaler.transform(features.transform(train)) / np.sqrt(2))
        second.append(scaler.transform(features.transform(test)) / np.sqrt(2))
    by_hand = RidgeProbability().fit(np.hstack(first), labels_of(train))
    assert_allclose(found, by_hand.predict_proba(np.hstack(second)), atol=2e-3)


def test_a_preparation_sees_subjects_without_a_label_and_is_fitted_once(cohort, monkeypatch):
    fits = []
    plain = ScanContrast.fit_transform
    monkeypatch.setattr(ScanContrast, "fit_transform", lambda self, X, y=None: fits.append(len(X)) or plain(self, X, y))
    y = np.where(np.arange(24) < 16, labels_of(cohort), WITHHELD)
    method = LabelledOnly(RidgeProbability(), preparation=ScanContrast(kinds=["correlation"]))
    found = method.fit(cohort, y).predict_proba(cohort)
    again = clone(method).fit(cohort, labels_of(cohort))
    assert fits == [24]
    values = plain(ScanContrast(kinds=["correlation"]), cohort)
    assert_allclose(found, RidgeProbability().fit(values[:16], y[:16]).predict_proba(values), atol=1e-4)
    assert again.preparation_.fitted_ is method.preparation_.fitted_
