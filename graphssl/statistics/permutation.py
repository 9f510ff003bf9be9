"""Permutation tests: would labels dealt out anew score as high?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from graphssl.errors import DataError
from graphssl.statistics.checks import Labels, Scores, check_scores
from graphssl.statistics.metrics import LOWER_IS_BETTER, Metric, named_metric
from graphssl.statistics.predictions import ScoredSplit

_SAME = 1e-12


@dataclass(frozen=True)
class PermutationTest:
    """A score beside the scores of permuted labels.

    Attributes:
        score: The score; NaN where it is not defined.
        chance: Mean score of the permuted labels.
        p_value: One-sided p value `(1 + number of permutations at least as good) / (1 + number of permutations)`, never zero (Phipson & Smyth 2010).
        n_permutations: Number of permutations.
    """

    score: float
    chance: float
    p_value: float
    n_permutations: int


def shuffled_error(n: npt.ArrayLike, n_first: npt.ArrayLike, n_shuffles: int = 1) -> float:
    """Standard error by chance of the mean AUROC of methods that were trained on shuffled labels, over test sets and shuffles.

    In one test set chance has the variance `v = (n + 1) / (12 n₀ n₁)` (Mann & Whitney 1947). The test sets of one shuffle are not independent:
    whether part A is told by what was learned on B, and B by what was learned on A, is one question, namely how alike the differences between the
    dealt classes are in both. A linear score of one of `k` parts, learned on the others, is a sum over pairs of parts, and each pair stands in two
    of the `k` test sets, so that their mean has the variance `2 v / k`: twice that of independent test sets, and for two sites that of one test set
    alone. Methods that are not linear agree less. Shuffles are independent of each other.

    Args:
        n: Subjects in each test set `[k]`.
        n_first: How many of them are of the first class `[k]`.
        n_shuffles: Shuffles that the mean is over too.
    """
    size, first = np.asarray(n, dtype=np.float64), np.asarray(n_first, dtype=np.float64)
    variance = float(((size + 1) / (12 * first * (size - first))).mean())
    return math.sqrt(variance * min(1.0, 2 / len(size)) / n_shuffles)


def permutation_test(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    metric: str | Metric = "auroc",
    *,
    sites: Sequence[Any] | npt.NDArray[Any] | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> PermutationTest:
    """Whether predictions of subjects that a model was not fitted on know anything of their labels beyond their site.

    Labels are permuted within each site, so that a model which has learned no more than how common a class is at a site is at chance.

    Args:
        y: Class of each subject `[n]`.
        p: Probability of class 1 `[n]`, or of each class `[n, C]`.
        metric: Name from `graphssl.statistics.METRICS`, or a function of `(y, p)` of which more is better.
        sites: Site of each subject `[n]`; one site when left out.
        n_permutations: Number of permutations.
        seed: Seed of the permutations.

    Raises:
        DataError: If labels, scores and sites do not fit, or there is no permutation.
    """
    labels, scores = check_scores(y, p)
    where = np.zeros(len(labels)) if sites is None else np.asarray(sites)
    if len(where) != len(labels):
        raise DataError(f"Expected a site for each of {len(labels)} subjects, found {len(where)}.")
    drawn = permuted_labels(labels, where, n_permutations, np.random.default_rng(seed))
    score = float(named_metric(metric)(labels, scores))
    return against_permutations(score, _scores(metric, drawn, scores), lower=metric in LOWER_IS_BETTER)


def permutation_over_splits(
    splits: Mapping[str, ScoredSplit],
    metric: str | Metric = "auroc",
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> PermutationTest:
    """Permutation test of the mean over splits of the mean over seeds, labels permuted within each test set and site.

    Seeds of a split meet the same permutations. Test sets in which the metric is not defined are left out.

    Args:
        splits: Predictions by test set, as `scored_splits` gives them.
        metric: Name from `graphssl.statistics.METRICS`, or a function of `(y, p)` of which more is better.
        n_permutations: Number of permutations.
        seed: Seed of the permutations.

    Raises:
        DataError: If the metric is unknown, or there is no permutation.
    """
    generator = np.random.default_rng(seed)
    observed, chance = [], []
    for part in splits.values():
        value = part.score(metric)
        if np.isnan(value):
            continue
        drawn = permuted_labels(part.y, np.asarray(part.sites), n_permutations, generator)
        observed.append(value)
        chance.append(np.mean([_scores(metric, drawn, p) for p in part.p], axis=0))
    if not observed:
        return PermutationTest(float("nan"), float("nan"), float("nan"), n_permutations)
    return against_permutations(float(np.mean(observed)), np.mean(chance, axis=0), lower=metric in LOWER_IS_BETTER)


def permuted_labels(y: Labels, sites: npt.NDArray[Any], n_permutations: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Labels permuted within each site `[n_permutations, n]`."""
    drawn = np.tile(y, (max(0, n_permutations), 1))
    for site in np.unique(sites):
        here = np.flatnonzero(sites == site)
        drawn[:, here] = generator.permuted(drawn[:, here], axis=1)
    return drawn


def against_permutations(score: float, permuted: Scores, *, lower: bool = False) -> PermutationTest:
    """A score against those of permuted labels; NaN throughout where it is not defined.

    Args:
        score: The score.
        permuted: Scores of the permuted labels `[n_permutations]`.
        lower: Whether less is better.

    Raises:
        DataError: If there is no permutation.
    """
    n = len(permuted)
    if n == 0:
        raise DataError("Expected at least one permutation to compare the score with, found none. Give n_permutations of 1 or more.")
    if np.isnan(score):
        return PermutationTest(score, float("nan"), float("nan"), n)
    # Sums of ranks in another order may differ in the last bit; such scores are equal.
    as_good = permuted <= score + _SAME if lower else permuted >= score - _SAME
    return PermutationTest(score, float(np.nanmean(permuted)), (1 + int(as_good.sum())) / (1 + n), n)


def _scores(metric: str | Metric, drawn: npt.NDArray[np.int64], p: Scores) -> Scores:
    """The metric under each row of labels `[n_permutations]`."""
    if metric == "auroc" and p.ndim == 1:
        return _aurocs(drawn, p)
    return np.asarray([named_metric(metric)(row, p) for row in drawn], dtype=np.float64)


def _aurocs(drawn: npt.NDArray[np.int64], p: Scores) -> Scores:
    """AUROC of one score under many labellings with the same number of positives, from the sum of their ranks (Mann & Whitney 1947)."""
    positive = int(drawn[:1].sum())
    negative = drawn.shape[1] - positive
    if min(positive, negative) == 0:
        return np.full(len(drawn), np.nan)
    return (drawn @ stats.rankdata(p) - positive * (positive + 1) / 2) / (positive * negative)
