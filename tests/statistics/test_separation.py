"""Distances of classes against what Gaussians give in closed form."""

import math

import numpy as np
import pytest

from graphssl.errors import DataError
from graphssl.statistics import bhattacharyya


def two_classes(apart, n=4000, width=1, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(2 * n) % 2
    features = rng.standard_normal((2 * n, width))
    features[:, 0] += apart * y
    return features, y


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_two_gaussians_of_one_spread(apart):
    """(m2 - m1)^2 / 8 s^2, the form of the paper's bound."""
    assert bhattacharyya(*two_classes(apart)) == pytest.approx(apart**2 / 8, abs=0.03)


def test_two_gaussians_of_one_mean_and_other_spreads():
    """log((s1^2 + s2^2) / 2 s1 s2) / 2."""
    features, y = two_classes(0.0)
    features[y == 1] *= 3.0
    assert bhattacharyya(features, y) == pytest.approx(math.log(10 / 6) / 2, abs=0.02)


def test_it_does_not_see_turns_and_units():
    features, y = two_classes(2.0, n=400, width=3)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    assert bhattacharyya(100.0 * features @ turn, y) == pytest.approx(bhattacharyya(features, y), rel=1e-6)


def test_of_three_classes_it_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 3000)
    features = rng.standard_normal((9000, 1)) + 2.0 * y[:, None]
    assert bhattacharyya(features, y) == pytest.approx((4 / 8 + 4 / 8 + 16 / 8) / 3, abs=0.05)


def test_a_class_of_one_has_no_distance_and_constant_features_have_none():
    assert math.isnan(bhattacharyya(np.eye(3), [0, 0, 1]))
    assert bhattacharyya(np.ones((6, 2)), [0, 0, 0, 1, 1, 1]) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(DataError, match="Expected finite features"):
        bhattacharyya([[math.nan], [1.0]], [0, 1])
