"""Stability of maps: one for the same, nothing for independent ones, and the formulas in loops."""

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

from graphssl.errors import DataError
from graphssl.statistics import stability
from graphssl.statistics.stability import rank_correlations


def test_the_same_map_again_is_perfectly_stable():
    one = np.random.default_rng(0).standard_normal(50)
    found = stability(np.stack([one, -one, 3 * one]))
    assert found.rank_correlation == pytest.approx(1.0)
    assert found.top_overlap == pytest.approx(1.0)
    assert sorted(set(found.frequency)) == [0.0, 1.0]
    assert found.frequency.sum() == found.n_top == 5
    assert set(np.flatnonzero(found.frequency)) == set(np.argsort(-np.abs(one))[:5])


def test_independent_maps_have_nothing_in_common():
    found = stability(np.random.default_rng(0).standard_normal((40, 400)))
    assert found.rank_correlation == pytest.approx(0.0, abs=0.02)
    assert found.top_overlap == pytest.approx(0.0, abs=0.02)
    assert found.frequency.mean() == pytest.approx(0.1)


@pytest.mark.parametrize(("n_maps", "n_entries", "top"), [(2, 2, 0.1), (5, 30, 0.2), (4, 17, 0.9)])
def test_it_is_the_mean_over_pairs(n_maps, n_entries, top):
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((n_maps, n_entries)) + rng.standard_normal(n_entries)
    found = stability(maps, top)
    k = found.n_top
    assert 1 <= k < n_entries
    tops = [set(np.argsort(-np.abs(row))[:k].tolist()) for row in maps]
    overlaps = [(len(a & b) - k**2 / n_entries) / (k - k**2 / n_entries) for a, b in combinations(tops, 2)]
    correlations = [spearmanr(np.abs(a), np.abs(b)).statistic for a, b in combinations(maps, 2)]
    assert found.rank_correlation == pytest.approx(np.mean(correlations))
    assert found.top_overlap == pytest.approx(np.mean(overlaps))
    assert_allclose(found.frequency, [np.mean([e in chosen for chosen in tops]) for e in range(n_entries)])


def test_a_flat_map_agrees_with_none():
    maps = np.stack([np.ones(6), np.arange(6.0)])
    assert_allclose(rank_correlations(maps), [[0.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("maps", [np.ones((1, 5)), np.ones((3, 1)), np.ones(4), [[1.0, np.nan], [1.0, 2.0]]])
def test_too_little_to_compare(maps):
    with pytest.raises(DataError, match=r"at least two maps \[M, E\] of finite values"):
        stability(maps)


@pytest.mark.parametrize("top", [0.0, 1.0, -1])
def test_share_out_of_range(top):
    with pytest.raises(DataError, match="largest entries between 0 and 1"):
        stability(np.ones((2, 5)), top)
