"""Harmonisation of sites: held to the published algorithm in loops, to planted site effects, and to what must not be learned from test subjects."""

import json

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from graphssl.data import SiteHarmonizer
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.evaluation import site_probe


def planted(n_sites=3, n_each=20, n_features=30, seed=0, shift=1.0):
    """Features with a level and a spread of every site and an effect of the age, which differs between sites too."""
    rng = np.random.default_rng(seed)
    sites = np.repeat([f"site-{k}" for k in range(n_sites)], n_each)
    codes = np.repeat(np.arange(n_sites), n_each)
    age = rng.normal(30 + 8 * codes, 6)
    effect = rng.normal(0, 0.1, n_features)
    level, spread = shift * rng.standard_normal((n_sites, n_features)), rng.uniform(0.5, 2, (n_sites, n_features))
    noise = rng.standard_normal((len(sites), n_features))
    return 3 + age[:, None] * effect + level[codes] + spread[codes] * noise, sites, age[:, None], effect


def combat_in_loops(X, sites, covariates):
    """ComBat as Johnson et al. (2007) write it, feature by feature; NaN values are left out."""
    n, n_features = X.shape
    names = sorted(set(sites))
    standardised, back = np.full_like(X, np.nan), np.full_like(X, np.nan)
    scale = np.zeros(n_features)
    for g in range(n_features):
        rows = [i for i in range(n) if np.isfinite(X[i, g])]
        design = np.array([[float(sites[i] == name) for name in names] + list(covariates[i]) for i in rows])
        coefficients = np.linalg.lstsq(design, X[rows, g], rcond=None)[0]
        grand = sum(np.mean([sites[i] == name for i in rows]) * coefficients[k] for k, name in enumerate(names))
        scale[g] = np.sqrt(np.mean((X[rows, g] - design @ coefficients) ** 2))
        for i in rows:
            back[i, g] = grand + covariates[i] @ coefficients[len(names) :]
            standardised[i, g] = (X[i, g] - back[i, g]) / scale[g]
    result = np.full_like(X, np.nan)
    for name in names:
        rows = np.flatnonzero(np.asarray(sites) == name)
        values = [standardised[rows, g][np.isfinite(standardised[rows, g])] for g in range(n_features)]
        gamma_hat, delta_hat = [v.mean() for v in values], [v.var(ddof=1) for v in values]
        gamma_bar, tau2 = np.mean(gamma_hat), np.var(gamma_hat, ddof=1)
        m, s2 = np.mean(delta_hat), np.var(delta_hat, ddof=1)
        shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        for g, v in enumerate(values):
            gamma, delta = gamma_hat[g], delta_hat[g]
            for _ in range(500):
                gamma = (len(v) * tau2 * gamma_hat[g] + delta * gamma_bar) / (len(v) * tau2 + delta)
                delta = (rate + 0.5 * sum((value - gamma) ** 2 for value in v)) / (len(v) / 2 + shape - 1)
            for i in rows:
                result[i, g] = (standardised[i, g] - gamma) / np.sqrt(delta) * scale[g] + back[i, g]
    return result


def slope_of(values, age):
    return np.array([np.polyfit(age[:, 0], column, 1)[0] for column in values.T])


def probe(values, sites):
    return np.mean([result.value for result in site_probe({"x": values}, sites.tolist(), cohort="toy")])


# Against the published algorithm


