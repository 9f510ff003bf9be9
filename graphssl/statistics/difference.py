"""Tests of a difference between two methods: over splits, or over the subjects of one test set."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from graphssl.errors import DataError
from graphssl.statistics.checks import Labels, Scores, check_scores
from graphssl.statistics.metrics import check_level

# Differences and variances below these are rounding errors of sums over ranks.
_NO_DIFFERENCE = 1e-12
NO_VARIANCE = 1e-18
# Above this many differences the signed-rank statistic is taken as normal.
_EXACT_UP_TO = 60


@dataclass(frozen=True)
class Comparison:
    """A difference between two methods, first minus second.

    Attributes:
        difference: Estimated difference.
        low: Lower end of its interval; NaN where the spread cannot be estimated.
        high: Upper end.
        p_value: Two-sided p value of no difference; NaN where it cannot be computed.
        n: Number of splits (tests over splits) or subjects (DeLong) it rests on.
        test: Name of the test.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    test: str


def corrected_resampled_t_test(
    differences: npt.ArrayLike,
    n_train: float | npt.ArrayLike,
    n_test: float | npt.ArrayLike,
    *,
    level: float = 0.95,
) -> Comparison:
    """Student's t test over splits that share training subjects (Nadeau & Bengio 2003, https://doi.org/10.1023/A:1024068626366).

    The variance of the mean of J differences is `(1/J + n_test/n_train) s²` instead of `s²/J`, with J − 1 degrees of freedom.

    Args:
        differences: Difference in each split `[J]`.
        n_train: Training subjects, one number or one a split `[J]` (their mean is used).
        n_test: Test subjects, likewise.
        level: Coverage of the interval.

    Returns:
        The mean difference; interval and p value are NaN for one split, or for differences that are equal and not zero.

    Raises:
        DataError: If there is no difference, one is not finite, or a number of subjects is not positive.
    """
    values = _differences(differences)
    check_level(level)
    ratio = _mean_count(n_test, "test") / _mean_count(n_train, "training")
    n, mean = len(values), float(values.mean())
    name = "corrected resampled t test over splits"
    if n > 1 and (np.abs(values) < _NO_DIFFERENCE).all():
        return Comparison(0.0, 0.0, 0.0, 1.0, n, name)
    if n == 1 or float(np.ptp(values)) < _NO_DIFFERENCE:
        return Comparison(mean, math.nan, math.nan, math.nan, n, name)
    error = math.sqrt((1 / n + ratio) * float(values.var(ddof=1)))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return Comparison(mean, mean - half, mean + half, p_value, n, name)


def wilcoxon_test(differences: npt.ArrayLike, *, level: float = 0.95) -> Comparison:
    """Wilcoxon's signed-rank test over splits, with the Hodges–Lehmann estimate and its interval (Hollander & Wolfe 1999, §3.2–3.3).

    Args:
        differences: Difference in each split `[J]`.
        level: Coverage of the interval.

    Returns:
        The median of the pairwise means. The interval is NaN where J is too small to reach the level (below 6 for 95 %).

    Raises:
        DataError: If there is no difference, or one is not finite.
    """
    values = _differences(differences)
    check_level(level)
    n, name = len(values), "Wilcoxon signed-rank test over splits"
    i, j = np.triu_indices(n)
    walsh = np.sort((values[i] + values[j]) / 2)
    if (np.abs(values) < _NO_DIFFERENCE).all():
        return Comparison(0.0, 0.0, 0.0, 1.0, n, name)
    cut = _signed_rank_cut(n, level)
    low, high = (float(walsh[cut - 1]), float(walsh[-cut])) if cut else (math.nan, math.nan)
    return Comparison(float(np.median(walsh)), low, high, _signed_rank_p(values), n, name)


def delong_test(y: npt.ArrayLike, p_a: npt.ArrayLike, p_b: npt.ArrayLike, *, level: float = 0.95) -> Comparison:
    """DeLong's test of two AUROCs on the same subjects, `a` minus `b` (DeLong et al. 1988, in the fast form of Sun & Xu 2014).

    Args:
        y: Class of each subject `[n]`, 0 or 1.
        p_a: Score of class 1 by the first method `[n]`.
        p_b: Score of class 1 by the second method `[n]`.
        level: Coverage of the interval.

    Returns:
        The difference; interval and p value are NaN with fewer than two subjects of a class, or if the scores rank without any spread.

    Raises:
        DataError: If labels and scores do not fit, or there are more than two classes.
    """
    check_level(level)
    labels, a = check_scores(y, p_a)
    _, b = check_scores(y, p_b)
    areas, covariance = delong_covariance(labels, np.stack([one_score(a), one_score(b)]))
    contrast = np.asarray([1.0, -1.0])
    return normal_comparison(float(contrast @ areas), float(contrast @ covariance @ contrast), len(labels), level, "DeLong test")


