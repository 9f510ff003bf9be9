"""How far classes lie apart in an embedding, whatever classifier reads it."""

import itertools

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from graphssl.errors import DataError


def bhattacharyya(features: npt.ArrayLike, y: npt.ArrayLike, *, n_components: int = 8) -> float:
    """Bhattacharyya distance of the classes, taken for Gaussian in the leading principal components; the mean over pairs of classes.

    Errors of two Gaussian classes are bounded by `sqrt(prior ratio) * exp(-distance)`, the rare class's the higher one (Bhattacharyya 1943), so what
    raises the distance helps the rare class most (Zhang, Zheng & Gu, arXiv 2209.12157). Covariances are shrunk (Ledoit & Wolf 2004). With few
    subjects of a class the distance is too large: compare encoders of one width on the same subjects.

    Args:
        features: Embedding of each subject `[n, P]`.
        y: Class of each `[n]`.
        n_components: Principal components to take; fewer where the smallest class has fewer subjects.

    Returns:
        The distance, from 0; NaN where fewer than two classes have two subjects.

    Raises:
        DataError: If features and classes do not fit, or are not finite.
    """
    values, labels = np.asarray(features, dtype=np.float64), np.asarray(y)
    if values.ndim != 2 or len(values) != len(labels) or not np.isfinite(values).all():
        raise DataError(f"Expected finite features [n, P] with a class each, found {values.shape} and {labels.shape}.")
    known, counts = np.unique(labels, return_counts=True)
    known, counts = known[counts > 1], counts[counts > 1]
    if len(known) < 2:
        return float("nan")
    leading = _leading(values, min(n_components, int(counts.min())))
    described = [_gaussian(leading[labels == label]) for label in known]
    return float(np.mean([_distance(*one, *other) for one, other in itertools.combinations(described, 2)]))


def _leading(values: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    """Scores of the leading principal components that vary at all, each of unit spread; zeros where none does."""
    left, spread, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    varies = spread[:n] > 1e-8 * max(float(np.abs(values).max()), float(spread[0]))
    return np.asarray(left[:, :n] * varies * np.sqrt(len(values)))


def _gaussian(rows: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return rows.mean(axis=0), LedoitWolf().fit(rows).covariance_ + 1e-9 * np.eye(rows.shape[1])


def _distance(
    mean: npt.NDArray[np.float64], covariance: npt.NDArray[np.float64], other_mean: npt.NDArray[np.float64], other: npt.NDArray[np.float64]
) -> float:
    between, apart = (covariance + other) / 2, mean - other_mean
    logs = [np.linalg.slogdet(matrix)[1] for matrix in (between, covariance, other)]
    return float(apart @ np.linalg.solve(between, apart) / 8 + (logs[0] - (logs[1] + logs[2]) / 2) / 2)