@pytest.mark.parametrize("with_covariates", [True, False])
@pytest.mark.parametrize("share_missing", [0.0, 0.1])
def test_the_published_algorithm_in_loops(with_covariates, share_missing):
    X, sites, age, _ = planted(n_features=7)
    sex = np.tile([0.0, 1.0], len(X) // 2)[:, None]
    covariates = np.hstack([age, sex]) if with_covariates else np.zeros((len(X), 0))
    X[np.random.default_rng(1).random(X.shape) < share_missing] = np.nan
    found = SiteHarmonizer().fit_transform(X, sites=sites, covariates=covariates)
    assert_allclose(found, combat_in_loops(X, sites, covariates), rtol=1e-6)
    assert_array_equal(np.isnan(found), np.isnan(X))


def test_sites_of_unequal_size_in_any_order():
    X, sites, age, _ = planted(n_features=5)
    rows = np.random.default_rng(0).permutation(60)[:47]
    found = SiteHarmonizer().fit_transform(X[rows], sites=sites[rows], covariates=age[rows])
    assert_allclose(found, combat_in_loops(X[rows], sites[rows], age[rows]), rtol=1e-6)


def test_many_subjects_leave_nothing_to_shrink():
    """With huge sites the estimate is the plain one: mean and variance of the site."""
    X, sites, _, _ = planted(n_sites=2, n_each=20_000, n_features=4)
    found = SiteHarmonizer().fit_transform(X, sites=sites)
    within = np.concatenate([X[sites == site] - X[sites == site].mean(axis=0) for site in ("site-0", "site-1")])
    for site in ("site-0", "site-1"):
        values = X[sites == site]
        plain = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1) * within.std(axis=0) + X.mean(axis=0)
        assert_allclose(found[sites == site], plain, atol=0.01)


def test_few_subjects_are_shrunken_towards_the_other_features():
    X, sites, _, _ = planted(n_each=6, n_features=200, shift=0.2)
    harmonizer = SiteHarmonizer().fit(X, sites=sites)
    standardised = (X - harmonizer.intercept_) / harmonizer.scale_
    plain = np.stack([standardised[sites == site].mean(axis=0) for site in harmonizer.sites_])
    assert (harmonizer.location_.std(axis=1) < 0.8 * plain.std(axis=1)).all()


def test_one_feature_has_no_others_to_borrow_from():
    X, sites, _, _ = planted(n_features=1)
    found = SiteHarmonizer().fit_transform(X, sites=sites)
    for site in np.unique(sites):
        assert found[sites == site].mean() == pytest.approx(X.mean())


# What it is for


def test_planted_site_effects_go_and_the_age_stays():
    X, sites, age, effect = planted(n_sites=4, n_each=60, n_features=40)
    kept = SiteHarmonizer().fit_transform(X, sites=sites, covariates=age)
    blind = SiteHarmonizer().fit_transform(X, sites=sites)
    assert probe(X, sites) > 0.9
    # The sites differ in age; taken out of the harmonised features, nothing else of the site is left.
    assert probe(kept - age * slope_of(kept, age), sites) < 0.4
    assert_allclose(slope_of(kept, age), effect, atol=0.06)
    assert np.abs(slope_of(kept, age) - effect).mean() < np.abs(slope_of(blind, age) - effect).mean() / 2


def test_training_subjects_alone_decide():
    """A subject of a known site becomes the same alone and among others."""
    X, sites, _, _ = planted()
    train = np.arange(60) % 2 == 0
    harmonizer = SiteHarmonizer().fit(X[train], sites=sites[train])
    together = harmonizer.transform(X, sites=sites)
    for row in (1, 31, 59):
        assert_allclose(harmonizer.transform(X[[row]], sites=sites[[row]])[0], together[row])
    before = np.abs(X[~train & (sites == "site-0")].mean(axis=0) - X[~train].mean(axis=0)).mean()
    after = np.abs(together[~train & (sites == "site-0")].mean(axis=0) - together[~train].mean(axis=0)).mean()
    assert after < before / 2