def delong_covariance(y: Labels, scores: Scores) -> tuple[Scores, npt.NDArray[np.float64]]:
    """AUROC of several scores on the same subjects and the covariance of these estimates, by midranks (Sun & Xu 2014).

    Args:
        y: Class of each subject `[n]`, 0 or 1.
        scores: Scores of class 1 `[k, n]`.

    Returns:
        AUROCs `[k]` (NaN with one class) and their covariance `[k, k]` (NaN with fewer than two subjects of a class).
    """
    positive, negative = scores[:, y == 1], scores[:, y == 0]
    m, n, k = positive.shape[1], negative.shape[1], len(scores)
    if min(m, n) == 0:
        return np.full(k, np.nan), np.full((k, k), np.nan)
    ranks = stats.rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    # Share of the other class that a subject is placed above (positives) or below (negatives).
    above = (ranks[:, :m] - stats.rankdata(positive, axis=1)) / n
    below = 1 - (ranks[:, m:] - stats.rankdata(negative, axis=1)) / m
    if min(m, n) < 2:
        return above.mean(axis=1), np.full((k, k), np.nan)
    return above.mean(axis=1), np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n


def normal_comparison(difference: float, variance: float, n: int, level: float, name: str) -> Comparison:
    """A difference with a normal interval from its variance; without variance there is an interval only if there is no difference."""
    if math.isnan(variance) or variance < NO_VARIANCE:
        same = not math.isnan(variance) and abs(difference) < _NO_DIFFERENCE
        return Comparison(0.0, 0.0, 0.0, 1.0, n, name) if same else Comparison(difference, math.nan, math.nan, math.nan, n, name)
    error = math.sqrt(variance)
    half = float(stats.norm.ppf((1 + level) / 2)) * error
    return Comparison(difference, difference - half, difference + half, 2 * float(stats.norm.sf(abs(difference) / error)), n, name)


def one_score(scores: Scores) -> Scores:
    """The scores of class 1 `[n]`.

    Raises:
        DataError: If they are scores of more than two classes.
    """
    if scores.ndim > 1:
        raise DataError(
            f"Expected the scores of two classes for DeLong's test, found {scores.shape[1]} classes. Test the macro AUROC over splits instead."
        )
    return scores


def _differences(differences: npt.ArrayLike) -> Scores:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise DataError(f"Expected a list of at least one finite difference, found {np.asarray(differences).ravel()[:5].tolist()}.")
    return values


def _mean_count(count: float | npt.ArrayLike, what: str) -> float:
    mean = float(np.mean(np.asarray(count, dtype=np.float64)))
    if not mean > 0:
        raise DataError(f"Expected a positive number of {what} subjects, found {mean:g}.")
    return mean


def _signed_rank_cut(n: int, level: float) -> int:
    """The largest k for which the k-th smallest and k-th largest pairwise mean enclose the median at this level; 0 where none does."""
    tail = (1 - level) / 2
    if n > _EXACT_UP_TO:
        mean, sd = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(0, math.floor(mean - float(stats.norm.ppf(1 - tail)) * sd))
    below = np.cumsum(_signed_rank_distribution(np.arange(1, n + 1)))
    return int((below <= tail + _NO_DIFFERENCE).sum())


def _signed_rank_p(values: Scores) -> float:
    # Differences that are equal but for rounding are ties.
    present = np.round(values[np.abs(values) >= _NO_DIFFERENCE], 12)
    if len(present) > _EXACT_UP_TO:
        return float(stats.wilcoxon(present, method="asymptotic").pvalue)
    doubled = np.round(2 * stats.rankdata(np.abs(present))).astype(np.int64)  # midranks are halves
    chance, observed = _signed_rank_distribution(doubled), int(doubled[present > 0].sum())
    return float(min(1.0, 2 * chance[: observed + 1].sum(), 2 * chance[observed:].sum()))


def _signed_rank_distribution(ranks: npt.NDArray[np.int64]) -> Scores:
    """Chance of each sum of the ranks with positive sign, when every sign is a fair coin."""
    chance = np.ones(1)
    for rank in ranks.tolist():
        longer = np.zeros(len(chance) + rank)
        longer[: len(chance)] += chance / 2
        longer[rank:] += chance / 2
        chance = longer
    return chance
