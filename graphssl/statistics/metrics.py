"""Scores of predictions and their intervals.

In a binary task `y` holds 0 and 1 and `p` the probability of class 1 `[n]`; with C classes `y` holds 0 … C-1 and `p` is `[n, C]`
(two columns count as binary). A test set of one class has nothing to rank: AUROC, AUPRC and balanced accuracy are NaN there, so that
a fold without them is left out of a mean rather than counted as a number it never had.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

from graphssl.errors import DataError
from graphssl.statistics.checks import Labels, Scores, check_scores, one_class
from graphssl.statistics.resampling import WEIGHTED, brier_losses, draw_counts, weighted_calibration_error


class _WithInterval(Protocol):
    """Any dataclass with the ends of an interval."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


_Found = TypeVar("_Found", bound=_WithInterval)
Metric = Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]

# Entries of counts [R, n] held at once; bounds the memory of a bootstrap to tens of megabytes.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        estimate: The estimate; NaN where it is not defined.
        low: Lower end; NaN where the spread cannot be estimated.
        high: Upper end.
        level: Coverage, such as 0.95.
        n: Number of values or subjects it rests on.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int


def auroc(y: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the ROC curve; with C classes the macro mean over one-vs-rest.

    Classes that are absent from `y` are left out of the macro mean.

    Args:
        y: Class of each subject `[n]`.
        score: Score of class 1 `[n]`, or a score a class `[n, C]`.

    Returns:
        A value in [0, 1]; NaN if `y` holds one class only.

    Raises:
        DataError: If labels and scores do not fit.
    """
    return _macro(roc_auc_score, *check_scores(y, score))


def auprc(y: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the precision–recall curve as average precision; with C classes the macro mean over one-vs-rest.

    Chance is the share of positives, not 0.5.

    Args:
        y: Class of each subject `[n]`.
        score: Score of class 1 `[n]`, or a score a class `[n, C]`.

    Returns:
        A value in [0, 1]; NaN if `y` holds one class only.

    Raises:
        DataError: If labels and scores do not fit.
    """
    return _macro(average_precision_score, *check_scores(y, score))


def balanced_accuracy(y: npt.ArrayLike, score: npt.ArrayLike, threshold: float = 0.5) -> float:
    """Mean recall over the classes present.

    Args:
        y: Class of each subject `[n]`.
        score: Score of class 1 `[n]`, or a score a class `[n, C]` (then the largest one decides).
        threshold: Class 1 is called where the score lies above it; binary only.

    Returns:
        A value in [0, 1]; NaN if `y` holds one class only.

    Raises:
        DataError: If labels and scores do not fit.
    """
    labels, scores = check_scores(y, score)
    if one_class(labels):
        return math.nan
    guess = (scores > threshold).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
    return float(recall_score(labels, guess, labels=np.unique(labels), average="macro"))


def recall_by_class(y: npt.ArrayLike, score: npt.ArrayLike, threshold: float = 0.5) -> list[float]:
    """Share of each class that is called right, NaN of one that is absent: what a mean over subjects hides where a class is rare.

    Args:
        y: Class of each subject `[n]`.
        score: Score of class 1 `[n]`, or a score a class `[n, C]` (then the largest one decides).
        threshold: Class 1 is called where the score lies above it; binary only.

    Raises:
        DataError: If labels and scores do not fit.
    """
    labels, scores = check_scores(y, score)
    n_classes = 2 if scores.ndim == 1 else scores.shape[1]
    guess = (scores > threshold).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
    return [float((guess[labels == c] == c).mean()) if (labels == c).any() else math.nan for c in range(n_classes)]


def brier(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Brier score, lower is better: mean squared distance of the probabilities to the outcome.

    Binary: `mean((p - y)²)`, in [0, 1]. With C ≥ 3 classes: summed over the classes, in [0, 2] (Brier 1950).

    Args:
        y: Class of each subject `[n]`.
        p: Probability of class 1 `[n]`, or of each class `[n, C]`.

    Raises:
        DataError: If labels and probabilities do not fit.
    """
    return float(brier_losses(*check_scores(y, p, probabilities=True)).mean())


def expected_calibration_error(y: npt.ArrayLike, p: npt.ArrayLike, n_bins: int = 10) -> float:
    """Expected calibration error, lower is better: mean gap of claimed probability and outcome over bins of equal width.

    Binary: the probability of class 1 against how often class 1 occurs. With C ≥ 3 classes: the largest probability against how often
    that class is right (Guo et al. 2017, https://arxiv.org/abs/1706.04599). It is biased upwards in small samples.

    Args:
        y: Class of each subject `[n]`.
        p: Probability of class 1 `[n]`, or of each class `[n, C]`.
        n_bins: Number of bins.

    Returns:
        A value in [0, 1].

    Raises:
        DataError: If labels and probabilities do not fit, or there is no bin.
    """
    if n_bins < 1:
        raise DataError(f"Expected at least one bin, found n_bins={n_bins}.")
    labels, scores = check_scores(y, p, probabilities=True)
    return float(weighted_calibration_error(labels, scores, np.ones((1, len(labels))), n_bins)[0])


METRICS: dict[str, Metric] = {
    "auroc": auroc,
    "auprc": auprc,
    "balanced_accuracy": balanced_accuracy,
    "brier": brier,
    "expected_calibration_error": expected_calibration_error,
}
LOWER_IS_BETTER = frozenset({"brier", "expected_calibration_error", "physionet2012_event2", "hd95"})


def score_all(y: npt.ArrayLike, p: npt.ArrayLike) -> dict[str, float]:
    """All metrics by name.

    Args:
        y: Class of each subject `[n]`.
        p: Probability of class 1 `[n]`, or of each class `[n, C]`.

    Raises:
        DataError: If labels and probabilities do not fit.
    """
    labels, scores = check_scores(y, p, probabilities=True)
    return {name: metric(labels, scores) for name, metric in METRICS.items()}


def bootstrap_interval(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    metric: str | Metric = "auroc",
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over subjects, drawn within each class (Efron & Tibshirani 1993, chapter 13).

    It speaks of other subjects from the same sites under the same trained model; the spread over sites and over training is not in it.
    Metrics given by name are computed for all resamples at once; a function is called once a resample.

    Args:
        y: Class of each subject `[n]`.
        p: Probability of class 1 `[n]`, or of each class `[n, C]`.
        metric: Name from `METRICS`, or a function of `(y, p)`.
        n_resamples: Number of resamples.
        level: Coverage of the interval.
        groups: Family or repeated scans of each subject `[n]`; whole groups are drawn.
        seed: Seed of the draws.

    Returns:
        The estimate with its interval; NaN throughout where the metric is not defined.

    Raises:
        DataError: If labels and scores do not fit, the metric is unknown, or an argument is out of range.
    """
    labels, scores = check_scores(y, p, probabilities=metric in ("brier", "expected_calibration_error"))
    check_level(level)
    if n_resamples < 1:
        raise DataError(f"Expected at least one resample, found n_resamples={n_resamples}.")
    estimate = float(named_metric(metric)(labels, scores))
    if math.isnan(estimate):
        return Interval(math.nan, math.nan, math.nan, level, len(labels))
    draws = resamples(labels, n_resamples, groups=groups, seed=seed)
    values = np.concatenate([resampled(metric, labels, scores, counts) for counts in draws])
    return Interval(estimate, *percentiles(values, level), level, len(labels))


def resamples(
    y: Labels, n_resamples: int, *, groups: Sequence[Any] | npt.NDArray[Any] | None = None, seed: int = 0
) -> Iterator[npt.NDArray[np.float64]]:
    """How often each subject is drawn, in blocks `[r, n]` of all resamples: the same ones for the same labels, groups and seed.

    Args:
        y: Class of each subject `[n]`.
        n_resamples: Number of resamples.
        groups: Family or repeated scans of each subject `[n]`; whole groups are drawn.
        seed: Seed of the draws.

    Raises:
        DataError: If there is not a group for each subject.
    """
    members = None if groups is None else _group_indices(groups, len(y))
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(y))
    for start in range(0, n_resamples, block):
        yield draw_counts(y, min(block, n_resamples - start), generator, members)


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Mean over folds, sites or seeds with Student's t interval.

    NaN values (folds where a metric is not defined) are left out; `n` counts the others. One value has no interval.
    Folds of one cohort share training subjects, so the interval is somewhat too narrow; differences of methods are tested by
    [`corrected_resampled_t_test`][graphssl.statistics.compare.corrected_resampled_t_test] instead.

    Args:
        values: Values `[k]`.
        level: Coverage of the interval.

    Raises:
        DataError: If the values are not a list of numbers, or the level is out of range.
    """
    check_level(level)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or np.isinf(numbers).any():
        raise DataError(f"Expected a list of finite numbers (or NaN), found shape {numbers.shape} with {int(np.isinf(numbers).sum())} infinite.")
    numbers = numbers[~np.isnan(numbers)]
    n = len(numbers)
    if n < 2:
        return Interval(float(numbers[0]) if n else math.nan, math.nan, math.nan, level, n)
    mean = float(numbers.mean())
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(numbers.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, level, n)


def kept_within(found: _Found, low: float, high: float) -> _Found:
    """What has an interval, with the ends of it no further than the values themselves can lie; ends that are not known stay so.

    Args:
        found: An interval, a comparison or a score.
        low: What no value can be below.
        high: What none can be above.
    """
    return replace(found, low=_nearest(found.low, low, high), high=_nearest(found.high, low, high))


def named_metric(metric: str | Metric) -> Metric:
    """The metric of that name; a function is returned as it is.

    Raises:
        DataError: If no metric has that name.
    """
    if callable(metric):
        return metric
    if metric not in METRICS:
        raise DataError(f"Expected one of the metrics {', '.join(METRICS)}; found {metric!r}.")
    return METRICS[metric]


def resampled(metric: str | Metric, y: Labels, p: Scores, counts: npt.NDArray[np.float64]) -> Scores:
    """The metric in every resample `[R]`, given how often each subject was drawn `[R, n]`."""
    if not callable(metric):
        return WEIGHTED[metric](y, p, counts)
    rows = (np.repeat(np.arange(len(y)), row.astype(np.int64)) for row in counts)
    return np.asarray([metric(y[row], p[row]) for row in rows], dtype=np.float64)


def percentiles(values: Scores, level: float) -> tuple[float, float]:
    """The central interval of that coverage; resamples without a value (NaN) are left out."""
    present = values[~np.isnan(values)]
    if not len(present):
        return math.nan, math.nan
    low, high = np.quantile(present, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def check_level(level: float) -> None:
    """Check the coverage of an interval.

    Raises:
        DataError: If it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise DataError(f"Expected the level of an interval between 0 and 1, such as 0.95; found {level}.")


def _macro(metric: Callable[..., float], y: Labels, p: Scores) -> float:
    if one_class(y):
        return math.nan
    if p.ndim == 1:
        return float(metric(y, p))
    return float(np.mean([metric(y == c, p[:, c]) for c in np.unique(y)]))


def _group_indices(groups: Sequence[Any] | npt.NDArray[Any], n: int) -> npt.NDArray[np.int64]:
    names = np.asarray([str(group) for group in groups])
    if len(names) != n:
        raise DataError(f"Expected a group for each of the {n} subjects, found {len(names)}.")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _nearest(value: float, low: float, high: float) -> float:
    return value if math.isnan(value) else min(max(value, low), high)