def test_labels_enter_the_fit_alone():
    """A site of many patients keeps them apart; transform needs no label."""
    rng = np.random.default_rng(0)
    sites = np.repeat(["a", "b"], 200)
    y = np.concatenate([rng.random(200) < 0.2, rng.random(200) < 0.8]).astype(int)
    X = rng.standard_normal((400, 50)) + 2.0 * y[:, None] + 3.0 * (sites == "b")[:, None]

    def difference(values):
        return (values[y == 1].mean(axis=0) - values[y == 0].mean(axis=0)).mean()

    kept = SiteHarmonizer(keep_target=True).fit(X, y, sites=sites).transform(X, sites=sites)
    blind = SiteHarmonizer().fit(X, y, sites=sites).transform(X, sites=sites)
    assert difference(kept) == pytest.approx(2.0, abs=0.1)
    assert difference(blind) < 1.8
    withheld = np.where(np.arange(400) % 2 == 0, -1, y)
    half = SiteHarmonizer(keep_target=True).fit(X, withheld, sites=sites).transform(X, sites=sites)
    assert difference(half) == pytest.approx(2.0, abs=0.15)
    with pytest.raises(DataError, match=r"at least two training sites of 5 subjects or more, found \[\]"):
        SiteHarmonizer(keep_target=True).fit(X, np.full(400, -1), sites=sites)


# Sites never seen


def test_unseen_sites_are_refused_by_default():
    X, sites, _, _ = planted()
    harmonizer = SiteHarmonizer().fit(X, sites=sites)
    with pytest.raises(DataError, match=r"fitted sites \['site-0', 'site-1', 'site-2'\], found 'site-9'.*unseen='pooled'"):
        harmonizer.transform(X[:3], sites=["site-0", "site-9", "site-1"])


def test_pooled_leaves_unseen_sites_as_they_are():
    X, sites, age, _ = planted()
    train = sites != "site-2"
    harmonizer = SiteHarmonizer(unseen="pooled").fit(X[train], sites=sites[train], covariates=age[train])
    assert_allclose(harmonizer.transform(X[~train], sites=sites[~train], covariates=age[~train]), X[~train])


def test_estimate_moves_an_unseen_site_to_the_others():
    X, sites, age, effect = planted(n_sites=6, n_each=60, n_features=60)
    train = sites != "site-5"
    parts = {}
    for unseen in ("pooled", "estimate"):
        harmonizer = SiteHarmonizer(unseen=unseen).fit(X[train], sites=sites[train], covariates=age[train])
        parts[unseen] = harmonizer.transform(X, sites=sites, covariates=age) - age * effect
    assert_allclose(parts["pooled"][train], parts["estimate"][train])
    apart = {unseen: np.abs(values[~train].mean(axis=0) - values[train].mean(axis=0)).mean() for unseen, values in parts.items()}
    assert apart["estimate"] < apart["pooled"] / 3
    ratio = {unseen: np.log(values[~train].std(axis=0) / values[train].std(axis=0)) for unseen, values in parts.items()}
    assert np.abs(ratio["estimate"]).mean() < np.abs(ratio["pooled"]).mean() / 2


def test_estimate_is_the_closed_form_of_its_prior():
    """One feature of an unseen site by the paper's equations, with the moments over all training sites and features as the prior."""
    X, sites, _, _ = planted()
    train = sites != "site-2"
    harmonizer = SiteHarmonizer(unseen="estimate").fit(X[train], sites=sites[train])
    standardised = (X - harmonizer.intercept_) / harmonizer.scale_
    by_site = [standardised[sites == site] for site in harmonizer.sites_]
    locations, variances = np.stack([v.mean(axis=0) for v in by_site]), np.stack([v.var(axis=0, ddof=1) for v in by_site])
    m, s2 = variances.mean(), variances.var(ddof=1)
    shape, rate = 2 + m**2 / s2, m + m**3 / s2
    values = standardised[~train][:, 4]
    gamma, delta = values.mean(), values.var()
    for _ in range(500):
        gamma = (20 * locations.var(ddof=1) * values.mean() + delta * locations.mean()) / (20 * locations.var(ddof=1) + delta)
        delta = (rate + 0.5 * ((values - gamma) ** 2).sum()) / (10 + shape - 1)
    expected = (values - gamma) / np.sqrt(delta) * harmonizer.scale_[4] + harmonizer.intercept_[4]
    assert_allclose(harmonizer.transform(X[~train], sites=sites[~train])[:, 4], expected, rtol=1e-6)


