"""How error falls with size: a power law with what no size will remove."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphssl.errors import DataError
from graphssl.statistics.metrics import Interval, check_level, percentiles

Numbers = npt.NDArray[np.float64]

_EXPONENTS = np.linspace(0.01, 3.0, 300)
_FINER = 41


@dataclass(frozen=True)
class PowerLaw:
    """`error = a * size^-b + c`, each number with a percentile bootstrap interval.

    Attributes:
        a: Error above the floor at size one.
        b: Exponent: how fast error falls.
        c: Floor.
        n_sizes: Different sizes.
        n_values: Errors that it was fitted to.
    """

    a: Interval
    b: Interval
    c: Interval
    n_sizes: int
    n_values: int

    def __call__(self, size: npt.ArrayLike) -> Numbers:
        """The error at sizes."""
        return np.asarray(self.a.estimate * np.asarray(size, dtype=np.float64) ** -self.b.estimate + self.c.estimate)


def fit_power_law(sizes: Sequence[float], errors: Sequence[float], *, n_resamples: int = 500, level: float = 0.95, seed: int = 0) -> PowerLaw:
    """Fit `a * size^-b + c` with `a` and `c` from zero by least squares; draw errors anew within each size for the intervals.

    For each exponent the two others have a closed form; the exponent is searched from 0.01 to 3. Where error does not fall the law is flat: `a` is 0
    and `b` says nothing. The intervals speak of other draws of subjects and seeds, not of other sizes: with few sizes the three numbers trade for one
    another, and the intervals are wide.

    Args:
        sizes: Size of each run `[n]`, such as training subjects, above 0.
        errors: Its error `[n]`, such as one minus the AUROC.
        n_resamples: Bootstrap resamples.
        level: Coverage of the intervals.
        seed: Seed of the draws.

    Returns:
        The law; intervals are NaN where each size has one error.

    Raises:
        DataError: If there are fewer than three sizes, or a size or an error is no number that can be fitted.
    """
    check_level(level)
    size, error = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    known = np.unique(size)
    if size.ndim != 1 or size.shape != error.shape or not np.isfinite(error).all() or len(known) < 3 or not (known > 0).all():
        raise DataError(
            f"Expected finite errors at three sizes above 0 or more to fit a power law, found {len(error)} errors at {len(known)} sizes. "
            "Run more sizes."
        )
    estimate = _fitted(size, error[None])[0]
    ends = [(math.nan, math.nan)] * 3
    if len(known) < len(size):
        generator, order = np.random.default_rng(seed), np.argsort(size, kind="stable")
        drawn = [_drawn(error[size == each], n_resamples, generator) for each in known]
        ends = [percentiles(values, level) for values in _fitted(size[order], np.concatenate(drawn, axis=1)).T]
    a, b, c = (Interval(float(value), *end, level, len(size)) for value, end in zip(estimate, ends, strict=True))
    return PowerLaw(a, b, c, len(known), len(size))


def _drawn(values: Numbers, n_resamples: int, generator: np.random.Generator) -> Numbers:
    """Errors of one size drawn anew; few draws spread too little, by the factor that an unbiased variance makes up for."""
    n, mean = len(values), values.mean()
    drawn = values[generator.integers(0, n, size=(n_resamples, n))]
    return np.asarray(mean + (drawn - mean) * math.sqrt(n / max(1, n - 1)))


def _fitted(size: Numbers, errors: Numbers) -> Numbers:
    """`a`, `b` and `c` `[R, 3]` of each row of errors `[R, n]`."""
    coarse = _best(size, errors, np.broadcast_to(_EXPONENTS, (len(errors), len(_EXPONENTS))))
    step = _EXPONENTS[1] - _EXPONENTS[0]
    around = coarse[:, 1:2] + np.linspace(-step, step, _FINER)
    return _best(size, errors, np.clip(around, _EXPONENTS[0] / 2, None))


def _best(size: Numbers, errors: Numbers, exponents: Numbers) -> Numbers:
    """The best of some exponents `[R, K]` for each row of errors, with its `a` and `c`."""
    basis = np.exp(-exponents[..., None] * np.log(size))  # R K n
    mean_x, mean_y = basis.mean(axis=-1), errors.mean(axis=-1, keepdims=True)
    varied = ((basis - mean_x[..., None]) * (errors - mean_y)[:, None]).sum(axis=-1)
    slope = np.maximum(varied / ((basis - mean_x[..., None]) ** 2).sum(axis=-1), 0.0)
    floor = mean_y - slope * mean_x
    through_zero = np.maximum((basis * errors[:, None]).sum(axis=-1) / (basis**2).sum(axis=-1), 0.0)
    slope, floor = np.where(floor < 0, through_zero, slope), np.maximum(floor, 0.0)
    left = ((errors[:, None] - slope[..., None] * basis - floor[..., None]) ** 2).sum(axis=-1)
    rows, chosen = np.arange(len(errors)), left.argmin(axis=-1)
    return np.stack([slope[rows, chosen], exponents[rows, chosen], floor[rows, chosen]], axis=-1)
