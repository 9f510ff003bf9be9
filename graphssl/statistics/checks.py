"""Checks of labels and scores, shared by the metrics and the tests."""

from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.errors import DataError

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

_TOLERANCE = 1e-3


def check_scores(y: npt.ArrayLike, p: npt.ArrayLike, *, probabilities: bool = False) -> tuple[Labels, Scores]:
    """Labels and scores as arrays of one length; two columns of a binary task become the column of class 1.

    Args:
        y: Class of each subject `[n]`: 0 or 1, or 0 … C-1 where `p` has C columns.
        p: Score of class 1 `[n]`, or a score a class `[n, C]`.
        probabilities: Whether the scores must be probabilities.

    Returns:
        `y` as integers `[n]`, and `p` as `[n]` (binary) or `[n, C]` with C ≥ 3.

    Raises:
        DataError: If lengths differ or are zero, a score is not finite (or not a probability), or a label is not a class index.
    """
    labels, scores = np.asarray(y), _as_numbers(p)
    if labels.ndim != 1 or scores.ndim not in (1, 2) or len(labels) != len(scores) or (scores.ndim == 2 and scores.shape[1] < 2):
        raise DataError(
            f"Expected labels [n] and scores [n] or [n, classes] of the same subjects, found shapes {labels.shape} and {scores.shape}. "
            "Score the subjects that have a label, in the same order."
        )
    if len(labels) == 0:
        raise DataError("Expected at least one subject to score, found none.")
    if not np.isfinite(scores).all():
        n_bad = int((~np.isfinite(scores)).reshape(len(scores), -1).any(axis=1).sum())
        raise DataError(
            f"Expected finite scores, found NaN or infinite ones for {n_bad} of {len(scores)} subjects. The model that gave them diverged: "
            "look for values far from all others (graphssl validate), or lower its learning rate."
        )
    if probabilities:
        _check_probabilities(scores)
    n_classes = 2 if scores.ndim == 1 else scores.shape[1]
    return _class_indices(labels, n_classes), scores[:, 1] if scores.ndim == 2 and n_classes == 2 else scores


def one_class(y: Labels) -> bool:
    """Whether all subjects are of one class, so that there is nothing to rank."""
    return bool((y == y[0]).all())


def _as_numbers(p: npt.ArrayLike) -> Scores:
    try:
        return np.asarray(p, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"Expected scores as numbers, found {np.asarray(p, dtype=object).ravel()[:3].tolist()}.") from error


def _class_indices(labels: npt.NDArray[Any], n_classes: int) -> Labels:
    odd = [value for value in np.unique(labels.astype(str)).tolist() if not _is_index(value, n_classes)]
    if odd:
        raise DataError(
            f"Expected class indices 0 to {n_classes - 1} as labels, found {odd[:5]}. Give the index of each class; "
            "leave subjects without a label (-1) out of the scores."
        )
    return labels.astype(np.float64).astype(np.int64)


def _is_index(value: str, n_classes: int) -> bool:
    try:
        number = {"True": 1.0, "False": 0.0}.get(value) if value in ("True", "False") else float(value)
    except ValueError:
        return False
    return number in range(n_classes)


def _check_probabilities(scores: Scores) -> None:
    low, high = float(scores.min()), float(scores.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise DataError(
            f"Expected probabilities within 0 to 1, found {low:.3g} to {high:.3g}. Turn scores into probabilities first (sigmoid or softmax)."
        )
    sums = scores.sum(axis=1) if scores.ndim == 2 else np.ones(1)
    if np.abs(sums - 1).max() > _TOLERANCE:
        raise DataError(f"Expected probabilities that sum to 1 over the classes, found sums from {sums.min():.3g} to {sums.max():.3g}.")