def test_estimate_of_a_handful_falls_back_to_pooled():
    X, sites, _, _ = planted()
    harmonizer = SiteHarmonizer(unseen="estimate", min_subjects=6).fit(X, sites=sites)
    assert_allclose(harmonizer.transform(X[:5], sites=["new"] * 5), X[:5])
    assert not np.allclose(harmonizer.transform(X[:6], sites=["new"] * 6), X[:6])


def test_small_training_sites_count_as_unseen():
    X, sites, _, _ = planted()
    few = np.r_[np.arange(40), 40, 41]
    harmonizer = SiteHarmonizer(unseen="pooled").fit(X[few], sites=sites[few])
    assert harmonizer.sites_.tolist() == ["site-0", "site-1"]
    assert_allclose(harmonizer.location_, SiteHarmonizer().fit(X[:40], sites=sites[:40]).location_)
    with pytest.raises(DataError, match=r"at least 5 training subjects of every site, found \{'site-2': 2\}"):
        SiteHarmonizer().fit(X[few], sites=sites[few])


# What cannot be learned


def test_features_without_spread_or_subjects_are_left_alone():
    X, sites, _, _ = planted(n_features=6)
    X[:, 1], X[:, 2], X[1:, 3] = 7.1, np.nan, np.nan
    X[sites == "site-1", 4] = np.nan
    harmonizer = SiteHarmonizer().fit(X, sites=sites)
    new = np.arange(12.0).reshape(2, 6)
    found = harmonizer.transform(new, sites=["site-1", "site-0"])
    assert_array_equal(found[:, 1:4], new[:, 1:4])
    assert harmonizer.scale_[1:4].tolist() == [0, 0, 0]
    assert np.isfinite(found).all()
    whole = SiteHarmonizer().fit(X[:, [0, 4, 5]], sites=sites)
    assert_allclose(found[:, [0, 4, 5]], whole.transform(new[:, [0, 4, 5]], sites=["site-1", "site-0"]))


def test_a_site_without_spread_keeps_none():
    X, sites, _, _ = planted(n_features=3)
    X[sites == "site-0"] = [1.0, 2.0, 3.0]
    found = SiteHarmonizer().fit_transform(X, sites=sites)
    assert np.isfinite(found).all()
    assert (found[sites == "site-0"].std(axis=0) < 1e-12).all()


def test_nothing_varies():
    X, sites, _, _ = planted(n_features=2)
    constant = np.ones_like(X)
    harmonizer = SiteHarmonizer(unseen="estimate").fit(constant, sites=sites)
    assert_array_equal(harmonizer.transform(X, sites=["new"] * len(X)), X)


def test_a_missing_covariate_counts_as_the_mean():
    X, sites, age, _ = planted()
    harmonizer = SiteHarmonizer().fit(X, sites=sites, covariates=age)
    mean = np.full((1, 1), age.mean())
    assert_allclose(
        harmonizer.transform(X[:1], sites=sites[:1], covariates=[[np.nan]]), harmonizer.transform(X[:1], sites=sites[:1], covariates=mean)
    )
    holes = np.where(np.arange(60)[:, None] % 7 == 0, np.nan, age)
    assert_allclose(SiteHarmonizer().fit(X, sites=sites, covariates=holes).covariate_mean_, np.nanmean(holes))


# Laws


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.0, 0.05]), unseen=st.sampled_from(["error", "pooled", "estimate"]))
def test_order_of_subjects_and_features_does_not_matter(seed, share, unseen):
    X, sites, age, _ = planted(n_each=8, n_features=6, seed=seed)
    rng = np.random.default_rng(seed)
    X[rng.random(X.shape) < share] = np.nan
    rows, columns = rng.permutation(len(X)), rng.permutation(6)
    found = SiteHarmonizer(unseen).fit_transform(X, sites=sites, covariates=age)
    moved = SiteHarmonizer(unseen).fit_transform(X[rows][:, columns], sites=sites[rows], covariates=age[rows])
    assert_allclose(moved, found[rows][:, columns], rtol=1e-6, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), offset=st.floats(-100, 100), factor=st.floats(0.01, 100))
