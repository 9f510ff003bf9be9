"""Normal scores against scikit-learn, and against ranks where values are equal."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm, rankdata
from sklearn.preprocessing import QuantileTransformer

from graphssl.data.normal_scores import N_QUANTILES, NormalScores
from graphssl.errors import DataError


def test_scores_of_a_continuous_code_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    codes, values = rng.integers(0, 2, 5000), rng.exponential(size=5000)
    values = np.where(codes == 0, values, 50 * rng.standard_normal(5000))
    found = NormalScores("ab").fit(codes, values).transform(codes, values)
    for code in range(2):
        mine = values[codes == code]
        peer = QuantileTransformer(n_quantiles=N_QUANTILES, output_distribution="normal", subsample=None)
        expected = peer.fit_transform(mine[:, None])[:, 0]
        assert_allclose(found[codes == code], np.clip(expected, norm.ppf(5e-4), norm.ppf(1 - 5e-4)), atol=1e-4)


def test_equal_values_share_their_middle_rank():
    rng = np.random.default_rng(0)
    values = rng.integers(3, 16, 4000).astype(float)
    found = NormalScores(["gcs"]).fit(np.zeros(4000, int), values).transform(np.zeros(4000, int), values)
    assert_allclose(found, norm.ppf((rankdata(values) - 0.5) / 4000), atol=0.02)


def test_a_constant_and_what_lies_outside_of_the_training_range():
    scores = NormalScores(["same", "one"]).fit(np.array([0, 0, 1]), np.array([5.0, 5.0, 7.0]))
    found = scores.transform(np.array([0, 0, 0, 1]), np.array([5.0, -100.0, 735.0, 7.0]))
    assert_allclose(found, [0.0, norm.ppf(5e-4), norm.ppf(1 - 5e-4), 0.0], atol=1e-5)
    assert scores.transform(np.empty(0, int), np.empty(0)).shape == (0,)


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(DataError, match="Expected a value of every code, found none of 'b'"):
        NormalScores("ab").fit(np.array([0, 0]), np.array([1.0, 2.0]))
    with pytest.raises(DataError, match="Expected finite values, found inf of 'a'"):
        NormalScores("a").fit(np.array([0, 0]), np.array([1.0, np.inf]))
