"""Regressing out: held to explicit least squares with a column a site."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from graphssl.data import CovariateRemover
from graphssl.data.regress import slopes_within
from graphssl.errors import DataError


def toy(n=40, n_features=5, n_covariates=2, seed=0):
    rng = np.random.default_rng(seed)
    covariates = rng.standard_normal((n, n_covariates)) * [1.0, 20.0][:n_covariates] + 30
    codes = rng.integers(0, 3, n)
    effects = rng.standard_normal((n_covariates, n_features))
    return covariates @ effects + 4 * codes[:, None] + rng.standard_normal((n, n_features)), covariates, codes


@pytest.mark.parametrize("share_missing", [0.0, 0.3])
def test_slopes_are_those_of_least_squares_with_a_column_a_group(share_missing):
    values, covariates, codes = toy()
    values[np.random.default_rng(1).random(values.shape) < share_missing] = np.nan
    found = slopes_within(values, covariates, codes)
    for g, column in enumerate(values.T):
        rows = np.isfinite(column)
        design = np.column_stack([np.eye(3)[codes], covariates])[rows]
        assert_allclose(found[:, g], np.linalg.lstsq(design, column[rows], rcond=None)[0][3:], rtol=1e-8)


def test_nothing_to_estimate_is_zero():
    values, covariates, codes = toy()
    assert slopes_within(values, covariates[:, :0], codes).shape == (0, 5)
    values[:, 2], values[1:, 3] = np.nan, np.nan
    found = slopes_within(values, np.column_stack([covariates[:, 0], np.full(40, 7.0)]), codes)
    assert_array_equal(found[:, 2:4], 0)
    assert_array_equal(found[1], 0)


def test_what_scikit_learn_leaves_over():
    values, covariates, _ = toy()
    found = CovariateRemover().fit_transform(values, covariates=covariates)
    left = values - LinearRegression().fit(covariates, values).predict(covariates)
    assert_allclose(found, left + values.mean(axis=0))
    assert_allclose(np.corrcoef(found.T, covariates.T)[:5, 5:], 0, atol=1e-10)


def test_training_subjects_alone_decide():
    values, covariates, _ = toy()
    remover = CovariateRemover().fit(values[:20], covariates=covariates[:20])
    model = LinearRegression().fit(covariates[:20], values[:20])
    expected = values[20:] - model.predict(covariates[20:]) + values[:20].mean(axis=0)
    assert_allclose(remover.transform(values[20:], covariates=covariates[20:]), expected)


def test_slopes_within_sites():
    """Old people at the site with high values: between sites everything seems to rise with age, within sites nothing does."""
    rng = np.random.default_rng(0)
    sites = np.repeat(["young", "old"], 500)
    age = rng.normal(np.where(sites == "old", 60, 20), 5)[:, None]
    values = 10.0 * (sites == "old")[:, None] + rng.standard_normal((1000, 1))
    assert CovariateRemover().fit(values, covariates=age).slopes_[0, 0] > 0.2
    assert abs(CovariateRemover().fit(values, covariates=age, sites=sites).slopes_[0, 0]) < 0.03


def test_missing_values_stay_missing_and_missing_covariates_change_nothing():
    values, covariates, _ = toy()
    values[3, 2], covariates[5, 0] = np.nan, np.nan
    remover = CovariateRemover()
    found = remover.fit_transform(values, covariates=covariates)
    assert_array_equal(np.isnan(found), np.isnan(values))
    mean = np.nanmean(covariates, axis=0)
    unknown = remover.transform(values[:1], covariates=np.full((1, 2), np.nan))
    assert_allclose(unknown, values[:1])
    assert_allclose(remover.transform(values[:1], covariates=mean[None]), values[:1])


def test_the_estimator_contract():
    values, covariates, _ = toy()
    assert clone(CovariateRemover()).get_params() == {}
    with pytest.raises(NotFittedError, match="This CovariateRemover instance is not fitted yet"):
        CovariateRemover().transform(values, covariates=covariates)
    assert CovariateRemover().fit(values, covariates=covariates).get_feature_names_out().tolist() == [f"x{k}" for k in range(5)]


def test_what_is_refused():
    values, covariates, codes = toy()
    remover = CovariateRemover().fit(values, covariates=covariates)
    with pytest.raises(DataError, match="Expected the 2 covariates of the training subjects, found 1"):
        remover.transform(values, covariates=covariates[:, :1])
    with pytest.raises(DataError, match=r"the site explains the columns \[0\] wholly"):
        CovariateRemover().fit(values, covariates=(codes == 1)[:, None], sites=codes)