def test_units_do_not_matter(seed, offset, factor):
    X, sites, age, _ = planted(n_each=8, n_features=5, seed=seed)
    found = SiteHarmonizer().fit_transform(X, sites=sites, covariates=age)
    other = SiteHarmonizer().fit_transform(offset + factor * X, sites=sites, covariates=12 * age + 3)
    assert_allclose(other, offset + factor * found, rtol=1e-5, atol=1e-5 * factor)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), unseen=st.sampled_from(["error", "pooled", "estimate"]), with_age=st.booleans())
def test_state_round_trip_through_json(seed, unseen, with_age):
    X, sites, age, _ = planted(n_each=8, n_features=5, seed=seed)
    covariates = age if with_age else None
    harmonizer = SiteHarmonizer(unseen).fit(X, sites=sites, covariates=covariates)
    record, arrays = harmonizer.state()
    again = SiteHarmonizer.from_state(json.loads(json.dumps(record)), arrays)
    assert again.get_params() == harmonizer.get_params()
    new = sites if unseen == "error" else ["new"] * len(X)
    assert_array_equal(again.transform(X, sites=new, covariates=covariates), harmonizer.transform(X, sites=new, covariates=covariates))


# scikit-learn


def test_the_estimator_contract():
    harmonizer = SiteHarmonizer("pooled", min_subjects=7, keep_target=True)
    assert harmonizer.get_params() == {"unseen": "pooled", "min_subjects": 7, "keep_target": True}
    assert clone(harmonizer).get_params() == harmonizer.get_params()
    assert harmonizer.set_params(unseen="estimate").unseen == "estimate"
    X, sites, _, _ = planted(n_features=2)
    before = X.copy()
    fitted = SiteHarmonizer().fit(X, sites=sites)
    assert_array_equal(fitted.transform(X, sites=sites), SiteHarmonizer().fit_transform(X, sites=sites))
    assert_array_equal(X, before, "the input is not written on")
    assert fitted.n_features_in_ == 2
    assert fitted.get_feature_names_out().tolist() == ["x0", "x1"]
    table = pd.DataFrame(X, columns=["a", "b"])
    out = SiteHarmonizer().set_output(transform="pandas").fit_transform(table, sites=pd.Series(sites))
    assert out.columns.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="X has 3 features, but SiteHarmonizer is expecting 2"):
        fitted.transform(np.zeros((2, 3)), sites=["site-0"] * 2)
    with pytest.raises(NotFittedError, match="This SiteHarmonizer instance is not fitted yet"):
        SiteHarmonizer().transform(X, sites=sites)
    with pytest.raises(NotFittedError, match="This SiteHarmonizer instance is not fitted yet"):
        SiteHarmonizer().state()


def test_in_a_pipeline_with_metadata():
    X, sites, age, _ = planted()
    y = (np.arange(60) % 2).astype(int)
    with sklearn.config_context(enable_metadata_routing=True):
        step = SiteHarmonizer().set_fit_request(sites=True, covariates=True).set_transform_request(sites=True, covariates=True)
        model = make_pipeline(step, PCA(3), LogisticRegression()).fit(X, y, sites=sites, covariates=age)
        found = model.predict_proba(X, sites=sites, covariates=age)
    by_hand = make_pipeline(PCA(3), LogisticRegression())
    harmonized = SiteHarmonizer().fit_transform(X, sites=sites, covariates=age)
    assert_allclose(found, by_hand.fit(harmonized, y).predict_proba(harmonized))


# What is refused


