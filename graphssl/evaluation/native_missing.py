"""Columns for models that know what to do with a missing value."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from graphssl.data.cohort import Cohort
from graphssl.data.transforms import ColumnEncoder


class NativeMissing(TransformerMixin, BaseEstimator):
    """The features of `ColumnEncoder` with NaN for a number that was not measured, in place of the training mean and a mark.

    Attributes:
        encoder_: Fitted `ColumnEncoder`.
        measured_: Which features had a value in a training subject `[F]`; the others are left out, for trees cannot be cut there.
    """

    def fit(self, X: Cohort, y: object = None) -> Self:
        """Learn scales and categories from training subjects."""
        self.encoder_ = ColumnEncoder().fit(X)
        self.measured_ = ~np.isnan(self._values(X)).all(axis=0)
        return self

    def transform(self, X: Cohort) -> npt.NDArray[Any]:
        """Features `[n, F]`; a number is one column, a category one column each, with one for unknown and one for missing."""
        return np.asarray(self._values(X)[:, self.measured_])

    def _values(self, X: Cohort) -> npt.NDArray[Any]:
        values, blocks, place = self.encoder_.transform(X), [], 0
        for column in self.encoder_.columns_:
            if column.kind == "continuous":
                number, missing = values[:, place], values[:, place + 1] == 1
                blocks.append(np.where(missing, np.nan, number)[:, None])
                place += 2
            else:
                width = len(self.encoder_.categories_[column.name]) + 2
                blocks.append(values[:, place : place + width])
                place += width
        return np.concatenate(blocks, axis=1)
