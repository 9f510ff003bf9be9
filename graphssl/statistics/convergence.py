"""How fast a training gets where it goes: curves of a validation score by step or epoch.

Kalapos & Gyires-Tóth, ECCV workshops 2022 (arXiv 2209.00314) compare pre-training paths by these.
"""

import math

import numpy as np
import numpy.typing as npt

from graphssl.errors import DataError


def time_to(at: npt.ArrayLike, scores: npt.ArrayLike, level: float) -> float:
    """When a curve first reaches a level, NaN where it never does.

    Args:
        at: Step or epoch of each score `[k]`, rising.
        scores: Validation score `[k]`, higher is better.
        level: The level, such as 95 % of the best score of a reference.

    Raises:
        DataError: If it is no curve.
    """
    when, values = _curve(at, scores)
    reached = np.flatnonzero(values >= level)
    return float(when[reached[0]]) if len(reached) else math.nan


def mean_height(at: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under a curve by trapezia, divided by its length: the score that a training has on average on its way.

    Args:
        at: Step or epoch of each score `[k]`, rising.
        scores: Validation score `[k]`.

    Raises:
        DataError: If it is no curve.
    """
    when, values = _curve(at, scores)
    return float(np.trapezoid(values, when) / (when[-1] - when[0])) if len(when) > 1 else float(values[0])


def late_spread(scores: npt.ArrayLike, last: int = 5) -> float:
    """Standard deviation of the last scores of a curve: how stable it is at its end; NaN of fewer than two.

    Args:
        scores: Validation score by step or epoch `[k]`.
        last: How many to look at.

    Raises:
        DataError: If it is no curve.
    """
    _, values = _curve(np.arange(np.size(scores)), scores)
    late = values[-last:]
    return float(late.std(ddof=1)) if len(late) > 1 else math.nan


def _curve(at: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    when, values = np.asarray(at, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if when.ndim != 1 or when.shape != values.shape or not len(when) or not np.isfinite(values).all() or (np.diff(when) <= 0).any():
        raise DataError(f"Expected a curve of finite scores at rising steps, found {when.shape} steps and {values.shape} scores.")
    return when, values
