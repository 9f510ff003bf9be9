import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from graphssl.errors import DataError
from graphssl.statistics.difference import corrected_resampled_t_test, delong_covariance, delong_test, wilcoxon_test
from graphssl.statistics.metrics import auroc


def slow_delong(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The structural components of DeLong et al. (1988), pair by pair."""
    positive, negative = scores[:, y == 1], scores[:, y == 0]
    k, m, n = len(scores), positive.shape[1], negative.shape[1]
    above, below = np.zeros((k, m)), np.zeros((k, n))
    for r in range(k):
        for i in range(m):
            for j in range(n):
                psi = float(positive[r, i] > negative[r, j]) + 0.5 * float(positive[r, i] == negative[r, j])
                above[r, i] += psi / n
                below[r, j] += psi / m
    area = above.mean(axis=1)
    s10 = (above - area[:, None]) @ (above - area[:, None]).T / (m - 1)
    s01 = (below - area[:, None]) @ (below - area[:, None]).T / (n - 1)
    return area, s10 / m + s01 / n


def two_scores(n: int, seed: int, gain: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(int)
    shared = generator.normal(size=n)
    a = (1 + gain) * y + shared + 0.5 * generator.normal(size=n)
    return y, a, y + shared + 0.5 * generator.normal(size=n)


@given(st.integers(6, 30), st.integers(0, 1000), st.integers(1, 3))
def test_fast_delong_equals_the_double_loop(n: int, seed: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(int)
    scores = generator.normal(size=(k, n)).round(1)
    fast, slow = delong_covariance(y, scores), slow_delong(y, scores)
    np.testing.assert_allclose(fast[0], slow[0])
    np.testing.assert_allclose(fast[1], slow[1], atol=1e-12)
    np.testing.assert_allclose(fast[0], [auroc(y, score) for score in scores])


def test_delong_test_by_hand() -> None:
    y, a, b = two_scores(90, 0)
    areas, covariance = slow_delong(y, np.stack([a, b]))
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = areas[0] - areas[1]
    found = delong_test(y, a, b)
    expected = (difference, difference - 1.959964 * error, difference + 1.959964 * error, 2 * stats.norm.sf(abs(difference) / error))
    assert (found.difference, found.low, found.high, found.p_value) == pytest.approx(expected, rel=1e-5)
    assert (found.n, found.test) == (90, "DeLong test")


def test_delong_agrees_with_the_bootstrap() -> None:
    y, a, b = two_scores(240, 1)
    generator = np.random.default_rng(0)
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    differences = []
    for _ in range(150):
        rows = np.concatenate([generator.choice(positive, len(positive)), generator.choice(negative, len(negative))])
        differences.append(auroc(y[rows], a[rows]) - auroc(y[rows], b[rows]))
    found = delong_test(y, a, b)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(differences), rel=0.15)


def test_delong_keeps_its_error_rate() -> None:
    rejected = [delong_test(*two_scores(120, seed, gain=0)).p_value < 0.05 for seed in range(400)]
    assert 0.025 <= np.mean(rejected) <= 0.085


def test_delong_is_antisymmetric_and_zero_for_equal_scores() -> None:
    y, a, b = two_scores(60, 2)
    one, other = delong_test(y, a, b), delong_test(y, b, a)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_value == pytest.approx(other.p_value)
    same = delong_test(y, a, 2 * a)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_delong_without_spread_or_with_one_class_says_nothing() -> None:
    perfect, wrong = [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1]
    found = delong_test([0, 0, 1, 1], perfect, wrong)
    assert found.difference == 1
    assert math.isnan(found.p_value)
    for y in ([0, 0, 0, 0], [0, 0, 0, 1]):
        assert math.isnan(delong_test(y, perfect, wrong).p_value)
    assert math.isnan(delong_test([1, 1, 1, 1], perfect, wrong).difference)


def test_corrected_t_by_hand() -> None:
    # Nadeau & Bengio (2003), equation 9: J = 4, variance 5/3 · (1/4 + 20/80), t = 2.5 / 0.9129 = 2.7386 with 3 degrees of freedom.
    found = corrected_resampled_t_test([1.0, 2.0, 3.0, 4.0], n_train=80, n_test=20)
    error = math.sqrt((1 / 4 + 20 / 80) * 5 / 3)
    assert found.difference == 2.5
    assert found.p_value == pytest.approx(2 * stats.t.sf(2.5 / error, 3))
    assert (found.low, found.high) == pytest.approx((2.5 - 3.182446 * error, 2.5 + 3.182446 * error), rel=1e-6)
    assert found.n == 4


def test_without_test_subjects_shared_it_is_the_plain_t_test() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, size=12)
    found = corrected_resampled_t_test(values, n_train=1e12, n_test=1)
    plain = stats.ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(plain.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(plain.confidence_interval()))


def test_corrected_t_takes_the_mean_of_the_counts() -> None:
    values = [0.1, 0.2, 0.4]
    assert corrected_resampled_t_test(values, [70, 80, 90], [30, 20, 10]) == corrected_resampled_t_test(values, 80, 20)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.floats(0.05, 1))
def test_correction_only_ever_widens(values: list[float], ratio: float) -> None:
    corrected, plain = corrected_resampled_t_test(values, 100, 100 * ratio), corrected_resampled_t_test(values, 1e12, 1)
    if not math.isnan(plain.low):
        assert corrected.low <= plain.low + 1e-9
        assert corrected.high >= plain.high - 1e-9
        assert corrected.p_value >= plain.p_value - 1e-12


def test_differences_without_spread() -> None:
    assert math.isnan(corrected_resampled_t_test([0.1], 80, 20).p_value)
    equal = corrected_resampled_t_test([0.1, 0.1], 80, 20)
    assert equal.difference == pytest.approx(0.1)
    assert math.isnan(equal.low)
    none = corrected_resampled_t_test([0.0, 0.0], 80, 20)
    assert (none.low, none.high, none.p_value) == (0, 0, 1)


@pytest.mark.parametrize("values", [[0.5, -0.1, 0.9, 0.3, -0.2, 0.7, 0.4], [0.3, -0.3, 0.1 + 0.2, 0.3, -0.1, 0.7, 0.7]])
def test_wilcoxon_by_enumeration(values: list[float]) -> None:
    values = np.round(values, 12)
    ranks = stats.rankdata(np.abs(values))
    sums = [sum(r for r, sign in zip(ranks, signs, strict=True) if sign) for signs in itertools.product([0, 1], repeat=7)]
    observed = ranks[values > 0].sum()
    found = wilcoxon_test(values)
    assert found.p_value == pytest.approx(min(1, 2 * np.mean(np.asarray(sums) >= observed)))
    walsh = sorted((values[i] + values[j]) / 2 for i in range(7) for j in range(i, 7))
    assert found.difference == pytest.approx(np.median(walsh))
    # P(W ≤ 2) = 3/128 ≤ 0.025 < P(W ≤ 3) = 5/128, so the third smallest and third largest pairwise means bound the median.
    assert (found.low, found.high) == pytest.approx((walsh[2], walsh[-3]))


def test_wilcoxon_interval_covers_its_median() -> None:
    generator = np.random.default_rng(0)
    held = [(lambda c: c.low <= 0.3 <= c.high)(wilcoxon_test(generator.normal(0.3, 1, size=12))) for _ in range(300)]
    assert np.mean(held) >= 0.92


def test_wilcoxon_small_tied_and_many() -> None:
    assert math.isnan(wilcoxon_test([0.1, 0.2, 0.3]).low)
    assert wilcoxon_test([0.0, 0.0]).p_value == 1
    tied = wilcoxon_test([0.1, 0.1, 0.1, 0.2, 0.2, -0.1, 0.3, 0.0])
    assert tied.p_value == pytest.approx(2 * 5 / 2**7)  # none, or one of the four smallest, turned
    many = wilcoxon_test(np.random.default_rng(0).normal(0.2, 1, size=200))
    assert many.low < many.difference < many.high


def test_input_that_does_not_fit() -> None:
    for test in (lambda d: corrected_resampled_t_test(d, 80, 20), wilcoxon_test):
        for wrong in ([], [0.1, math.nan], [[0.1, 0.2]]):
            with pytest.raises(DataError, match="at least one finite difference, found"):
                test(wrong)
    with pytest.raises(DataError, match="positive number of test subjects, found 0"):
        corrected_resampled_t_test([0.1, 0.2], 80, 0)
    with pytest.raises(DataError, match="positive number of training subjects, found nan"):
        corrected_resampled_t_test([0.1, 0.2], math.nan, 10)
    with pytest.raises(DataError, match="scores of two classes for DeLong's test, found 3 classes"):
        delong_test([0, 1, 2], np.eye(3), np.eye(3))
    with pytest.raises(DataError, match="found shapes"):
        delong_test([0, 1, 1], [0.1, 0.2, 0.3], [0.1, 0.2])
    with pytest.raises(DataError, match="level of an interval"):
        wilcoxon_test([0.1, 0.2], level=0)
