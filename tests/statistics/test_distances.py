"""Distances of distributions beside closed forms and loops."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from graphssl.errors import DataError
from graphssl.statistics import frechet_distance, maximum_mean_discrepancy, median_distance


@pytest.fixture
def clouds():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) * (1, 2, 0.5) + (0.5, 0, 1)


def test_frechet_is_the_formula(clouds):
    x, y = clouds
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(expected)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))


def test_frechet_of_one_number_is_that_of_two_normals():
    x, y = np.asarray([[0.0], [2.0]]), np.asarray([[5.0], [9.0]])
    assert frechet_distance(x, y) == pytest.approx(36 + (np.sqrt(2) - np.sqrt(8)) ** 2)


def test_fewer_vectors_than_entries_are_allowed():
    rng = np.random.default_rng(1)
    assert frechet_distance(rng.normal(size=(4, 12)), rng.normal(size=(5, 12)) + 3) > 12


def test_discrepancy_is_the_double_sum(clouds):
    x, y = clouds
    length = median_distance(x, y)

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * length**2))

    own = [np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    expected = sum(own) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert maximum_mean_discrepancy(x, y) == pytest.approx(expected)
    assert maximum_mean_discrepancy(x, y, length=length) == pytest.approx(expected)


def test_discrepancy_of_one_distribution_is_around_zero():
    rng = np.random.default_rng(2)
    found = [maximum_mean_discrepancy(rng.normal(size=(50, 4)), rng.normal(size=(50, 4))) for _ in range(30)]
    assert abs(np.mean(found)) < 0.005
    assert min(found) < 0


def test_median_distance_is_that_of_pairs():
    assert median_distance([[0.0], [0.0]], [[0.0], [3.0]]) == pytest.approx(1.5)
    assert median_distance([[1.0], [1.0]], [[1.0], [1.0]]) == 1


@pytest.mark.parametrize("wrong", [np.zeros((1, 3)), np.zeros((4, 2)), np.zeros(3)])
@pytest.mark.parametrize("measure", [frechet_distance, maximum_mean_discrepancy, median_distance])
def test_vectors_that_do_not_fit_are_refused(clouds, measure, wrong):
    with pytest.raises(DataError, match="two sets of two or more vectors of one width"):
        measure(clouds[0], wrong)
