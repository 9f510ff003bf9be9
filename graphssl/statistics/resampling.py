"""Metrics under weights, for many resamples at once.

A bootstrap resample is a row of counts: how often each subject was drawn. Each function takes `counts [R, n]` and returns one value a
row `[R]`; with counts of one it equals the plain metric. Rows in which a metric is not defined give NaN.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from graphssl.statistics.checks import Labels, Scores

Counts = npt.NDArray[np.float64]
WeightedMetric = Callable[[Labels, Scores, Counts], Scores]


def draw_counts(
    y: Labels,
    n_resamples: int,
    generator: np.random.Generator,
    groups: npt.NDArray[np.int64] | None = None,
) -> Counts:
    """How often each subject is drawn `[R, n]`, when subjects of each class are drawn with replacement among themselves.

    With groups (a family, repeated scans) whole groups are drawn, among the groups holding the same classes.

    Args:
        y: Class of each subject `[n]`.
        n_resamples: Number of resamples R.
        generator: Source of randomness.
        groups: Group index of each subject `[n]`, 0 … G-1.
    """
    unit = np.arange(len(y)) if groups is None else groups
    holds = np.zeros((int(unit.max()) + 1, int(y.max()) + 1), dtype=bool)
    holds[unit, y] = True
    stratum = np.unique(holds, axis=0, return_inverse=True)[1].ravel()
    counts = np.zeros((n_resamples, len(holds)))
    for index in range(int(stratum.max()) + 1):
        members = np.flatnonzero(stratum == index)
        drawn = generator.integers(0, len(members), size=(n_resamples, len(members)))
        flat = (drawn + np.arange(n_resamples)[:, None] * len(members)).ravel()
        counts[:, members] = np.bincount(flat, minlength=n_resamples * len(members)).reshape(n_resamples, -1)
    return counts[:, unit]


def weighted_auroc(y: Labels, p: Scores, counts: Counts) -> Scores:
    """Area under the ROC curve (Mann–Whitney, ties count half); macro one-vs-rest over the classes present."""
    return _over_classes(_binary_auroc, y, p, counts)


def weighted_auprc(y: Labels, p: Scores, counts: Counts) -> Scores:
    """Average precision; macro one-vs-rest over the classes present."""
    return _over_classes(_binary_auprc, y, p, counts)


def weighted_balanced_accuracy(y: Labels, p: Scores, counts: Counts) -> Scores:
    """Mean recall over the classes present; binary at threshold 0.5, else by the largest score."""
    recalls = weighted_recalls(y, p, counts)
    return np.mean([recalls[c] for c in np.unique(y)], axis=0)


def weighted_recalls(y: Labels, p: Scores, counts: Counts) -> list[Scores]:
    """Share of each class that is called right; binary at threshold 0.5, else by the largest score."""
    guess = (p > 0.5).astype(np.int64) if p.ndim == 1 else p.argmax(axis=1)
    return [_ratio(counts @ ((y == c) & (guess == c)), counts @ (y == c)) for c in range(2 if p.ndim == 1 else p.shape[1])]


def weighted_mean(values: Scores, counts: Counts) -> Scores:
    """Mean of a number of each subject `[n]`; subjects without one (NaN) are left out."""
    return _ratio(counts @ np.nan_to_num(values), counts @ ~np.isnan(values))


def weighted_brier(y: Labels, p: Scores, counts: Counts) -> Scores:
    """Mean squared distance of the probabilities to the outcome."""
    return _ratio(counts @ brier_losses(y, p), counts.sum(axis=1))


def weighted_calibration_error(y: Labels, p: Scores, counts: Counts, n_bins: int = 10) -> Scores:
    """Expected calibration error over bins of equal width."""
    confidence, outcome = calibration_pairs(y, p)
    member = np.eye(n_bins)[np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)]
    gaps = np.abs(counts @ (member * (confidence - outcome)[:, None]))
    return _ratio(gaps.sum(axis=1), counts.sum(axis=1))


def brier_losses(y: Labels, p: Scores) -> Scores:
    """Squared distance to the outcome of each subject `[n]`; with more than two classes summed over them (Brier 1950)."""
    return (p - y) ** 2 if p.ndim == 1 else ((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1)


def calibration_pairs(y: Labels, p: Scores) -> tuple[Scores, Scores]:
    """Claimed probability and outcome of each subject `[n]`: class 1 in a binary task, else the class with the largest probability."""
    if p.ndim == 1:
        return np.clip(p, 0.0, 1.0), y.astype(np.float64)
    return np.clip(p.max(axis=1), 0.0, 1.0), (p.argmax(axis=1) == y).astype(np.float64)


WEIGHTED: dict[str, WeightedMetric] = {
    "auroc": weighted_auroc,
    "auprc": weighted_auprc,
    "balanced_accuracy": weighted_balanced_accuracy,
    "brier": weighted_brier,
    "expected_calibration_error": weighted_calibration_error,
}


def _over_classes(metric: Callable[[npt.NDArray[np.bool_], Scores, Counts], Scores], y: Labels, p: Scores, counts: Counts) -> Scores:
    if p.ndim == 1:
        return metric(y == 1, p, counts)
    return np.mean([metric(y == c, p[:, c], counts) for c in np.unique(y)], axis=0)


def _binary_auroc(positive: npt.NDArray[np.bool_], score: Scores, counts: Counts) -> Scores:
    drawn, drawn_negative = _by_score(positive, score, counts)
    below = np.cumsum(drawn_negative, axis=1) - drawn_negative
    wins = (drawn * (below + drawn_negative / 2)).sum(axis=1)
    return _ratio(wins, drawn.sum(axis=1) * drawn_negative.sum(axis=1))


def _binary_auprc(positive: npt.NDArray[np.bool_], score: Scores, counts: Counts) -> Scores:
    drawn, drawn_negative = _by_score(positive, -score, counts)
    hits = np.cumsum(drawn, axis=1)
    called = hits + np.cumsum(drawn_negative, axis=1)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return _ratio((drawn * precision).sum(axis=1), drawn.sum(axis=1))


def _by_score(positive: npt.NDArray[np.bool_], score: Scores, counts: Counts) -> tuple[Counts, Counts]:
    """Positives and negatives drawn at each distinct score `[R, k]`, in rising order of the score."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(score[order]) > 0]))
    ordered, positive = counts[:, order], positive[order]
    return np.add.reduceat(ordered * positive, starts, axis=1), np.add.reduceat(ordered * ~positive, starts, axis=1)


def _ratio(above: Scores, below: Scores) -> Scores:
    return np.divide(above, below, out=np.full_like(above, np.nan, dtype=np.float64), where=below > 0)