def test_arguments_out_of_range():
    X, sites, _, _ = planted()
    with pytest.raises(ConfigError, match="unseen to be one of 'error', 'pooled', 'estimate'; found 'guess'"):
        SiteHarmonizer("guess").fit(X, sites=sites)
    with pytest.raises(ConfigError, match="min_subjects of at least 2, found 1"):
        SiteHarmonizer(min_subjects=1).fit(X, sites=sites)
    with pytest.raises(ConfigError, match="Expected class labels y of the training subjects for keep_target=True, found none"):
        SiteHarmonizer(keep_target=True).fit(X, sites=sites)
    with pytest.raises(DataError, match=r"one class label for each of 60 subjects, found shape \(3,\)"):
        SiteHarmonizer(keep_target=True).fit(X, [0, 1, 0], sites=sites)


@pytest.mark.parametrize("unseen", ["error", "pooled"])
def test_one_site(unseen):
    X, _, _, _ = planted()
    with pytest.raises(DataError, match=r"at least two training sites of 5 subjects or more, found \['here'\]: there is no difference"):
        SiteHarmonizer(unseen).fit(X, sites=["here"] * 60)


def test_one_large_site_beside_small_ones():
    X, _, _, _ = planted()
    with pytest.raises(DataError, match=r"found \['a'\] beside \{'b': 1\}"):
        SiteHarmonizer("pooled").fit(X[:10], sites=["a"] * 9 + ["b"])


def test_sites_that_do_not_fit():
    X, sites, _, _ = planted()
    with pytest.raises(DataError, match=r"Expected the site of each of 60 subjects, found shape \(2,\)"):
        SiteHarmonizer().fit(X, sites=["a", "b"])
    with pytest.raises(DataError, match=r"Expected a site for every subject, found none in the rows \[3, 4\]"):
        SiteHarmonizer().fit(X, sites=[*sites[:3], None, np.nan, *sites[5:]])


def test_covariates_that_do_not_fit():
    X, sites, age, _ = planted()
    harmonizer = SiteHarmonizer().fit(X, sites=sites, covariates=age)
    with pytest.raises(DataError, match="Expected the 1 covariates of the training subjects, found 0"):
        harmonizer.transform(X, sites=sites)
    with pytest.raises(DataError, match=r"covariates \[n, P\] of 60 subjects, found shape \(60,\)"):
        SiteHarmonizer().fit(X, sites=sites, covariates=age[:, 0])
    with pytest.raises(DataError, match="Expected covariates as numbers, found could not convert"):
        SiteHarmonizer().fit(X, sites=sites, covariates=[["female"]] * 60)
    with pytest.raises(DataError, match="Expected finite covariates"):
        SiteHarmonizer().fit(X, sites=sites, covariates=age / (age > 0).astype(float) * np.where(np.arange(60) == 0, np.inf, 1)[:, None])


def test_a_covariate_that_is_the_site():
    X, sites, age, _ = planted()
    field = (sites == "site-0").astype(float)[:, None]
    with pytest.raises(DataError, match=r"vary within sites, found that the site explains the columns \[1\] wholly"):
        SiteHarmonizer().fit(X, sites=sites, covariates=np.hstack([age, field]))
    with pytest.raises(DataError, match="the site explains a combination of them wholly"):
        SiteHarmonizer().fit(X, sites=sites, covariates=np.hstack([age, age + field]))
    twice = SiteHarmonizer().fit_transform(X, sites=sites, covariates=np.hstack([age, 2 * age]))
    assert_allclose(twice, SiteHarmonizer().fit_transform(X, sites=sites, covariates=age), rtol=1e-6)


def test_infinite_features():
    X, sites, _, _ = planted()
    X[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        SiteHarmonizer().fit(X, sites=sites)


def test_damaged_state():
    X, sites, _, _ = planted()
    record, arrays = SiteHarmonizer().fit(X, sites=sites).state()
    with pytest.raises(CheckpointError, match="fitted state of a SiteHarmonizer, found none of 'scale'"):
        SiteHarmonizer.from_state(record, {name: value for name, value in arrays.items() if name != "scale"})
    with pytest.raises(CheckpointError, match=r"Expected location of the shape \(3, 30\) in the state of a SiteHarmonizer, found \(2, 30\)"):
        SiteHarmonizer.from_state(record, {**arrays, "location": arrays["location"][:2]})
