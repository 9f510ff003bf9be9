"""Values of many codes on one scale: normal scores, learned from training subjects."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from graphssl.errors import DataError

N_QUANTILES = 1000


class NormalScores:
    """A value as the normal quantile of its rank among the training subjects' values of the same code.

    Ranks do not care for units or for a misplaced decimal point, which standard deviations do; laboratory values lose their long tails. Equal values
    share their middle rank. Beyond the training subjects' range a score ends at ±3.3.

    Args:
        codes: Names of the codes `[V]`.

    Attributes:
        quantiles_: Quantiles of each code's training values `[V, 1000]`.
    """

    def __init__(self, codes: Sequence[str]) -> None:
        self.codes = tuple(codes)

    def fit(self, places: npt.NDArray[np.int64], values: npt.NDArray[np.floating]) -> "NormalScores":
        """Learn from training subjects.

        Args:
            places: Place of each value's code in `codes` `[n]`.
            values: The values `[n]`.

        Raises:
            DataError: If a code has no value, or a value is not finite.
        """
        counts = np.bincount(places, minlength=len(self.codes))
        if not counts.all():
            raise DataError(f"Expected a value of every code, found none of {self.codes[int(np.argmin(counts))]!r}. Leave the code out.")
        odd = ~np.isfinite(values)
        if odd.any():
            raise DataError(f"Expected finite values, found {values[odd][0]} of {self.codes[int(places[odd][0])]!r}. Mend it, or leave it out.")
        parts = np.split(values[np.argsort(places, kind="stable")].astype(np.float64), np.cumsum(counts)[:-1])
        self.quantiles_ = np.zeros((len(self.codes), N_QUANTILES))
        for code, part in zip(range(len(self.codes)), parts, strict=False):  # without a code there is a part without values
            self.quantiles_[code] = np.quantile(part, _LEVELS)
        return self

    def transform(self, places: npt.NDArray[np.int64], values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Scores of values of known codes `[n]`."""
        scores = np.zeros(len(values), dtype=np.float32)
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places, minlength=len(self.codes)))
        for quantiles, rows in zip(self.quantiles_, np.split(order, ends[:-1]), strict=False):
            scores[rows] = ndtri(np.clip(_ranks(values[rows].astype(np.float64), quantiles), _TAIL, 1 - _TAIL))
        return scores


def _ranks(values: npt.NDArray[np.float64], quantiles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Middle of the share of values below and of that of values not above."""
    from_below = np.interp(values, quantiles, _LEVELS)
    from_above = 1 - np.interp(-values, -quantiles[::-1], _LEVELS)
    return np.asarray((from_below + from_above) / 2)


_LEVELS = np.linspace(0.0, 1.0, N_QUANTILES)
_TAIL = 5e-4
